"""Ops that move elements without changing them: the relevance of every element goes back to where the element came from."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from relprop.ops.linear import Linear
from relprop.ops.op import ABSORBED, Arguments, Call, MultiplierRule, Op, Relevances, Role
from relprop.ops.table import add_ops

aten = torch.ops.aten


def _moved(inverse: Callable[[Call, Tensor], Tensor]) -> Callable[[Call, Tensor], Relevances]:
    return lambda call, relevance: {call.data: inverse(call, relevance)}


def _reshape(call: Call, relevance: Tensor) -> Tensor:
    return relevance.reshape(call.x.shape)


def _permute(call: Call, relevance: Tensor) -> Tensor:
    dims = [d % relevance.dim() for d in call["dims"]]
    return relevance.permute([dims.index(d) for d in range(len(dims))])


def _transpose(call: Call, relevance: Tensor) -> Tensor:
    return relevance.transpose(call["dim0"], call["dim1"])


def _expand(call: Call, relevance: Tensor) -> Tensor:
    return relevance.sum_to_size(call.x.shape)


def _repeat(call: Call, relevance: Tensor) -> Tensor:
    repeats = list(call.arguments.get("repeats", call.arguments.get("dims")) or [])
    sizes = list(call.x.shape)
    dims = max(len(repeats), len(sizes))
    repeats, sizes = [1] * (dims - len(repeats)) + repeats, [1] * (dims - len(sizes)) + sizes
    folded = relevance.reshape([n for pair in zip(repeats, sizes, strict=True) for n in pair])
    return folded.sum(list(range(0, 2 * dims, 2))).reshape(call.x.shape)


def _repeat_interleave(call: Call, relevance: Tensor) -> Tensor:
    if call["dim"] is None:
        return relevance.reshape(-1, call["repeats"]).sum(1).reshape(call.x.shape)
    dim = call["dim"] % call.x.dim()
    return relevance.unflatten(dim, (call.x.shape[dim], -1)).sum(dim + 1)


def _slice(call: Call, relevance: Tensor) -> Tensor:
    start, end = call["start"] or 0, call["end"] if call["end"] is not None else call.x.shape[call["dim"]]
    return aten.slice_backward(relevance, call.x.shape, call["dim"], start, end, call["step"])


def _select(call: Call, relevance: Tensor) -> Tensor:
    if call.x.shape[call["dim"]] == 1:
        return relevance.unsqueeze(call["dim"])
    return aten.select_backward(relevance, call.x.shape, call["dim"], call["index"])


def _narrow(call: Call, relevance: Tensor) -> Tensor:
    start = call["start"]
    return aten.slice_backward(relevance, call.x.shape, call["dim"], start, start + call["length"], 1)


def _index(call: Call, relevance: Tensor) -> Tensor:
    empty = torch.zeros(call.x.shape, dtype=relevance.dtype, device=relevance.device)
    return aten.index_put(empty, call["indices"], relevance, True)


def _index_select(call: Call, relevance: Tensor) -> Tensor:
    empty = torch.zeros(call.x.shape, dtype=relevance.dtype, device=relevance.device)
    return torch.index_add(empty, call["dim"], call["index"], relevance)


def _gather(call: Call, relevance: Tensor) -> Tensor:
    empty = torch.zeros(call.x.shape, dtype=relevance.dtype, device=relevance.device)
    return torch.scatter_add(empty, call["dim"], call["index"], relevance)


def _roll(call: Call, relevance: Tensor) -> Tensor:
    return torch.roll(relevance, [-s for s in call["shifts"]], call["dims"])


def _flip(call: Call, relevance: Tensor) -> Tensor:
    return torch.flip(relevance, call["dims"])


def _unfold(call: Call, relevance: Tensor) -> Tensor:
    dim = call["dimension"] % call.x.dim()
    frames = relevance.movedim(dim, -2)
    first, within = (torch.arange(n, device=relevance.device) for n in frames.shape[-2:])
    places = (first[:, None] * call["step"] + within).flatten()
    empty = torch.zeros(call.x.movedim(dim, -1).shape, dtype=relevance.dtype, device=relevance.device)
    return empty.index_add(-1, places, frames.flatten(-2)).movedim(-1, dim)


def _im2col(call: Call, relevance: Tensor) -> Tensor:
    settings = [call[name] for name in ("kernel_size", "dilation", "padding", "stride")]
    return aten.col2im(relevance, call.x.shape[-2:], *settings)


def _pixel_shuffle(call: Call, relevance: Tensor) -> Tensor:
    return aten.pixel_unshuffle(relevance, call["upscale_factor"])


def _pixel_unshuffle(call: Call, relevance: Tensor) -> Tensor:
    return aten.pixel_shuffle(relevance, call["downscale_factor"])


def _with_constants(inverse: Callable[[Call, Tensor], Tensor]) -> Callable[[Call, Tensor], Relevances]:
    """Backward of an op that moves elements among zeros or other constants, which absorb what they take."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        found = inverse(call, relevance)
        absorbed = call.layout.sum(relevance, call.batch) - call.layouts[call.data].sum(found, call.batch)
        return {call.data: found, ABSORBED: absorbed}

    return backward


