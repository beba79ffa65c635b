"""Split fused projections: a dense layer whose result is read in parts, such as queries, keys and values, becomes one layer per part.

A part without relevance then costs nothing, and no gradient of a part is padded with zeros.
"""

import operator
from typing import NamedTuple

import torch
from torch import fx

from relprop.graph.nodes import OUTPUTS, PATH, WINDOWS, Window, add_constant, for_one, insert, replace, value_of
from relprop.graph.passes.moves import Atom, Axes, Steps, axes_of, is_move, moved, shorten_moves, steps_to, take
from relprop.graph.passes.windows import readers_of
from relprop.ops.table import arguments_of

aten = torch.ops.aten
_SPLITS = frozenset({aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default})


class _Part(NamedTuple):
    """The slice of a layer's outputs that one reader reads, and the moves on the way to it."""

    reader: fx.Node
    start: int
    outputs: int
    steps: Steps


def separate_projections(module: fx.GraphModule) -> None:
    """Replace every dense layer whose result is only ever read in parts by one layer per part; weights stay shared."""
    for node in list(module.graph.nodes):
        if node.target is aten.linear.default and all(n.op == "get_attr" for n in node.args[1:] if isinstance(n, fx.Node)):
            for part in _direct_parts(node) or _moved_parts(node):
                _separate(module, node, part)
    shorten_moves(module)


def _direct_parts(node: fx.Node) -> list[_Part]:
    """The parts of a result that is sliced, split or chunked directly."""
    last, outputs = value_of(node).dim() - 1, value_of(node).shape[-1]
    readers = readers_of(node)
    if readers and readers[0].dim == last and all(r.end - r.start < outputs and r.keeps_dim for r in readers):
        return [_Part(r.node, r.start, r.end - r.start, []) for r in readers]
    user, *others = node.users
    if others or user.target not in _SPLITS or arguments_of(user)["dim"] % (last + 1) != last:
        return []
    sizes = [int(part.shape[last]) for part in value_of(user)]
    return [_Part(item, sum(sizes[:index]), sizes[index], []) for item, index in _items(user)] if len(sizes) > 1 else []


def _moved_parts(node: fx.Node) -> list[_Part]:
    """The parts of a result that is unflattened into groups, moved, and read group by group."""
    value, axes = node, axes_of(node)
    last, outputs = len(axes) - 1, value_of(node).shape[-1]
    while True:
        picked = _picked(value, axes, last)
        if picked:
            (group,) = (axis for axis in axes if _makes_groups(axis, last))
            steps, rows = steps_to([axis for axis in axes if axis is not group]), outputs // for_one(group[0].size)
            return [_Part(reader, index * rows, rows, steps) for reader, index in picked] if steps is not None else []
        user, *others = value.users
        following = moved(user, axes) if is_move(user) and not others and OUTPUTS not in user.meta else None
        if following is None:
            return []
        value, axes = user, following


def _makes_groups(axis: list[Atom], last: int) -> bool:
    """Whether a dimension is the first factor of a layer's outputs, and nothing else."""
    return len(axis) == 1 and axis[0].dim == last and len(axis[0].position) > 0 and not any(axis[0].position)


def _picked(value: fx.Node, axes: Axes, last: int) -> list[tuple[fx.Node, int]]:
    """The readers of a value and the group that each reads, if every one of them reads a single group."""
    dim = next((d for d, axis in enumerate(axes) if _makes_groups(axis, last)), None)
    readers, (user, *others) = readers_of(value), value.users
    if readers and readers[0].dim == dim:
        return [(r.node, r.start) for r in readers] if not any(r.keeps_dim for r in readers) else []
    unbound = user.target is aten.unbind.int and not others and arguments_of(user)["dim"] % len(axes) == dim
    return _items(user) if unbound else []


def _items(node: fx.Node) -> list[tuple[fx.Node, int]]:
    """The items of a list of values that are read, with their indices."""
    return [(n, int(n.args[1])) for n in node.users if n.target is operator.getitem]  # pyright: ignore[reportArgumentType]


def _separate(module: fx.GraphModule, node: fx.Node, part: _Part) -> None:
    """Compute one part by a layer of its own."""
    x, *constants = node.args
    own = [_rows_of(module, node, n, part) if isinstance(n, fx.Node) else n for n in constants]
    value = insert(node, aten.linear.default, x, *own)
    last = value_of(node).dim() - 1
    value.meta[OUTPUTS] = list(node.meta.get(OUTPUTS, ()))
    value.meta[WINDOWS] = dict.fromkeys(value.meta[OUTPUTS], (Window(last, part.start, value_of(node).shape[-1]),))
    replace(part.reader, take(part.steps, value, part.reader))


def _rows_of(module: fx.GraphModule, node: fx.Node, constant: fx.Node, part: _Part) -> fx.Node:
    """The rows of a weight, or the entries of a bias, that make one part."""
    rows = getattr(module, str(constant.target))[part.start : part.start + part.outputs]
    found = add_constant(module, node, f"{constant.target}_rows", rows)
    found.meta[PATH] = constant.meta.get(PATH, "")
    return found
