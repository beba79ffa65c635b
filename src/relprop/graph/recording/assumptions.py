"""Assumptions: what a model reads of its integer and boolean inputs to choose its way, such as whether a mask hides nothing.

The recording follows the way of the example, and the graph checks at every run that the inputs choose the same one. So it does with the sizes of
what a model picks by a mask that it makes of such inputs: which elements are picked depends on the inputs of every run, how many was recorded.
"""

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from relprop.errors import CaptureError

_local = threading.local()


class AssumptionError(CaptureError):
    """The inputs choose another way through the model than those that it was captured with."""


def assume(value: Tensor, expected: bool | float) -> None:
    """Check that a value is as in the recording.

    Raises:
        AssumptionError: It is not.
    """
    if value.is_meta or getattr(_local, "unchecked", False):
        return
    if value.item() != expected:
        raise AssumptionError(
            f"The model reads a value of its integer or boolean inputs, and these give {value.item()!r} where those that it was captured "
            f"with gave {expected!r}, so it may do something else; capture it anew with these inputs."
        )


def assume_shape(value: Tensor, expected: Sequence[int]) -> None:
    """Check that a result whose size depends on values has the shape that it has in the recording, in unchecked runs too: what follows needs it.

    Raises:
        AssumptionError: It has another.
    """
    if not value.is_meta and list(value.shape) != list(expected):
        raise _other_size(f"{value.shape[0]} elements", expected[0])


def assume_even(positions: Tensor, per_sample: int, rows: int, batch: int) -> None:
    """Check that every sample of a batch has as many of the positions that ``nonzero`` returns as in the recording.

    Args:
        positions: Sorted by the first dimension of the mask.
        per_sample: How many every sample has.
        rows: How many consecutive entries of the first dimension of the mask belong to one sample.
        batch: The number of samples.

    Raises:
        AssumptionError: Some sample has more or fewer.
    """
    if positions.is_meta:
        return
    counts = torch.bincount(positions[:, 0] // rows, minlength=batch)
    others = counts[counts != per_sample]
    if len(others):
        raise _other_size(f"{int(others[0])} for one of the samples", f"{per_sample} for each")


def _other_size(found: object, expected: object) -> AssumptionError:
    return AssumptionError(
        f"How much the model picks depends on values of its integer or boolean inputs, and these give {found} where those that it was captured "
        f"with gave {expected}; capture it anew with these inputs, or with each of these samples alone."
    )


@contextmanager
def unchecked() -> Generator[None, None, None]:
    """Run graphs of this thread without checking which way the inputs choose; sizes are checked all the same."""
    before, _local.unchecked = getattr(_local, "unchecked", False), True
    try:
        yield
    finally:
        _local.unchecked = before
