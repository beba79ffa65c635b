"""Fold slices of the batch that read a constant piece of a concatenation alone, such as the class token of every frame of a video.

``cat([token.expand(len(frames), …), frames], 1)[:samples, 0]`` takes rows of several samples apart, but all of them hold the same token.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, fx

from relprop.graph.nodes import Size, insert, replace, shape_of, tensor_inputs, value_of, values_read
from relprop.graph.passes.constants import drop_unused
from relprop.graph.passes.windows import call_on, dims_of_slices, reader_of
from relprop.ops.op import op_name
from relprop.ops.samples import MIXES
from relprop.ops.table import arguments_of

aten = torch.ops.aten


class Piece(NamedTuple):
    """The part ``start:end`` of a dimension of a value, where that part does not depend on the input.

    Attributes:
        value: A node that computes the part from constants.
        cut: Whether an op before it takes the batch apart.
    """

    dim: int
    start: int
    end: int
    value: fx.Node
    cut: bool


Pieces = Mapping[fx.Node, Sequence[Piece]]


def fold_pieces(module: fx.GraphModule) -> None:
    """Compute from constants what is sliced from the batch and does not depend on the input; what is not sliced from it stays."""
    nodes = list(module.graph.nodes)
    if not any(_cuts_batch(node) for node in nodes):
        return
    active, pieces = set(tensor_inputs(module.graph)), dict[fx.Node, list[Piece]]()
    for node in nodes:
        if node.op != "call_function" or active.isdisjoint(values_read(node)):
            continue
        found = _pieces(node, active, pieces)
        whole = next((p for p in found if p.cut and (p.start, p.end) == (0, shape_of(node)[p.dim])), None)
        if whole is None:
            active.add(node)
            pieces[node] = found
        else:
            replace(node, whole.value)
    drop_unused(module)


def _cuts_batch(node: fx.Node) -> bool:
    """Whether an op mixes along a dimension whose size depends on the batch, as a slice of it does."""
    mixes = MIXES.get(op_name(node.target).removeprefix("aten::"))
    x = arguments_of(node).get("self") if mixes is not None else None
    if mixes is None or not isinstance(x, fx.Node) or not isinstance(value_of(x), Tensor):
        return False
    return any(isinstance(shape_of(x)[dim], Size) for dim in mixes(arguments_of(node), value_of(x)) or ())


def _pieces(node: fx.Node, active: set[fx.Node], pieces: Pieces) -> list[Piece]:
    if not isinstance(value_of(node), Tensor):
        return []
    if node.target is aten.cat.default:
        return _of_concatenation(node, active, pieces)
    return [*_read(node, pieces), *_computed(node, active, pieces)]


def _of_concatenation(node: fx.Node, active: set[fx.Node], pieces: Pieces) -> list[Piece]:
    """The tensors that are constants, and the pieces of the others."""
    given, found, start = arguments_of(node), list[Piece](), 0
    dim = given["dim"] % value_of(node).dim()
    for tensor in given["tensors"]:
        size = shape_of(tensor)[dim] if value_of(tensor).dim() > dim else 0  # an empty tensor of one dimension is legal
        if isinstance(size, Size):
            break
        of_tensor = pieces.get(tensor, ()) if tensor in active else [Piece(dim, 0, size, tensor, cut=False)]
        found += [p._replace(start=start + p.start, end=start + p.end) for p in of_tensor if p.dim == dim and size]
        start += size
    return found


def _read(node: fx.Node, pieces: Pieces) -> list[Piece]:
    """What a slice or selection reads of pieces in its own dimension; where it selects, all of it."""
    source, found = node.args[0], list[Piece]()
    of_source = pieces.get(source, ()) if isinstance(source, fx.Node) else ()
    reader = reader_of(node, source) if of_source else None  # pyright: ignore[reportArgumentType]
    if reader is None:
        return []
    for p in of_source:
        start, end = max(p.start, reader.start), min(p.end, reader.end)
        if p.dim != reader.dim or start >= end:
            continue
        if reader.keeps_dim:
            found.append(Piece(p.dim, start - reader.start, end - reader.start, _part(node, p, start, end), p.cut))
        else:
            value = insert(node, aten.select.int, p.value, p.dim, start - p.start)
            static = [(dim, size) for dim, size in enumerate(shape_of(node)) if isinstance(size, int)]
            found += [Piece(dim, 0, size, value, p.cut) for dim, size in static]
    return found


def _computed(node: fx.Node, active: set[fx.Node], pieces: Pieces) -> list[Piece]:
    """The pieces of an op's value that it computes from pieces of its arguments and from constants."""
    given, sources = arguments_of(node), [n for n in values_read(node) if n in active]
    if not all(pieces.get(source) for source in sources):
        return []
    found = list[Piece]()
    for dim in range(value_of(node).dim()):
        dims = dims_of_slices(node, dim) or {}
        names = [name for name in dims if given[name] in sources]
        if {given[name] for name in names} != set(sources):
            continue
        for window in pieces[sources[0]]:
            parts = {name: _covering(pieces[given[name]], dims[name], window) for name in names}
            if window.dim == dims[names[0]] and all(parts.values()):
                found.append(_call(node, dims, {name: p for name, p in parts.items() if p is not None}, window, dim))
    return found


def _covering(pieces: Sequence[Piece], dim: int, window: Piece) -> Piece | None:
    return next((p for p in pieces if p.dim == dim and p.start <= window.start and window.end <= p.end), None)


def _call(node: fx.Node, dims: Mapping[str, int], parts: Mapping[str, Piece], window: Piece, dim: int) -> Piece:
    given, start, end = arguments_of(node), window.start, window.end
    slices = {
        name: _part(node, parts[name], start, end)
        if name in parts
        else insert(node, aten.slice.Tensor, given[name], d, start, end)
        for name, d in dims.items()
    }
    cut = any(p.cut for p in parts.values()) or _cuts_batch(node)
    return Piece(dim, start, end, call_on(node, slices, dim, end - start), cut)


def _part(before: fx.Node, piece: Piece, start: int, end: int) -> fx.Node:
    if (start, end) == (piece.start, piece.end):
        return piece.value
    return insert(before, aten.slice.Tensor, piece.value, piece.dim, start - piece.start, end - piece.start)
