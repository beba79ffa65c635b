"""Maxima and other extremes: the winner takes all."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from relprop.ops.linear import Linear
from relprop.ops.op import Call, Op, Relevances, Role
from relprop.ops.pooling import adaptive_averages, averages, fixed, reduced_dims, unreduce
from relprop.ops.resizing import along
from relprop.ops.table import add_ops

aten = torch.ops.aten


def _winner(back: str, dims: int) -> Callable[[Call, Tensor], Relevances]:
    """Send relevance to the maximum of every window; ``back`` names the ATen op that scatters by index."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        names = ("kernel_size", "stride", "padding", "dilation")
        x = call["self"]
        if dims == 1:
            x, relevance = x.unsqueeze(-2), relevance.unsqueeze(-2)
            settings = [[one, *call[name]] if call[name] else [] for name, one in zip(names, (1, 1, 0, 1), strict=True)]
        else:
            settings = [call[name] for name in names]
        pool = aten.max_pool3d_with_indices if dims == 3 else aten.max_pool2d_with_indices
        indices = pool(x, *settings, call["ceil_mode"])[1]
        spread = getattr(aten, back)(relevance, x, *settings, call["ceil_mode"], indices)
        return {"self": spread.squeeze(-2) if dims == 1 else spread}

    return backward


def of_values(relevance: Tensor | list[Tensor | None]) -> Tensor:
    """The relevance of the values of an op that may also return indices."""
    values = relevance[0] if isinstance(relevance, list) else relevance
    if values is None:
        raise RuntimeError("relevance arrived at indices")
    return values


def _winner_with_indices(back: str, dims: int) -> Callable[[Call, list[Tensor | None]], Relevances]:
    single = _winner(back, dims)
    return lambda call, relevance: single(call, of_values(relevance))


def _adaptive_winner(call: Call, relevance: list[Tensor | None]) -> Relevances:
    x, indices, values = call["self"], call.output[1], of_values(relevance)
    spatial = len(call["output_size"])
    flat = torch.zeros_like(x).flatten(-spatial)
    return {"self": flat.scatter_add(-1, indices.flatten(-spatial), values.flatten(-spatial)).reshape(x.shape)}


def extremum_shares(x: Tensor, output: Tensor, relevance: Tensor, dims: list[int], *, keepdim: bool) -> Tensor:
    """Send the relevance of an extremum over ``dims`` to its winners; equal winners share."""
    winners = (x == unreduce(output, dims, keepdim=keepdim)).to(relevance.dtype)
    return winners * (unreduce(relevance, dims, keepdim=keepdim) / winners.sum(dims, keepdim=True))


def _extremum(call: Call, relevance: Tensor) -> Relevances:
    """``amax`` and ``amin``."""
    keepdim = bool(call.arguments.get("keepdim"))
    return {"self": extremum_shares(call["self"], call.output, relevance, reduced_dims(call), keepdim=keepdim)}


def _extremum_with_index(call: Call, relevance: list[Tensor | None]) -> Relevances:
    """``max``, ``min``, ``topk``, ``sort``… along one dimension, with the indices of the winners."""
    x, values, indices = call["self"], of_values(relevance), call.output[1]
    dim, keepdim = call.arguments.get("dim", -1), bool(call.arguments.get("keepdim", True))
    if not keepdim:
        values, indices = values.unsqueeze(dim), indices.unsqueeze(dim)
    return {"self": torch.zeros_like(x).scatter_add(dim, indices, values)}


def _windows(call: Call) -> tuple[Linear, None]:
    """Averages over the windows of a pool of maxima; padding has no part in them."""
    x, kernel = call["self"], call["kernel_size"]
    if all(step == 1 for step in call["dilation"]):
        return averages(call)
    values, dims = call.output[0] if isinstance(call.output, list | tuple) else call.output, len(kernel)
    sizes = x.shape[-dims:], values.shape[-dims:]
    axes = zip(*sizes, kernel, call["stride"] or kernel, call["padding"], call["dilation"], strict=True)
    matrices = [_window_matrix(*axis, like=x) for axis in axes]
    return fixed(lambda x: along(x, matrices), lambda c: along(c, [m.mT for m in matrices]))


def _window_matrix(size_in: int, size_out: int, kernel: int, stride: int, padding: int, dilation: int, *, like: Tensor) -> Tensor:
    """The ``(size_out, size_in)`` matrix of sums over the windows of one axis."""
    starts = torch.arange(size_out, device=like.device) * stride - padding
    offset = torch.arange(size_in, device=like.device) - starts[:, None]
    return ((offset >= 0) & (offset < kernel * dilation) & (offset % dilation == 0)).to(like.dtype)


_MAXIMUM = Op(Role.SELECT, nonnegative="inherits", maximum=True, channels="first")
for _dims in (1, 2, 3):
    _back = "max_pool3d_with_indices_backward" if _dims == 3 else "max_pool2d_with_indices_backward"
    _pool = replace(_MAXIMUM, windows=_windows, needs=("self",))
    add_ops([f"max_pool{_dims}d"], replace(_pool, backward=_winner(_back, _dims)))
    add_ops([f"max_pool{_dims}d_with_indices"], replace(_pool, backward=_winner_with_indices(_back, _dims)))
    _adaptive = replace(_MAXIMUM, windows=adaptive_averages, needs=("output",))
    add_ops([f"adaptive_max_pool{_dims}d"], replace(_adaptive, backward=_adaptive_winner))
_EXTREMUM = Op(Role.SELECT, _extremum, needs=("self", "output"), nonnegative="inherits")
add_ops(["amax"], replace(_EXTREMUM, maximum=True))
add_ops(["amin"], _EXTREMUM)
_WITH_INDEX = Op(Role.SELECT, _extremum_with_index, needs=("output",), nonnegative="inherits")
add_ops(["max.dim"], replace(_WITH_INDEX, maximum=True))
add_ops(["topk", "sort", "kthvalue", "cummax", "cummin", "min.dim", "median.dim", "nanmedian.dim"], _WITH_INDEX)
