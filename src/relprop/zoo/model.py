"""What loading a model gives, and what was asked for."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from relprop.zoo.preprocessing import Preprocessing


@dataclass(frozen=True)
class LoadedModel:
    """A classifier in eval mode, how photos become its input, and what its classes are called.

    Attributes:
        model: Maps a preprocessed batch to logits ``(B, C)``.
        preprocessing: The model's own, from its config.
        labels: One per class, synonyms separated by commas; None where they are not known.
        name: As it was asked for.
        notes: What a user should know about this model.
    """

    model: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    name: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """A model by name: ``rest`` is the name without its source; random weights where ``pretrained`` is off."""

    name: str
    rest: str
    weights: Path | None
    pretrained: bool
