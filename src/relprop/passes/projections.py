"""A dense layer whose result is taken apart, such as queries, keys and values in one, becomes a layer for every part.

Each part then needs its own relevance alone: nothing is put together with zeros, and a part without relevance costs nothing.
"""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

from relprop.graph import OUTPUTS, PATH, WINDOWS, Window, add_constant, arguments_of, insert, replace, value_of
from relprop.passes.constants import drop_unused
from relprop.passes.windows import readers_of

aten = torch.ops.aten
_GROUP, _ADDED = -1, -2
Axes = list[int]
"""The dimensions of a moved value: those of a layer's result by number, ``_GROUP`` for the groups, ``_ADDED`` for one of size one."""


class _Part(NamedTuple):
    """What one reader takes of a layer's outputs: those from ``start`` on, shaped as ``sizes``, all dimensions in the order ``axes``."""

    reader: fx.Node
    start: int
    sizes: list[int]
    axes: Axes


def separate_projections(module: fx.GraphModule) -> None:
    """Replace every dense layer whose result is only ever read in parts by one layer per part; weights stay shared."""
    for node in list(module.graph.nodes):
        if node.target is aten.linear.default and all(n.op == "get_attr" for n in node.args[1:] if isinstance(n, fx.Node)):
            for part in _direct_parts(node) or _moved_parts(node):
                _separate(module, node, part)
    drop_unused(module)


def _direct_parts(node: fx.Node) -> list[_Part]:
    """The parts of a layer's result where it is sliced, split or chunked as it is."""
    last, outputs = value_of(node).dim() - 1, value_of(node).shape[-1]
    axes = list(range(last + 1))
    readers = readers_of(node)
    if readers and readers[0].dim == last and all(r.end - r.start < outputs and r.keeps_dim for r in readers):
        return [_Part(r.node, r.start, [r.end - r.start], axes) for r in readers]
    user, *others = node.users
    if others or user.target not in _SPLITS or arguments_of(user)["dim"] % (last + 1) != last:
        return []
    sizes = [int(part.shape[last]) for part in value_of(user)]
    return [_Part(item, sum(sizes[:index]), [sizes[index]], axes) for item, index in _items(user)] if len(sizes) > 1 else []


def _moved_parts(node: fx.Node) -> list[_Part]:
    """The parts of a layer's result where its outputs are put in groups, moved, and read group by group."""
    value, axes, sizes = node, list(range(value_of(node).dim())), list[int]()
    while True:
        user = next(iter(value.users))
        picked = _picked(value, axes)
        if picked:
            rest = [axis for axis in axes if axis != _GROUP]
            rows = math.prod(sizes[1:])
            return [_Part(reader, index * rows, sizes[1:], rest) for reader, index in picked] if _ADDED not in rest else []
        if len(value.users) > 1 or OUTPUTS in user.meta:
            return []
        if not sizes and axes[-1] == len(axes) - 1 and user.target in _GROUPING:
            sizes = _grouped(user)
            moved = [*axes[:-1], _GROUP, *range(len(axes) - 1, len(axes) + len(sizes) - 2)] if len(sizes) > 1 else None
        else:
            moved = _MOVED[user.target](user, axes) if user.target in _MOVED else None
        if moved is None:
            return []
        value, axes = user, moved


def _picked(value: fx.Node, axes: Axes) -> list[tuple[fx.Node, int]]:
    """The readers of a value, each with the group that it reads, where all of them read single groups."""
    if _GROUP not in axes:
        return []
    dim, (user, *others) = axes.index(_GROUP), value.users
    readers = readers_of(value)
    if readers and readers[0].dim == dim:
        return [(r.node, r.start) for r in readers] if not any(r.keeps_dim for r in readers) else []
    unbound = user.target is aten.unbind.int and not others and arguments_of(user)["dim"] % len(axes) == dim
    return _items(user) if unbound else []


def _items(node: fx.Node) -> list[tuple[fx.Node, int]]:
    """The entries of a list of values that are read, with their indices."""
    return [(n, int(n.args[1])) for n in node.users if n.target is operator.getitem]  # pyright: ignore[reportArgumentType]


def _separate(module: fx.GraphModule, node: fx.Node, part: _Part) -> None:
    """Compute one part by a layer of its own."""
    x, *constants = node.args
    own = [_rows_of(module, node, n, part) if isinstance(n, fx.Node) else n for n in constants]
    value = insert(node, aten.linear.default, x, *own)
    last = value_of(node).dim() - 1
    value.meta[OUTPUTS] = list(node.meta.get(OUTPUTS, ()))
    value.meta[WINDOWS] = dict.fromkeys(value.meta[OUTPUTS], (Window(last, part.start, value_of(node).shape[-1]),))
    if len(part.sizes) > 1:
        value = insert(part.reader, aten.unflatten.int, value, last, part.sizes)
    if part.axes != sorted(part.axes):
        value = insert(part.reader, aten.permute.default, value, part.axes)
    replace(part.reader, value)


def _rows_of(module: fx.GraphModule, node: fx.Node, constant: fx.Node, part: _Part) -> fx.Node:
    """The rows of a weight, or the entries of a bias, that make one part."""
    rows = getattr(module, str(constant.target))[part.start : part.start + math.prod(part.sizes)]
    found = add_constant(module, node, f"{constant.target}_rows", rows)
    found.meta[PATH] = constant.meta.get(PATH, "")
    return found


# --- where the outputs go ------------------------------------------------------------------------------------------------------------


def _grouped(move: fx.Node) -> list[int]:
    """The sizes into which a move takes the last dimension apart, and nothing else; none where it does something else."""
    before, after = value_of(move.args[0]).shape, list(value_of(move).shape)
    sizes = after[len(before) - 1 :]
    kept = all(statically_known_true(a == b) for a, b in zip(before[:-1], after, strict=False))
    return sizes if kept and all(isinstance(size, int) for size in sizes) and math.prod(sizes) == before[-1] else []


def _transposed(move: fx.Node, axes: Axes) -> Axes:
    given, moved = arguments_of(move), list(axes)
    first, second = given["dim0"] % len(axes), given["dim1"] % len(axes)
    moved[first], moved[second] = axes[second], axes[first]
    return moved


def _permuted(move: fx.Node, axes: Axes) -> Axes:
    return [axes[dim] for dim in arguments_of(move)["dims"]]


def _unsqueezed(move: fx.Node, axes: Axes) -> Axes:
    dim = arguments_of(move)["dim"] % (len(axes) + 1)
    return [*axes[:dim], _ADDED, *axes[dim:]]


def _squeezed(move: fx.Node, axes: Axes) -> Axes | None:
    dim = arguments_of(move)["dim"] % len(axes)
    return [*axes[:dim], *axes[dim + 1 :]] if axes[dim] == _ADDED else None


_SPLITS = frozenset({aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default})
_GROUPING = frozenset({aten.reshape.default, aten.unflatten.int})
_MOVED: Mapping[Any, Callable[[fx.Node, Axes], Axes | None]] = {
    aten.permute.default: _permuted,
    aten.squeeze.dim: _squeezed,
    aten.transpose.int: _transposed,
    aten.unsqueeze.default: _unsqueezed,
}
"""By op that moves dimensions, where they go."""
