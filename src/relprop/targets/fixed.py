"""Targets whose choices are made: the number that was explained of one batch, for other inputs and other models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from relprop.errors import TargetError
from relprop.targets.asked import Aim, Asked, Head
from relprop.targets.kinds import Reading


@dataclass(frozen=True, eq=False)
class Fixed:
    """A target as it was chosen on one batch, which :meth:`relprop.Explainer.fixed` returns: the same classes, pixels, boxes and units elsewhere.

    It holds for batches of as many samples, such as the same images with pixels removed, or a multiple of them, sample by sample.

    Attributes:
        asked: What was asked of the batch.
        reading: Which value of the model it reads.
    """

    asked: Asked
    reading: Reading

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.asked.aims[0].weights)

    def __getitem__(self, rows: slice) -> Self:
        """Return the target of some of the samples."""
        return replace(self, asked=self.asked.rows(rows))

    def sample(self, index: int) -> Self:
        """Return the target of one sample of a batch that holds the samples once or several times."""
        place = index % len(self)
        return self[place : place + 1]


def of_fixed(target: Fixed, output: Tensor, _: Head) -> Asked:
    """Ask for what was asked before, for every sample of a batch that holds the samples once or several times."""
    there, here = tuple(target.asked.aims[0].weights.shape), tuple(output.shape)
    if here[1:] != there[1:] or here[0] % there[0]:
        raise TargetError(f"The target was fixed on an output of shape {there}, and this one has shape {here}.")
    times = here[0] // there[0]
    return replace(target.asked, **_repeated(target.asked, times, output))


def _repeated(asked: Asked, times: int, like: Tensor) -> dict[str, object]:
    def repeated(part: Tensor | None) -> Tensor | None:
        if part is None:
            return None
        moved = part.to(like) if part.is_floating_point() else part.to(like.device)
        return moved if times == 1 else moved.repeat(times, *[1] * (part.dim() - 1))

    aims = tuple(replace(aim, weights=repeated(aim.weights), classes=repeated(aim.classes)) for aim in asked.aims)
    return {"aims": aims, "target": repeated(asked.target), "words": asked.words * times}


def joined(parts: Sequence[Asked]) -> Asked:
    """Join what is asked of several batches, whose targets are of one kind.

    Raises:
        TargetError: They are of several kinds.
    """
    first = parts[0]
    if any(_form(part) != _form(first) for part in parts):
        raise TargetError("Targets of several kinds cannot be fixed together; fix each alone.")

    def join(found: Sequence[Tensor | None]) -> Tensor | None:
        there = [part for part in found if part is not None]
        return torch.cat(there) if len(there) == len(found) else None

    columns = list(zip(*(part.aims for part in parts), strict=True))
    aims = tuple(_joined_aim(column, join([aim.classes for aim in column])) for column in columns)
    return replace(first, aims=aims, target=join([part.target for part in parts]), words=sum((part.words for part in parts), ()))


def _joined_aim(column: Sequence[Aim], classes: Tensor | None) -> Aim:
    return replace(column[0], weights=torch.cat([aim.weights for aim in column]), classes=classes)


def _form(asked: Asked) -> tuple[object, ...]:
    """What must agree in targets that stand in one batch."""
    aims = [(aim.class_dim, aim.kind, aim.classes is None, tuple(aim.weights.shape[1:])) for aim in asked.aims]
    return asked.several, asked.places, *aims