def _constant_pad(call: Call, relevance: Tensor) -> Tensor:
    return aten.constant_pad_nd(relevance, [-p for p in call["pad"]])


def _unpool(call: Call, relevance: Tensor) -> Tensor:
    """``max_unpool``: what several windows write to one place is the same value, and they share."""
    dims = len(call["output_size"])
    places, flat = call["indices"].flatten(-dims), relevance.flatten(-dims)
    count = (
        torch.zeros_like(call.x.flatten(-dims)[..., :1])
        .expand(flat.shape)
        .scatter_add(-1, places, torch.ones_like(places, dtype=flat.dtype))
    )
    return (flat.gather(-1, places) / count.gather(-1, places)).reshape(call.x.shape)


def _pad_back(name: str) -> Callable[[Call, Tensor], Tensor]:
    def inverse(call: Call, relevance: Tensor) -> Tensor:
        return getattr(aten, name)(relevance, call.x, call["padding"])

    return inverse


def _stack(call: Call, relevance: Tensor) -> Relevances:
    return {"tensors": list(relevance.unbind(call["dim"]))}


def _cat(call: Call, relevance: Tensor) -> Relevances:
    dim = call["dim"]
    # an empty tensor of one dimension is legal in a concatenation and takes nothing
    sizes = [0 if t.dim() != relevance.dim() else t.shape[dim] for t in call["tensors"]]
    return {"tensors": list(relevance.split(sizes, dim))}


def _parts(relevance: Sequence[Tensor | None], shapes: Sequence[Tensor]) -> list[Tensor]:
    """Fill the parts without relevance with zeros."""
    some = next(r for r in relevance if r is not None)
    pairs = zip(relevance, shapes, strict=True)
    return [torch.zeros(s.shape, dtype=some.dtype, device=some.device) if r is None else r for r, s in pairs]


def _split(call: Call, relevance: list[Tensor | None]) -> Relevances:
    return {"self": torch.cat(_parts(relevance, call.output), call["dim"])}


def _unbind(call: Call, relevance: list[Tensor | None]) -> Relevances:
    return {"self": torch.stack(_parts(relevance, call.output), call["dim"])}


def _diagonal(call: Call, relevance: Tensor) -> Tensor:
    return aten.diagonal_backward(relevance, call.x.shape, call["offset"], call["dim1"], call["dim2"])


