"""What loading a model gives, and what was asked for."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from relprop.zoo.preprocessing import Preprocessing


@dataclass(frozen=True)
class LoadedModel:
    """A classifier in eval mode, how photos become its input, and what its classes are called.

    Attributes:
        model: maps a preprocessed batch to logits ``(B, C)``.
        preprocessing: the model's own, from its config.
        labels: one per class, synonyms separated by commas; None where they are not known.
        name: as it was asked for.
        notes: what a user should know about this model.
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
