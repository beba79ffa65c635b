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
from relprop.errors import OptionError, TargetError
from relprop.explainer import Captured, Explainer, MethodChoice
from relprop.explanation import Explanation
from relprop.heads import check_activation
from relprop.methods import choose_method
from relprop.targets import Target, Top, parse_target, read_target
from relprop.tiling import Tiled
from relprop.zoo import LoadedModel, Own, adapted, load


@dataclass(frozen=True)
class Tiles:
    """How a whole photo is cut into tiles of the model's input size.

    Attributes:
        count: Tiles along the shorter side, to which the photo is resized.
        overlap: The share of a tile that neighbors have in common at least.
    """

    count: int
    overlap: float

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 0.9:
            raise OptionError(f"--overlap is a share of a tile from 0 to 0.9, not {self.overlap:g}.")


@dataclass
class Classifier:
    """A loaded model on its device, and the classes that the user asked for; with ``tiles`` it sees whole photos, tile by tile."""

    loaded: LoadedModel
    targets: tuple[int | Top | Target, ...]
    device: torch.device
    tiles: Tiles | None = None

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
        """Return the part of a photo that the model sees, and the model's input ``(1, C, H, W)``; with tiles all of the photo."""
        if self.tiles is None:
            return self.loaded.prepare(image, self.device)
        whole = self.loaded.preprocessing.spread(image, self.tiles.count, self.tiles.overlap)
        return whole, self.loaded.preprocessing.normalize(whole)[None].to(self.device)

    def explain(
        self, explainer: Explainer, inputs: Tensor, target: object, layers: Sequence[str] = (), *, batch_size: int = 8
    ) -> tuple[Explanation[Tensor], Tiled | None]:
        """Return the explanation of a prepared photo, and what its tiles say, where there are tiles."""
        if self.tiles is None:
            return explainer(inputs, target, layers=layers), None
        tiled = explainer.tiled(inputs, target, overlap=self.tiles.overlap, batch_size=batch_size)
        return tiled.explanation, tiled

    def target(self, explainer: Explainer, inputs: Tensor) -> int | str | Tensor | Target | None:
        """Return None for the predicted class, a class, ``(1, K)`` classes, ``"top:K"`` of tiles, or another target.

        Raises:
            TargetError: Of tiles, ``top:K`` beside other classes.
        """
        if not self.targets:
            return None
        if isinstance(self.targets[0], Target):
            return self.targets[0]
        ranked_tiles = [target for target in self.targets if isinstance(target, Top)] if self.tiles else []
        if ranked_tiles:
            if len(self.targets) > 1:
                raise TargetError("With --tiles, top:K stands alone; name classes, or top:K without others.")
            return f"top:{ranked_tiles[0].count}"
        ranks = any(isinstance(target, Top) for target in self.targets)
        ranked = explainer.logits(inputs)[0].argsort(descending=True).tolist() if ranks else []
        listed = [ranked[: target.count] if isinstance(target, Top) else [target] for target in self.targets]
        classes = list(dict.fromkeys(index for part in listed for index in part))
        return classes[0] if len(classes) == 1 else torch.tensor([classes])

    def against(self, explainer: Explainer, inputs: Tensor, target: int | str | Tensor | Target | None, rival: str) -> Tensor:
        """Return the explained class and its rival, ``(1, 2)``: a class, or the most probable other one for ``"runner-up"``.

        Raises:
            TargetError: Several classes are explained, the rival is the class itself or unknown, or there is no other class.
        """
        if isinstance(target, Target):
            raise TargetError(
                "--against sets one class against a rival, and --target names no class; write --target contrast:A,B."
            )
        if isinstance(target, Tensor | str):
            number = target.numel() if isinstance(target, Tensor) else target
            raise TargetError(f"--against sets one class against a rival, and --target names {number}.")
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
        found = read_targets(targets, loaded.labels)
        loaded.model.to(device)
    return Classifier(loaded, found, device)


def read_targets(texts: Sequence[str], labels: Sequence[str] | None) -> tuple[int | Top | Target, ...]:
    """Read targets: any number of classes, or one of another kind.

    Raises:
        TargetError: A target that cannot be read, or one of another kind beside others.
    """
    found = [read_target(text, labels) for text in texts]
    others = [text for text, target in zip(texts, found, strict=True) if isinstance(target, Target)]
    if others and len(found) > 1:
        raise TargetError(f"The target {others[0]!r} has one map of its own; give it alone.")
    return tuple(target if isinstance(target, Target) else parse_target(str(target), labels) for target in found)
