"""Push slices towards the inputs (dead-code elimination along a dimension): if only the class token is read, compute only its row."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from relprop.graph.nodes import OUTPUTS, WINDOWS, Size, Window, insert, replace, shape_of, twin_of, value_of
from relprop.graph.passes.constants import drop_unused
from relprop.ops.table import arguments_of, entry

aten = torch.ops.aten
Dims = Mapping[str, int]
"""The dimension of the slice, by argument."""


class Reader(NamedTuple):
    """A slice or selection of a value: the part ``start:end`` of a dimension."""

    node: fx.Node
    dim: int
    start: int
    end: int

    @property
    def keeps_dim(self) -> bool:
        """Whether the dimension stays."""
        return self.node.target is aten.slice.Tensor


def compute_windows(module: fx.GraphModule) -> None:
    """Push slices and selections of at most half of a value before the op that computes it, as far towards the inputs as possible.

    Outputs of modules stay marked at the narrowed values; :func:`relprop.graph.nodes.widened` pads their relevance with zeros.
    """
    for node in reversed(list(module.graph.nodes)):
        readers = readers_of(node)
        if not readers:
            continue
        dim, size = readers[0].dim, value_of(node).shape[readers[0].dim]
        start, end = min(r.start for r in readers), max(r.end for r in readers)
        if 0 <= start < end and 2 * (end - start) <= size:
            dims = dims_of_slices(node, dim)
            if dims:
                _narrow(node, readers, dims, Window(dim, start, size), end - start)
    drop_unused(module)


def readers_of(node: fx.Node) -> list[Reader]:
    """The readers of a value, if all of them read slices of it in the same dimension."""
    if node.op != "call_function" or not isinstance(value_of(node), Tensor):
        return []
    readers = [reader_of(user, node) for user in node.users]
    found = [r for r in readers if r is not None]
    return found if len(found) == len(readers) and len({r.dim for r in found}) == 1 else []


def reader_of(user: fx.Node, node: fx.Node) -> Reader | None:
    """What a user of a value reads, if that is a slice with step one or a selection, at places that do not depend on the batch."""
    if user.target not in {aten.slice.Tensor, aten.select.int}:
        return None
    given, shape = arguments_of(user), shape_of(node)
    dim = given["dim"] % len(shape)
    size = shape[dim]
    if isinstance(size, Size):
        return None
    if user.target is aten.select.int:
        index = given["index"]
        return Reader(user, dim, index % size, index % size + 1) if isinstance(index, int) else None
    start, end = given["start"] or 0, size if given["end"] is None else given["end"]
    if given["step"] != 1 or not (isinstance(start, int) and isinstance(end, int)):
        return None
    ends = (min(max(at + size if at < 0 else at, 0), size) for at in (start, end))
    return Reader(user, dim, *ends)


def _narrow(node: fx.Node, readers: list[Reader], dims: Dims, window: Window, length: int) -> None:
    """Compute only a window of a value, and shift its readers' slices accordingly."""
    given, end = arguments_of(node), window.start + length
    slices = {name: insert(node, aten.slice.Tensor, given[name], dim, window.start, end) for name, dim in dims.items()}
    new = call_on(node, slices, window.dim, length)
    windows = node.meta.get(WINDOWS, {})
    new.meta[WINDOWS] = {path: (*windows.get(path, ()), window) for path in node.meta.get(OUTPUTS, ())}
    for user, dim, start, end in readers:
        part = new
        if user.target is aten.select.int:
            part = insert(user, aten.select.int, new, dim, start - window.start)
        elif end - start < length:
            part = insert(user, aten.slice.Tensor, new, dim, start - window.start, end - window.start)
        replace(user, part)
    replace(node, new)


def call_on(node: fx.Node, slices: Mapping[str, fx.Node], dim: int, length: int) -> fx.Node:
    """Insert the same call on slices of arguments, which makes a slice of the value."""
    given: dict[str, Any] = {**arguments_of(node), **slices}
    if "shape" in given:
        given["shape"] = [length if d == dim else size for d, size in enumerate(given["shape"])]
    args, kwargs = [given[name] for name, _ in zip(given, node.args, strict=False)], {name: given[name] for name in node.kwargs}
    return insert(node, node.target, *args, **kwargs)


def dims_of_slices(node: fx.Node, dim: int) -> Dims | None:
    """The dimensions in which to slice the arguments for a slice of the value; None where slices of arguments do not suffice."""
    op = entry(node)
    if op is None or op.slices is None:
        return None
    found = [
        op.slices({name: read(argument) for name, argument in arguments_of(node).items()}, read(node), dim)
        for read in (value_of, twin_of)
    ]
    return found[0] if found[0] == found[1] else None
