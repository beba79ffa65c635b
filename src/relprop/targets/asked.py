"""What a target asks of the output of one batch: per map, weights of the output and the class that they stand for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Head:
    """What is known of the output.

    Attributes:
        labels: The names of the classes.
        activation: What makes probabilities of the logits, see :mod:`relprop.heads`.
        channel_dim: The dimension of the channels, where the output is one of inner units.
    """

    labels: Sequence[str] | None = None
    activation: str | None = None
    channel_dim: int = 1


@dataclass(frozen=True)
class Aim:
    """The explained number of every sample: ``Σ weights · output``.

    Attributes:
        weights: ``(B, …)``, shaped like the output.
        classes: The class of each sample, ``(B,)``, where the other classes of the output compete with it; else None.
        class_dim: The dimension of the output in which the classes stand.
        kind: Whether the output holds logits of classes, of labels with a sigmoid each, or numbers without probabilities.
    """

    weights: Tensor
    classes: Tensor | None = None
    class_dim: int = 1
    kind: Literal["class", "label", "number"] = "class"

    def value(self, output: Tensor) -> Tensor:
        """Return the explained number of every sample, ``(B,)``."""
        return (output * self.weights).reshape(len(output), -1).sum(1)

    def rows(self, chosen: slice) -> Self:
        """Return the aim of some samples."""
        return replace(self, weights=self.weights[chosen], classes=None if self.classes is None else self.classes[chosen])

    def sample(self, index: int) -> Self:
        """Return the aim of one sample."""
        return self.rows(slice(index, index + 1))


@dataclass(frozen=True)
class Asked:
    """A target set against the outputs of a batch.

    Attributes:
        aims: One for every map of a sample.
        several: Whether maps have a dimension of their own.
        target: The classes that are explained, ``(B,)`` or ``(B, K)``, where the output is ``(B, C)``; else None.
        words: What is explained, in words: one text per sample.
        places: Whether the target names places in the output.
    """

    aims: tuple[Aim, ...]
    several: bool = False
    target: Tensor | None = None
    words: tuple[str, ...] = ()
    places: bool = False

    @property
    def kind(self) -> str:
        """The kind of the aims."""
        return self.aims[0].kind

    def rows(self, chosen: slice) -> Self:
        """Return what is asked of some samples."""
        target = None if self.target is None else self.target[chosen]
        return replace(self, aims=tuple(aim.rows(chosen) for aim in self.aims), target=target, words=self.words[chosen])

    def values(self, output: Tensor) -> Tensor:
        """Return the explained numbers, ``(B,)`` or ``(B, K)``."""
        found = [aim.value(output) for aim in self.aims]
        return torch.stack(found, 1) if self.several else found[0]
