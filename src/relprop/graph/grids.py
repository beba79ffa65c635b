"""Which values are grids over the positions of the input: the samples of a signal, the pixels of an image, the voxels of a volume."""

import math
from collections.abc import Sequence

from torch import Tensor, fx

from relprop.graph.channels import find_channels
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import is_floating, tensor_inputs, value_of
from relprop.ops.table import entry

_SKEWED = 1.5
"""Ratio of the sides of cells from which on dimensions are not taken for rows and columns, but for heads and tokens, say."""

POSITIONS = (1, 2, 3)
"""Numbers of dimensions behind the channels that maps have: signals, images, volumes and videos."""


def _only_input(model: CapturedModel) -> fx.Node | None:
    """The only floating input, where it has positions."""
    inputs = [n for n in tensor_inputs(model.module.graph) if is_floating(n)]
    return inputs[0] if len(inputs) == 1 and inputs[0].meta["val"].dim() - 2 in POSITIONS else None


def misplaced_channels(model: CapturedModel) -> int | None:
    """The dimension of the only input in which the model reads channels, where that is not the second."""
    node = _only_input(model)
    told = None if node is None else find_channels(node, constants=False)
    return None if told == 1 else told


def input_size(model: CapturedModel) -> tuple[int, ...] | None:
    """The sizes behind the channels of the model's only floating input ``(B, C, …)``; None where it is another, or one of several."""
    node = _only_input(model)
    if node is None or misplaced_channels(model) is not None:
        return None
    return tuple(int(n) for n in node.meta["val"].shape[2:])


def divides(size: Sequence[int], grid: Sequence[int]) -> bool:
    """Whether a grid is made of equal patches of the input, square in its last two dimensions."""
    if len(grid) != len(size) or min(grid[-2:]) < 2 or any(n % k for n, k in zip(size, grid, strict=True)):
        return False
    patch = [n // k for n, k in zip(size, grid, strict=True)]
    return len(patch) == 1 or patch[-1] == patch[-2]


def lies_over(model: CapturedModel, size: Sequence[int], grid: Sequence[int]) -> bool:
    """Whether sizes are those of a grid over the input: its last two cells are about square, or a convolution makes such a grid."""
    if math.prod(grid) < 2:
        return False
    cell = [n / k for n, k in zip(size, grid, strict=True)]
    square = max(cell[-2:]) < _SKEWED * min(cell[-2:])
    return (square and min(cell) >= 1) or tuple(grid) in convolved(model, len(size))


def channels_last(shape: Sequence[int], image: Sequence[int]) -> bool:
    """Whether a value of this shape, without its batch, is a grid with its channels last: its first dimensions make patches, its last do not."""
    return divides(image, shape[:-1]) and not divides(image, shape[1:])


def channel_dim(model: CapturedModel, node: fx.Node) -> int:
    """The dimension of a value's channels: as the ops around it tell, else the last of tokens and of grids that look like it, else the second."""
    shape = tuple(node.meta["val"].shape)
    if len(shape) < 3:
        return len(shape) - 1
    told = find_channels(node)
    if told:
        return told
    size = input_size(model)
    if len(shape) == 3:
        return 1 if size is not None and len(size) == 1 else 2
    sizes = [int(n) for n in shape[1:]]
    return len(shape) - 1 if size is not None and len(sizes) == len(size) + 1 and channels_last(sizes, size) else 1


def convolved(model: CapturedModel, positions: int) -> set[tuple[int, ...]]:
    """The grids of so many dimensions that convolutions, pooling and the like make."""
    found = set[tuple[int, ...]]()
    for node in model.active:
        value, known = value_of(node), entry(node)
        if known is not None and known.channels == "first" and isinstance(value, Tensor) and value.dim() == positions + 2:
            found.add(tuple(int(n) for n in value.shape[2:]))
    return found
