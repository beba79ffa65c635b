"""Views by strides, such as overlapping chunks of a sequence, written as a choice of elements."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_MOST = 1_000_000
"""The most elements that are looked up one by one."""


class Steps(NamedTuple):
    """How a view by strides is made of a tensor's own dimensions.

    Attributes:
        kept: Pairs of a dimension of the view and the dimension of the tensor that it is, element by element.
        sizes: The sizes of all other dimensions of the view.
        positions: For each element of these, in order, its place in the tensor's other dimensions, flattened.
    """

    kept: tuple[tuple[int, int], ...]
    sizes: list[int]
    positions: list[int]


def as_strided(x: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Tensor:
    """Return the elements of a view by strides, without the view: the strides of ``x`` tell which of its elements lie where.

    Raises:
        ValueError: The view reads memory that is not in the tensor.
    """
    steps = find_steps(x, size, stride, storage_offset)
    if steps is None:
        raise ValueError("The view reads memory that is not in the tensor.")
    ours, theirs = [i for i, _ in steps.kept], [j for _, j in steps.kept]
    rest = [j for j in range(x.dim()) if j not in theirs]
    flat = x.permute(*theirs, *rest)
    flat = flat.flatten(len(theirs)) if rest else flat.unsqueeze(-1)
    picked = flat.index_select(-1, torch.tensor(steps.positions, device=x.device))
    order = [*ours, *(i for i in range(len(size)) if i not in ours)]
    picked = picked.unflatten(-1, steps.sizes) if steps.sizes else picked.squeeze(-1)
    return picked.permute([order.index(i) for i in range(len(size))])


def find_steps(x: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Steps | None:
    """Find how a view by strides is made of as many whole dimensions as possible; None where it reads memory that is not in the tensor."""
    first = 0 if storage_offset is None else storage_offset - int(x.storage_offset())
    for kept in _choices(x, size, stride):
        ours, theirs = {i for i, _ in kept}, {j for _, j in kept}
        rest, others = [j for j in range(x.dim()) if j not in theirs], [i for i in range(len(size)) if i not in ours]
        if max(math.prod(x.shape[j] for j in rest), math.prod(size[i] for i in others)) > _MOST:
            return None
        places = {offset: place for place, offset in enumerate(_offsets(rest, x.shape, x.stride()))}
        positions = [places.get(first + offset) for offset in _offsets(others, size, stride)]
        if None not in positions:
            return Steps(kept, [size[i] for i in others], [place for place in positions if place is not None])
    return None


def _choices(x: Tensor, size: Sequence[int], stride: Sequence[int]) -> Iterator[tuple[tuple[int, int], ...]]:
    """The ways to take dimensions of the view for those of the tensor of the same size and stride, those with most elements first."""
    pairs = [(i, j) for i in range(len(size)) for j in range(x.dim()) if (size[i], stride[i]) == (x.shape[j], x.stride(j))]
    chosen = itertools.chain.from_iterable(itertools.combinations(pairs, count) for count in range(len(pairs) + 1))
    apart = [kept for kept in chosen if len({i for i, _ in kept}) == len({j for _, j in kept}) == len(kept)]
    yield from sorted(apart, key=lambda kept: -math.prod(size[i] for i, _ in kept))


def _offsets(dims: Sequence[int], sizes: Sequence[int], strides: Sequence[int]) -> Iterator[int]:
    """Where in memory the elements of some dimensions lie, from the first one on."""
    return map(
        sum, itertools.product(*(range(0, sizes[d] * strides[d], strides[d]) if strides[d] else [0] * sizes[d] for d in dims))
    )