def _written(
    source: str, read: Callable[[Call, Tensor], Tensor], clear: Callable[[Call, Tensor], Tensor]
) -> Callable[[Call, Tensor], Relevances]:
    """Backward of writing ``source`` into a region of a tensor: ``read`` gives the region's relevance, ``clear`` sets it to zero."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        rest = clear(call, relevance)
        if source in call.operands:
            return {"self": rest, source: read(call, relevance)}
        return {"self": rest, ABSORBED: call.layout.sum(relevance - rest, call.batch)}

    return backward


def _slice_of(call: Call, relevance: Tensor) -> Tensor:
    return aten.slice(relevance, call["dim"], *_bounds(call, relevance))


def _without_slice(call: Call, relevance: Tensor) -> Tensor:
    nothing = torch.zeros_like(_slice_of(call, relevance))
    return aten.slice_scatter(relevance, nothing, call["dim"], *_bounds(call, relevance))


def _bounds(call: Call, relevance: Tensor) -> tuple[int, int, int]:
    """Start, end and step of a slice, the end no further than the size."""
    size = relevance.shape[call["dim"]]
    return call["start"] or 0, size if call["end"] is None else min(call["end"], size), call["step"]


def _selected(call: Call, relevance: Tensor) -> Tensor:
    return relevance.select(call["dim"], call["index"])


def _without_selected(call: Call, relevance: Tensor) -> Tensor:
    return torch.select_scatter(relevance, torch.zeros_like(_selected(call, relevance)), call["dim"], call["index"])


def _scattered(call: Call, relevance: Tensor) -> Tensor:
    """The relevance of what ``scatter`` wrote; it may read a corner of its source only."""
    index, source = call["index"], call["src"]
    ends = [end for size, used in zip(source.shape, index.shape, strict=True) for end in (size - used, 0)]
    return aten.constant_pad_nd(relevance.gather(call["dim"], index), ends[::-1])


def _without_scattered(call: Call, relevance: Tensor) -> Tensor:
    return relevance.scatter(call["dim"], call["index"], 0.0)


def _reinterpretation(arguments: Mapping[str, Any]) -> str:
    """``view`` in another dtype reads other numbers from the same memory."""
    return "as a dtype" if "dtype" in arguments else ""


def _reduction(arguments: Mapping[str, Any]) -> str:
    """``scatter`` that adds to what is there, or multiplies it, does not overwrite."""
    return f"with reduce={arguments['reduce']!r}" if arguments.get("reduce") else ""


def _filled(call: Call, relevance: Tensor) -> Tensor:
    return (relevance - _without_filled(call, relevance)).sum_to_size(call["value"].shape)  # an index may be named twice


def _without_filled(call: Call, relevance: Tensor) -> Tensor:
    return relevance.index_fill(call["dim"], call["index"], 0.0)


def _inserted(call: Call, relevance: Tensor) -> Tensor:
    """The relevance of what ``masked_scatter`` wrote: the first elements of its source, in order."""
    mask = call["mask"].expand(relevance.shape).flatten()
    place = (mask.cumsum(0) - 1).clamp(min=0)
    found = torch.zeros(call["source"].numel(), dtype=relevance.dtype, device=relevance.device)
    return found.index_add(0, place, relevance.flatten() * mask).reshape(call["source"].shape)


def _without_inserted(call: Call, relevance: Tensor) -> Tensor:
    return relevance * ~call["mask"]


def _put(call: Call, relevance: Tensor) -> Tensor:
    return relevance[positions(call)].sum_to_size(call["values"].shape)


def _without_put(call: Call, relevance: Tensor) -> Tensor:
    return aten.index_put(relevance, list(call["indices"]), relevance.new_zeros(()))


def _col2im(call: Call) -> tuple[Linear, None]:
    x, size = call.x, call["output_size"]
    settings = [call[name] for name in ("kernel_size", "dilation", "padding", "stride")]
    forward, back = (lambda x, _: aten.col2im(x, size, *settings)), (lambda c, _: aten.im2col(c, *settings).reshape(x.shape))  # pyright: ignore[reportUnknownLambdaType]
    return Linear(None, forward, back, nonnegative=True), None


def positions(call: Call) -> tuple[Any, ...]:
    """The places of ``index_put``, as Python indexes them."""
    return tuple(slice(None) if index is None else index for index in call["indices"])


def _same_order(arguments: Arguments, output: Tensor, dim: int) -> dict[str, int] | None:
    """The dimension of the same size before which, and after which, as many elements lie."""
    shape, own = output.shape, arguments["self"].shape
    for d, size in enumerate(own):
        if size == shape[dim] and math.prod(own[d + 1 :]) == math.prod(shape[dim + 1 :]):
            return {"self": d}
    return None


def _slices_of_select(arguments: Arguments, output: Tensor, dim: int) -> dict[str, int]:
    taken = arguments["dim"] % (output.dim() + 1)
    return {"self": dim + (taken <= dim)}


def _slices_of_cut(arguments: Arguments, output: Tensor, dim: int) -> dict[str, int] | None:
    return {"self": dim} if dim != arguments["dim"] % output.dim() else None


def _slices_of_squeeze(arguments: Arguments, output: Tensor, dim: int) -> dict[str, int] | None:
    if not isinstance(arguments.get("dim"), int):
        return _same_order(arguments, output, dim)
    dims = arguments["self"].dim()
    return {"self": dim + (dims > output.dim() and arguments["dim"] % dims <= dim)}


def _slices_of_unsqueeze(arguments: Arguments, output: Tensor, dim: int) -> dict[str, int] | None:
    added = arguments["dim"] % output.dim()
    return {"self": dim - (added < dim)} if dim != added else None


def _slices_of_unflatten(arguments: Arguments, _: Tensor, dim: int) -> dict[str, int] | None:
    divided, pieces = arguments["dim"] % arguments["self"].dim(), len(arguments["sizes"])
    if dim < divided:
        return {"self": dim}
    return {"self": dim - pieces + 1} if dim >= divided + pieces else None


def _slices_of_permutation(arguments: Arguments, output: Tensor, dim: int) -> dict[str, int]:
    return {"self": _order(arguments, output.dim())[dim]}


def _order(arguments: Arguments, dims: int) -> list[int]:
    """The permutation of ``permute``, ``transpose`` and ``t``."""
    if "dims" in arguments:
        return [d % dims for d in arguments["dims"]]
    order = list(range(dims))
    first, second = (arguments[name] % dims for name in ("dim0", "dim1")) if "dim0" in arguments else (0, dims - 1)
    order[first], order[second] = second, first
    return order


def _repeats(arguments: Arguments, dims: int) -> tuple[int | None, int]:
    dim = arguments["dim"]
    return None if dim is None else dim % dims, arguments["repeats"]


def _shape_op(inverse: Callable[[Call, Tensor], Tensor], needs: tuple[str, ...] = ()) -> Op:
    """An op that moves elements of one operand; multipliers move like relevance."""
    back = _moved(inverse)
    multiplier = MultiplierRule(back, throughout=True)
    return Op(Role.SHAPE, back, needs=needs, nonnegative="inherits", multiplier=multiplier)


_RESHAPE = replace(_shape_op(_reshape), reshapes=True)
add_ops(["reshape", "flatten"], replace(_RESHAPE, slices=_same_order))
add_ops(["view", "_unsafe_view"], replace(_RESHAPE, limit=_reinterpretation))
add_ops(["view_as", "reshape_as"], replace(_RESHAPE, reads=("self",)))
add_ops(["unflatten"], replace(_RESHAPE, slices=_slices_of_unflatten))
add_ops(["squeeze"], replace(_RESHAPE, slices=_slices_of_squeeze))
add_ops(["unsqueeze"], replace(_RESHAPE, slices=_slices_of_unsqueeze))
add_ops(["permute"], replace(_shape_op(_permute), order=_order, slices=_slices_of_permutation))
add_ops(["transpose"], replace(_shape_op(_transpose), order=_order, slices=_slices_of_permutation))
add_ops(["t"], replace(_shape_op(lambda _, relevance: relevance.t()), order=_order))
add_ops(["expand", "broadcast_to"], _shape_op(_expand))
add_ops(["expand_as"], replace(_shape_op(_expand), reads=("self",)))
add_ops(["repeat", "tile"], _shape_op(_repeat))
add_ops(["repeat_interleave.self_int"], replace(_shape_op(_repeat_interleave), repeats=_repeats))
add_ops(["slice"], replace(_shape_op(_slice), cuts=True, slices=_slices_of_cut))
add_ops(["select"], replace(_shape_op(_select), slices=_slices_of_select))
add_ops(["narrow"], replace(_shape_op(_narrow), cuts=True, slices=_slices_of_cut))
add_ops(["index"], _shape_op(_index, needs=("indices",)))
add_ops(["index_select"], replace(_shape_op(_index_select, needs=("index",)), cuts=True, slices=_slices_of_cut))
add_ops(["gather"], _shape_op(_gather, needs=("index",)))
add_ops(["roll"], _shape_op(_roll))
add_ops(["flip"], _shape_op(_flip))
add_ops(["unfold"], _shape_op(_unfold))
_FRAMES = MultiplierRule(_moved(_im2col), throughout=True)  # the zeros around the image have no relevance x c
add_ops(["im2col"], Op(Role.SHAPE, _with_constants(_im2col), nonnegative="inherits", multiplier=_FRAMES))
add_ops(["max_unpool2d", "max_unpool3d"], Op(Role.SHAPE, _with_constants(_unpool), needs=("indices",), nonnegative="inherits"))
add_ops(["diagonal"], _shape_op(_diagonal))
add_ops(["pixel_shuffle"], _shape_op(_pixel_shuffle))
add_ops(["pixel_unshuffle"], _shape_op(_pixel_unshuffle))
for _kind in ("reflection", "replication"):
    for _dims in (1, 2, 3):
        add_ops([f"{_kind}_pad{_dims}d"], _shape_op(_pad_back(f"{_kind}_pad{_dims}d_backward")))
add_ops(["col2im"], Op(Role.POOL, linear=_col2im, nonnegative="inherits"))
add_ops(["constant_pad_nd"], Op(Role.SHAPE, _with_constants(_constant_pad)))
add_ops(["stack"], Op(Role.SHAPE, _stack, data=("tensors",), nonnegative="inherits"))
add_ops(["cat"], Op(Role.SHAPE, _cat, data=("tensors",), nonnegative="inherits", cuts=True))
add_ops(["split", "split_with_sizes", "chunk", "tensor_split"], Op(Role.SHAPE, _split, nonnegative="inherits"))
add_ops(["unbind"], Op(Role.SHAPE, _unbind, nonnegative="inherits"))
_WRITES = {
    "masked_scatter": ("source", _inserted, _without_inserted, ("mask",)),
    "slice_scatter": ("src", _slice_of, _without_slice, ()),
    "select_scatter": ("src", _selected, _without_selected, ()),
    "scatter": ("src", _scattered, _without_scattered, ("index",)),
    "index_fill": ("value", _filled, _without_filled, ("index",)),
}
for _name, (_source, _read, _clear, _needs) in _WRITES.items():
    _back = _written(_source, _read, _clear)
    _writes = Op(Role.SHAPE, _back, data=("self", _source, "value"), needs=_needs, limit=_reduction, nonnegative="inherits")
    add_ops([_name], _writes)
_back = _written("values", _put, _without_put)
add_ops(
    ["index_put"],
    Op(Role.SHAPE, _back, data=("self", "values"), needs=("indices",), nonnegative="inherits"),
)
add_ops(
    ["copy"],
    Op(Role.SHAPE, lambda call, relevance: {"src": relevance.sum_to_size(call["src"].shape)}, data=("src",), reads=("src",)),
)
