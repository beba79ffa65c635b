"""Ops that move elements without changing them: the relevance of every element goes back to where the element came from."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from relprop.ops.linear import Linear
from relprop.ops.op import ABSORBED, Call, MultiplierRule, Op, Relevances, Role
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
    return aten.unfold_backward(relevance, call.x.shape, call["dimension"], call["size"], call["step"])


def _im2col(call: Call, relevance: Tensor) -> Tensor:
    settings = [call[name] for name in ("kernel_size", "dilation", "padding", "stride")]
    return aten.col2im(relevance, call.x.shape[-2:], *settings)


def _pixel_shuffle(call: Call, relevance: Tensor) -> Tensor:
    return aten.pixel_unshuffle(relevance, call["upscale_factor"])


def _pixel_unshuffle(call: Call, relevance: Tensor) -> Tensor:
    return aten.pixel_shuffle(relevance, call["downscale_factor"])


def _constant_pad(call: Call, relevance: Tensor) -> Relevances:
    inner = aten.constant_pad_nd(relevance, [-p for p in call["pad"]])
    return {"self": inner, ABSORBED: call.layout.sum(relevance, call.batch) - call.layouts["self"].sum(inner, call.batch)}


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
    """Replace the parts that no one used by zeros."""
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
    """Writing ``source`` into a region of a tensor: ``read`` takes the region's relevance, ``clear`` leaves the rest to the tensor."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        rest = clear(call, relevance)
        if source in call.active:
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


def _filled(call: Call, relevance: Tensor) -> Tensor:
    return relevance.index_select(call["dim"], call["index"]).sum_to_size(call["value"].shape)


def _without_filled(call: Call, relevance: Tensor) -> Tensor:
    return relevance.index_fill(call["dim"], call["index"], 0.0)


def _accumulation(arguments: Mapping[str, Any]) -> str:
    return "with accumulate=True" if arguments["accumulate"] else ""


def _put(call: Call, relevance: Tensor) -> Tensor:
    return relevance[_positions(call)].sum_to_size(call["values"].shape)


def _without_put(call: Call, relevance: Tensor) -> Tensor:
    return aten.index_put(relevance, list(call["indices"]), relevance.new_zeros(()))


def _col2im(call: Call) -> tuple[Linear, None]:
    x, size = call.x, call["output_size"]
    settings = [call[name] for name in ("kernel_size", "dilation", "padding", "stride")]
    forward, back = (lambda x, _: aten.col2im(x, size, *settings)), (lambda c, _: aten.im2col(c, *settings).reshape(x.shape))  # pyright: ignore[reportUnknownLambdaType]
    return Linear(None, forward, back, nonnegative=True), None


def _positions(call: Call) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in call["indices"])


def _add_shape(names: list[str], inverse: Callable[[Call, Tensor], Tensor], needs: tuple[str, ...] = ()) -> None:
    back = _moved(inverse)
    add_ops(names, Op(Role.SHAPE, back, needs=needs, keeps_sign="inherits", multiplier=MultiplierRule(back, throughout=True)))


_add_shape(["view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"], _reshape)
_add_shape(["permute"], _permute)
_add_shape(["transpose"], _transpose)
_add_shape(["t"], lambda _, relevance: relevance.t())
_add_shape(["expand", "expand_as", "broadcast_to"], _expand)
_add_shape(["repeat", "tile"], _repeat)
_add_shape(["repeat_interleave"], _repeat_interleave)
_add_shape(["slice"], _slice)
_add_shape(["select"], _select)
_add_shape(["narrow"], _narrow)
_add_shape(["index"], _index, needs=("indices",))
_add_shape(["index_select"], _index_select, needs=("index",))
_add_shape(["gather"], _gather, needs=("index",))
_add_shape(["roll"], _roll)
_add_shape(["flip"], _flip)
_add_shape(["unfold"], _unfold)
_add_shape(["im2col"], _im2col)
_add_shape(["diagonal"], _diagonal)
_add_shape(["pixel_shuffle"], _pixel_shuffle)
_add_shape(["pixel_unshuffle"], _pixel_unshuffle)
for _kind in ("reflection", "replication"):
    for _dims in (1, 2, 3):
        _add_shape([f"{_kind}_pad{_dims}d"], _pad_back(f"{_kind}_pad{_dims}d_backward"))
add_ops(["col2im"], Op(Role.POOL, linear=_col2im, keeps_sign="inherits"))
add_ops(["constant_pad_nd"], Op(Role.SHAPE, _constant_pad))
add_ops(["stack"], Op(Role.SHAPE, _stack, data=("tensors",), keeps_sign="inherits"))
add_ops(["cat"], Op(Role.SHAPE, _cat, data=("tensors",), keeps_sign="inherits"))
add_ops(["split", "split_with_sizes", "chunk", "tensor_split"], Op(Role.SHAPE, _split, keeps_sign="inherits"))
add_ops(["unbind"], Op(Role.SHAPE, _unbind, keeps_sign="inherits"))
_WRITES = {
    "slice_scatter": ("src", _slice_of, _without_slice, ()),
    "select_scatter": ("src", _selected, _without_selected, ()),
    "scatter": ("src", _scattered, _without_scattered, ("index",)),
    "index_fill": ("value", _filled, _without_filled, ("index",)),
}
for _name, (_source, _read, _clear, _needs) in _WRITES.items():
    _back = _written(_source, _read, _clear)
    add_ops([_name], Op(Role.SHAPE, _back, data=("self", _source), needs=_needs, keeps_sign="inherits"))
_back = _written("values", _put, _without_put)
add_ops(
    ["index_put"],
    Op(Role.SHAPE, _back, data=("self", "values"), needs=("indices",), limit=_accumulation, keeps_sign="inherits"),
)
add_ops(["copy"], Op(Role.SHAPE, lambda call, relevance: {"src": relevance.sum_to_size(call["src"].shape)}, data=("src",)))
