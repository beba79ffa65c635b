"""From names on the command line to a model, its input and the classes to explain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.markup import escape
from torch import Tensor

from relprop.cli.terminal import err
from relprop.errors import TargetError
from relprop.explainer import Captured, Explainer, MethodChoice
from relprop.heads import check_activation
from relprop.methods import choose_method
from relprop.targets import Target, Top, parse_target, read_target
from relprop.zoo import LoadedModel, Own, adapted, load


@dataclass
class Classifier:
    """A loaded model on its device, and the classes that the user asked for."""

    loaded: LoadedModel
    targets: tuple[int | Top | Target, ...]
    device: torch.device

    @cached_property
    def captured(self) -> Captured:
        """The captured model, for all methods.

        Raises:
            InputError: There are class names, of another number than the model's classes.
        """
        return self.loaded.capture(self.device)

    def explainer(self, method: MethodChoice, options: Mapping[str, Any]) -> Explainer:
        """Return the model's explainer by a method."""
        chosen = choose_method(method, options)  # before the capture, which takes longer than to find a wrong option
        return self.captured.explainer(chosen)

    def prepare(self, image: Image.Image) -> tuple[Image.Image, Tensor]:
        """Return the part of a photo that the model sees, and the model's input ``(1, C, H, W)``."""
        return self.loaded.prepare(image, self.device)

    def target(self, explainer: Explainer, inputs: Tensor) -> int | Tensor | Target | None:
        """Return None for the predicted class, a class, ``(1, K)`` classes, or another target."""
        if not self.targets:
            return None
        if isinstance(self.targets[0], Target):
            return self.targets[0]
        ranks = any(isinstance(target, Top) for target in self.targets)
        ranked = explainer.logits(inputs)[0].argsort(descending=True).tolist() if ranks else []
        listed = [ranked[: target.count] if isinstance(target, Top) else [target] for target in self.targets]
        classes = list(dict.fromkeys(index for part in listed for index in part))
        return classes[0] if len(classes) == 1 else torch.tensor([classes])

    def against(self, explainer: Explainer, inputs: Tensor, target: int | Tensor | Target | None, rival: str) -> Tensor:
        """Return the explained class and its rival, ``(1, 2)``: a class, or the most probable other one for ``"runner-up"``.

        Raises:
            TargetError: Several classes are explained, the rival is the class itself or unknown, or there is no other class.
        """
        if isinstance(target, Target):
            raise TargetError(
                "--against sets one class against a rival, and --target names no class; write --target contrast:A,B."
            )
        if isinstance(target, Tensor):
            raise TargetError(f"--against sets one class against a rival, and --target names {target.numel()}.")
        ranked = explainer.logits(inputs)[0].argsort(descending=True).tolist()
        chosen = ranked[0] if target is None else target
        others = [index for index in ranked if index != chosen]
        if not others:
            raise TargetError("--against needs a model of several classes.")
        other = others[0] if rival == "runner-up" else parse_target(rival, self.loaded.labels)
        if other == chosen or isinstance(other, Top):
            raise TargetError(f"--against {rival} names no class other than the explained one; write runner-up or a class.")
        return torch.tensor([[chosen, other]])


def load_classifier(name: str, weights: Path | None, targets: Sequence[str], device: torch.device, own: Own) -> Classifier:
    """Load a model by name, with the user's word on it, and look up the targets among its classes.

    Raises:
        OptionError: An unknown activation, or another option of the user's that cannot be used.
    """
    check_activation(own.activation)
    with err.status(f"Loading {escape(name)} …"):
        loaded = adapted(load(name, weights), own)
        found = _read(targets, loaded.labels)
        loaded.model.to(device)
    return Classifier(loaded, found, device)


def _read(texts: Sequence[str], labels: Sequence[str] | None) -> tuple[int | Top | Target, ...]:
    """Read targets: any number of classes, or one of another kind.

    Raises:
        TargetError: A target that cannot be read, or one of another kind beside others.
    """
    found = [read_target(text, labels) for text in texts]
    others = [text for text, target in zip(texts, found, strict=True) if isinstance(target, Target)]
    if others and len(found) > 1:
        raise TargetError(f"The target {others[0]!r} has one map of its own; give it alone.")
    return tuple(target if isinstance(target, Target) else parse_target(str(target), labels) for target in found)
