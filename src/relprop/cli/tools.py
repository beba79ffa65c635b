"""From names on the command line to a model, its input and the classes to explain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from relprop.cli.terminal import err
from relprop.explainer import Captured, Explainer, MethodChoice, capture
from relprop.methods import choose_method
from relprop.zoo import LoadedModel, Top, load, parse_target


@dataclass
class Classifier:
    """A loaded model on its device, and the classes that the user asked for."""

    loaded: LoadedModel
    targets: tuple[int | Top, ...]
    device: torch.device

    @cached_property
    def captured(self) -> Captured:
        """The captured model, for all methods."""
        return capture(self.loaded.model, self.loaded.preprocessing.zeros(self.device))

    def explainer(self, method: MethodChoice, options: Mapping[str, Any]) -> Explainer:
        """Return the model's explainer by a method."""
        chosen = choose_method(method, options)  # before the capture, which takes longer than to find a wrong option
        return self.captured.explainer(chosen)

    def prepare(self, image: Image.Image) -> tuple[Image.Image, Tensor]:
        """Return the part of a photo that the model sees, and the model's input ``(1, C, H, W)``."""
        cropped = self.loaded.preprocessing.crop(image)
        return cropped, self.loaded.preprocessing.normalize(cropped)[None].to(self.device)

    def target(self, explainer: Explainer, inputs: Tensor) -> int | Tensor | None:
        """Return None for the predicted class, a class, or ``(1, K)`` classes."""
        if not self.targets:
            return None
        ranks = any(isinstance(target, Top) for target in self.targets)
        ranked = explainer.logits(inputs)[0].argsort(descending=True).tolist() if ranks else []
        listed = [ranked[: target.count] if isinstance(target, Top) else [target] for target in self.targets]
        classes = list(dict.fromkeys(index for part in listed for index in part))
        return classes[0] if len(classes) == 1 else torch.tensor([classes])


def load_classifier(name: str, weights: Path | None, targets: Sequence[str], device: torch.device) -> Classifier:
    """Load a model by name and look up the targets among its classes."""
    with err.status(f"Loading {name} …"):
        loaded = load(name, weights)
        found = tuple(parse_target(text, loaded.labels) for text in targets)
        loaded.model.to(device)
    return Classifier(loaded, found, device)
