"""Photos that are explained in one batch: of one size and one kind of target, as many as the user said."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relprop.cli.items import Item
from relprop.explainer import Explainer
from relprop.explanation import Explanation
from relprop.targets import Target

_WAITING = 4
"""The most photos that wait for others of their kind, in batches."""


@dataclass(frozen=True)
class Ready:
    """A photo as the model takes it, ``(1, C, H, W)``, what was done to get there, and the size and time of its file."""

    inputs: Tensor
    notes: tuple[str, ...]
    stamp: list[int]


@dataclass(frozen=True)
class Asked:
    """A photo that was read, and what is explained of it: a class, ``(1, K)`` classes, another target, or None for the predicted class."""

    item: Item
    ready: Ready
    target: int | str | Tensor | Target | None

    @property
    def kind(self) -> tuple[object, ...]:
        """What photos of one batch have in common."""
        many = tuple(self.target.shape) if isinstance(self.target, Tensor) else type(self.target)
        return self.item.target, tuple(self.ready.inputs.shape), many


class Waiting:
    """Photos that wait for others of their kind.

    Args:
        size: Photos per batch.
    """

    def __init__(self, size: int) -> None:
        self._size, self._groups = size, dict[tuple[object, ...], list[Asked]]()

    def add(self, photo: Asked) -> Iterator[list[Asked]]:
        """Take a photo; yield a batch that is full, or the largest where too many photos wait."""
        self._groups.setdefault(photo.kind, []).append(photo)
        largest = max(self._groups, key=lambda kind: len(self._groups[kind]))
        if len(self._groups[largest]) >= self._size or sum(map(len, self._groups.values())) >= _WAITING * self._size:
            yield self._groups.pop(largest)

    def rest(self) -> Iterator[list[Asked]]:
        """Yield what waits."""
        while self._groups:
            yield self._groups.pop(next(iter(self._groups)))


class Together:
    """Explains photos in batches.

    Args:
        explainer: Of the model.
    """

    def __init__(self, explainer: Explainer) -> None:
        self._explainer = explainer
        self._general = frozenset(explainer.plan.notes)

    def explain(self, photos: Sequence[Asked]) -> list[Explanation] | None:
        """Return the explanation of each photo; None where they must be explained alone, to tell which of them fails or what is to be noted."""
        if len(photos) < 2:
            return None
        try:
            found = self._explainer(torch.cat([photo.ready.inputs for photo in photos]), _joined(photos))
        except Exception:  # of one photo, or of the memory: each says its own alone
            return None
        return [found[place] for place in range(len(found))] if self._general.issuperset(found.notes) else None

    def learn(self, notes: Sequence[Sequence[str]]) -> None:
        """Take notes that all photos of a batch have alone for those of the method, which say nothing about a photo."""
        if len(notes) > 1:
            self._general |= set(notes[0]).intersection(*notes)


def _joined(photos: Sequence[Asked]) -> int | str | Tensor | Target | None:
    """The target of a batch."""
    targets = [photo.target for photo in photos]
    if isinstance(targets[0], int):
        return torch.tensor(targets)
    tensors = [target for target in targets if isinstance(target, Tensor)]
    return torch.cat(tensors) if tensors else targets[0]
