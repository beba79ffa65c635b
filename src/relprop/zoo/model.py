"""The request for a model, and the loaded model."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from relprop.explainer import Captured, capture
from relprop.text import counted
from relprop.zoo.preprocessing import Preprocessing
from relprop.zoo.weights import Weights


@dataclass(frozen=True, repr=False)
class LoadedModel:
    """A classifier in eval mode, its preprocessing and its class names.

    Attributes:
        model: Maps a preprocessed batch to logits ``(B, C)``.
        preprocessing: The model's own, from its config.
        labels: One per class, synonyms separated by commas; None if they are unknown.
        name: The requested name.
        notes: Remarks on the model for the user.
        activation: What makes probabilities of its logits, where its config says so, see :mod:`relprop.heads`.
        disconnected: Cell → the classifier that reads it, of a mosaic whose cells are disconnected; None for all other models.
        output: Which of several tensors that it returns is explained, see :func:`relprop.capture`.
    """

    model: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    name: str
    notes: tuple[str, ...] = ()
    activation: str | None = None
    disconnected: Callable[[int], nn.Module] | None = None
    output: str | None = None

    def __repr__(self) -> str:
        """Return one line: the name, the class of the model, its input size and the number of class names."""
        size = "×".join(map(str, self.preprocessing.size))
        names = "no class names" if self.labels is None else counted(len(self.labels), "class name")
        return f"LoadedModel({self.name!r}, {type(self.model).__name__}, {size} pixels, {names})"

    def capture(self, device: torch.device | str = "cpu") -> Captured:
        """Return the captured model, with its output, activation and class names, for explainers by any methods.

        Args:
            device: Where the model is.

        Raises:
            CaptureError: The model cannot be captured.
            InputError: There are class names, of another number than the model's classes.
        """
        example = self.preprocessing.zeros(device)
        return capture(self.model, example, output=self.output, activation=self.activation, labels=self.labels)

    def prepare(self, image: Image.Image, device: torch.device | str = "cpu") -> tuple[Image.Image, Tensor]:
        """Return the part of a photo that the model sees, and the model's input ``(1, C, H, W)``."""
        cropped = self.preprocessing.crop(image)
        return cropped, self.preprocessing.normalize(cropped)[None].to(device)


@dataclass(frozen=True)
class Request:
    """A requested model: ``rest`` is the name without its source; the weights are random if ``pretrained`` is False."""

    name: str
    rest: str
    weights: Weights | None
    pretrained: bool
