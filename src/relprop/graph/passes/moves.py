"""Canonicalize chains of views and transposes: unflatten → permute → flatten."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, fx

from relprop.graph.nodes import OUTPUTS, Size, insert, product, quotient, replace, shape_of, value_of
from relprop.graph.passes.constants import drop_unused
from relprop.ops.table import arguments_of, entry

aten = torch.ops.aten


class Atom(NamedTuple):
    """A factor of a source's dimension: ``dim``, the position among its factors (the first is all zeros), and the size."""

    dim: int
    position: tuple[int, ...]
    size: int | Size


def _place(atom: Atom) -> tuple[int, tuple[int, ...]]:
    return atom.dim, atom.position


Axes = list[list[Atom]]
"""By dimension of a moved value, its factors in order."""
Steps = list[tuple[Any, tuple[Any, ...]]]
"""Moves, each an op with its further arguments."""


def shorten_moves(module: fx.GraphModule) -> None:
    """Canonicalize chains of moves, and transpose rows before or after a dense layer, whichever costs less."""
    for node in list(module.graph.nodes):
        if node.target is aten.linear.default:
            _transpose_after_linear(node)
    for node in list(module.graph.nodes):
        if node.target is aten.transpose.int:
            _transpose_before_linear(node)
    for node in list(module.graph.nodes):
        if _in_chain(node) and not _goes_on(node):
            _shorten(node)
    drop_unused(module)


def is_move(node: fx.Node) -> bool:
    """Whether an op is a view or permutation of one value: it reshapes it, or reorders its dimensions."""
    op = entry(node)
    return op is not None and (op.reshapes or op.order is not None)


def _in_chain(node: fx.Node) -> bool:
    """Whether an op is a move; the transposed matrix of a product is none, since matmul reads strided matrices."""
    of_matrix = node.target is aten.transpose.int and all(user.target is aten.matmul.default for user in node.users)
    return is_move(node) and not of_matrix


def _goes_on(node: fx.Node) -> bool:
    """Whether a value's only reader is another move."""
    return len(node.users) == 1 and _in_chain(next(iter(node.users))) and OUTPUTS not in node.meta


def _transpose_after_linear(node: fx.Node) -> None:
    """``linear(transpose(x))`` as ``transpose(linear(x))``: a dense layer on contiguous rows."""
    transposed = node.args[0]
    if not isinstance(transposed, fx.Node) or not _moves_rows(transposed):
        return
    x, *dims = cast("tuple[fx.Node, int, int]", transposed.args)
    if not is_move(x):  # else the whole chain is canonicalized
        replace(node, insert(node, aten.transpose.int, insert(node, aten.linear.default, x, *node.args[1:]), *dims))


def _transpose_before_linear(node: fx.Node) -> None:
    """``transpose(linear(moved))`` as ``linear(transpose(moved))``: one chain of moves where there were two."""
    linear, *dims = cast("tuple[fx.Node, int, int]", node.args)
    if linear.target is not aten.linear.default or len(linear.users) > 1 or OUTPUTS in linear.meta or not _moves_rows(node):
        return
    rows = linear.args[0]
    if isinstance(rows, fx.Node) and is_move(rows):
        replace(node, insert(node, aten.linear.default, insert(node, aten.transpose.int, rows, *dims), *linear.args[1:]))
        linear.graph.erase_node(linear)


def _moves_rows(node: fx.Node) -> bool:
    """Whether an op is a transpose of two dimensions before the last."""
    dims = value_of(node).dim() if node.target is aten.transpose.int else 0
    return dims > 0 and dims - 1 not in {int(dim) % dims for dim in node.args[1:]}  # pyright: ignore[reportArgumentType]


def _shorten(node: fx.Node) -> None:
    chain = [node]
    while True:
        before = cast("fx.Node", chain[-1].args[0])
        if not _in_chain(before) or not _goes_on(before):
            break
        chain.append(before)
    source = cast("fx.Node", chain[-1].args[0])
    if len(chain) < 2 or not isinstance(value_of(source), Tensor):
        return
    axes: Axes | None = axes_of(source)
    for move in reversed(chain):
        axes = moved(move, axes) if axes is not None else None
    steps = steps_to(axes) if axes else None
    if steps is not None and len(steps) < len(chain):
        replace(node, take(steps, source, node))


def take(steps: Steps, source: fx.Node, before: fx.Node) -> fx.Node:
    """Insert moves of a value before a node; return the moved value."""
    for target, arguments in steps:
        source = insert(before, target, source, *arguments)
    return source


def axes_of(source: fx.Node) -> Axes:
    """The axes of a value before any move."""
    return [[Atom(dim, (), size)] for dim, size in enumerate(shape_of(source))]


def moved(move: fx.Node, axes: Axes) -> Axes | None:
    """The axes after a move; None where it splits a factor of unknown size."""
    op = entry(move)
    if op is not None and op.order is not None:
        return [axes[dim] for dim in op.order(arguments_of(move), len(axes))]
    return _regrouped([atom for axis in axes for atom in axis], shape_of(move))


def _regrouped(atoms: list[Atom], shape: Sequence[int | Size]) -> Axes | None:
    """Group factors, in order, by the dimensions of ``shape``, if none is empty; a factor across a border of dimensions is divided."""
    if 0 in shape:
        return None
    rest, axes = list(atoms), Axes()
    for size in shape:
        axis, needed = list[Atom](), size
        while needed != 1:
            if not rest:
                return None
            atom = rest.pop(0)
            rest_needed = quotient(needed, atom.size)
            if rest_needed is not None:
                axis.append(atom)
                needed = rest_needed
            elif isinstance(needed, int) and isinstance(atom.size, int) and atom.size % needed == 0:
                axis.append(Atom(atom.dim, (*atom.position, 0), needed))
                rest.insert(0, Atom(atom.dim, (*atom.position, 1), atom.size // needed))
                needed = 1
            else:
                return None
        axes.append(axis)
    return None if rest else axes


def steps_to(axes: Axes) -> Steps | None:
    """The moves from a source's dimensions to ``axes``; None where a size is unknown, or a dimension was added."""
    if not all(axes):
        return None
    axes = _joined(axes)
    order = sorted((atom for axis in axes for atom in axis), key=_place)
    steps = Steps()
    for dim in reversed(range(order[-1].dim + 1)):
        sizes = [atom.size if isinstance(atom.size, int) else -1 for atom in order if atom.dim == dim]
        if sizes.count(-1) > 1:
            return None
        if len(sizes) > 1:
            steps.append((aten.unflatten.int, (dim, sizes)))
    places = [_place(atom) for atom in order]
    permutation = [places.index(_place(atom)) for axis in axes for atom in axis]
    if permutation != sorted(permutation):
        steps.append((aten.permute.default, (permutation,)))
    start = len(order)
    for axis in reversed(axes):
        start -= len(axis)
        if len(axis) > 1:
            steps.append((aten.flatten.using_ints, (start, start + len(axis) - 1)))
    return steps


def _joined(axes: Axes) -> Axes:
    """Merge adjacent factors of one dimension that stay adjacent."""
    order = sorted((atom for axis in axes for atom in axis), key=_place)
    after = {_place(a): _place(b) for a, b in itertools.pairwise(order) if a.dim == b.dim}
    joined = Axes()
    for axis in axes:
        whole = [axis[0]]
        for previous, atom in itertools.pairwise(axis):
            if after.get(_place(previous)) == _place(atom):
                whole[-1] = whole[-1]._replace(size=product((whole[-1].size, atom.size)))
            else:
                whole.append(atom)
        joined.append(whole)
    return joined
