"""Only what is read is computed: where a model reads one token of many, the ops before it that treat tokens one by one see that token alone."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

from relprop.graph.nodes import OUTPUTS, WINDOWS, Window, insert, replace, value_of
from relprop.graph.passes.constants import drop_unused
from relprop.ops.elementwise import NON_NEGATIVE, SIGNED
from relprop.ops.op import op_name
from relprop.ops.table import arguments_of

aten = torch.ops.aten
_ELEMENTWISE = frozenset(
    f"aten::{name}" for name in (*NON_NEGATIVE.split(), *SIGNED.split(), "pow", "neg", "add", "mul", "div", "to", "_to_copy")
) - {"aten::prelu"}
"""Ops on every element alone, whose tensors broadcast; the weights of ``prelu`` do not."""

Dims = Mapping[str, int]
"""By argument that is read window by window, the dimension in which the window lies."""


class Reader(NamedTuple):
    """An op that reads a part of a value: a slice, or a selected position."""

    node: fx.Node
    dim: int
    start: int
    end: int

    @property
    def keeps_dim(self) -> bool:
        """Whether the dimension stays."""
        return self.node.target is aten.slice.Tensor


def compute_windows(module: fx.GraphModule) -> None:
    """Move slices and selections that leave at most half of a value ahead of what computes it, as far as they go.

    What modules returned is noted at the narrowed values: :func:`relprop.graph.nodes.widened` gives it back in full, zero outside of the window.
    """
    for node in reversed(list(module.graph.nodes)):
        readers = readers_of(node)
        if not readers:
            continue
        dim, size = readers[0].dim, value_of(node).shape[readers[0].dim]
        start, end = min(r.start for r in readers), max(r.end for r in readers)
        if 0 <= start < end and 2 * (end - start) <= size:
            dims = _dims(node, dim)
            if dims:
                _narrow(node, readers, dims, Window(dim, start, size), end - start)
    drop_unused(module)


def readers_of(node: fx.Node) -> list[Reader]:
    """The users of a value, where all of them read parts of it, in the same dimension."""
    if node.op != "call_function" or not isinstance(value_of(node), Tensor):
        return []
    readers = [_reader(user, node) for user in node.users]
    found = [r for r in readers if r is not None]
    return found if len(found) == len(readers) and len({r.dim for r in found}) == 1 else []


def _reader(user: fx.Node, node: fx.Node) -> Reader | None:
    if user.target not in {aten.slice.Tensor, aten.select.int}:
        return None
    given, shape = arguments_of(user), value_of(node).shape
    dim = given["dim"] % len(shape)
    size = shape[dim]
    if not isinstance(size, int):
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
    """Compute a window of a value, and let its readers read from that."""
    given = arguments_of(node)
    for name, dim in dims.items():
        given[name] = insert(node, aten.slice.Tensor, given[name], dim, window.start, window.start + length)
    if "shape" in given:
        given["shape"] = [length if d == window.dim else size for d, size in enumerate(given["shape"])]
    args, kwargs = [given[name] for name, _ in zip(given, node.args, strict=False)], {name: given[name] for name in node.kwargs}
    new = insert(node, node.target, *args, **kwargs)
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


def _dims(node: fx.Node, dim: int) -> Dims | None:
    """Where the window of a value lies in the arguments of the op that computes it; None where the op needs more than a window."""
    name, given = op_name(node.target), arguments_of(node)
    if name in _DIMS:
        return _DIMS[name](node, given, dim)
    return _of_elementwise(node, given, dim) if name in _ELEMENTWISE else None


def _of_elementwise(node: fx.Node, given: Mapping[str, Any], dim: int) -> Dims | None:
    shape, dims = value_of(node).shape, dict[str, int]()
    for name, argument in given.items():
        if not isinstance(argument, fx.Node) or not isinstance(value_of(argument), Tensor):
            continue
        own = value_of(argument).shape
        aligned = dim - (len(shape) - len(own))
        if aligned >= 0 and own[aligned] != 1:
            dims[name] = aligned
    return dims


def _of_linear(node: fx.Node, _: Mapping[str, Any], dim: int) -> Dims | None:
    return {"input": dim} if dim < value_of(node).dim() - 1 else None


def _of_norm(node: fx.Node, given: Mapping[str, Any], dim: int) -> Dims | None:
    return {"input": dim} if dim < value_of(node).dim() - len(given["normalized_shape"]) else None


def _of_softmax(node: fx.Node, given: Mapping[str, Any], dim: int) -> Dims | None:
    return {"self": dim} if dim != given["dim"] % value_of(node).dim() else None


def _of_matmul(node: fx.Node, given: Mapping[str, Any], dim: int) -> Dims | None:
    dims = [value_of(given[name]).dim() for name in ("self", "other")]
    if min(dims) < 2 or dim < value_of(node).dim() - 2:
        return None
    return {"self": dims[0] - 2} if dim == value_of(node).dim() - 2 else {"other": dims[1] - 1}


def _of_transpose(node: fx.Node, given: Mapping[str, Any], dim: int) -> Dims:
    first, second = (given[name] % value_of(node).dim() for name in ("dim0", "dim1"))
    return {"self": {first: second, second: first}.get(dim, dim)}


def _of_permute(node: fx.Node, given: Mapping[str, Any], dim: int) -> Dims:
    return {"self": given["dims"][dim] % value_of(node).dim()}


def _of_select(node: fx.Node, given: Mapping[str, Any], dim: int) -> Dims:
    taken = given["dim"] % (value_of(node).dim() + 1)
    return {"self": dim + (taken <= dim)}


def _of_squeeze(node: fx.Node, given: Mapping[str, Any], dim: int) -> Dims:
    dims = value_of(given["self"]).dim()
    return {"self": dim + (dims > value_of(node).dim() and given["dim"] % dims <= dim)}


def _of_unsqueeze(node: fx.Node, given: Mapping[str, Any], dim: int) -> Dims | None:
    added = given["dim"] % value_of(node).dim()
    return {"self": dim - (added < dim)} if dim != added else None


def _of_unflatten(_: fx.Node, given: Mapping[str, Any], dim: int) -> Dims | None:
    divided, pieces = given["dim"] % value_of(given["self"]).dim(), len(given["sizes"])
    if dim < divided:
        return {"self": dim}
    return {"self": dim - pieces + 1} if dim >= divided + pieces else None


def _of_reshape(node: fx.Node, given: Mapping[str, Any], dim: int) -> Dims | None:
    """The dimension of the same size before which, and after which, as many elements lie."""
    shape, own = value_of(node).shape, value_of(given["self"]).shape
    for d, size in enumerate(own):
        if statically_known_true(size == shape[dim]) and statically_known_true(
            math.prod(own[d + 1 :]) == math.prod(shape[dim + 1 :])
        ):
            return {"self": d}
    return None


_DIMS: Mapping[str, Callable[[fx.Node, Mapping[str, Any], int], Dims | None]] = {
    "aten::flatten": _of_reshape,
    "aten::layer_norm": _of_norm,
    "aten::linear": _of_linear,
    "aten::matmul": _of_matmul,
    "aten::permute": _of_permute,
    "aten::reshape": _of_reshape,
    "aten::rms_norm": _of_norm,
    "aten::select": _of_select,
    "aten::softmax": _of_softmax,
    "aten::squeeze": _of_squeeze,
    "aten::transpose": _of_transpose,
    "aten::unflatten": _of_unflatten,
    "aten::unsqueeze": _of_unsqueeze,
}
"""By op, where a window of its result lies in its arguments."""
