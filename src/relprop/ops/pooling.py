"""Averages, sums and resizing (linear, with fixed weights) and maxima (the winner takes all)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from relprop.ops.linear import Linear
from relprop.ops.op import Call, Op, Relevances, Role
from relprop.ops.table import add_ops

aten = torch.ops.aten


def _fixed(forward: Callable[[Tensor], Tensor], transpose: Callable[[Tensor], Tensor]) -> tuple[Linear, None]:
    return Linear(None, lambda x, _: forward(x), lambda c, _: transpose(c), nonnegative=True), None


def _average_pool(call: Call) -> tuple[Linear, None]:
    x, dims = call["self"], len(call["kernel_size"])
    settings = [call[name] for name in ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")]
    pool, back = (aten.avg_pool2d, aten.avg_pool2d_backward) if dims == 2 else (aten.avg_pool3d, aten.avg_pool3d_backward)
    return _fixed(lambda x: pool(x, *settings), lambda c: back(c, x, *settings))


def _average_pool1d(call: Call) -> tuple[Linear, None]:
    x = call["self"].unsqueeze(-2)
    kernel, stride, padding = (
        [one, *call[name]] if call[name] else [] for name, one in (("kernel_size", 1), ("stride", 1), ("padding", 0))
    )
    settings = [kernel, stride, padding, call["ceil_mode"], call["count_include_pad"], None]
    return _fixed(
        lambda x: aten.avg_pool2d(x.unsqueeze(-2), *settings).squeeze(-2),
        lambda c: aten.avg_pool2d_backward(c.unsqueeze(-2), x, *settings).squeeze(-2),
    )


def _adaptive_average_pool(call: Call) -> tuple[Linear, None]:
    x, size = call["self"], call["output_size"]
    if len(size) == 1:
        x1 = x.unsqueeze(-2)
        return _fixed(
            lambda x: aten.adaptive_avg_pool1d(x, size),
            lambda c: aten._adaptive_avg_pool2d_backward(c.unsqueeze(-2), x1).squeeze(-2),
        )
    if len(size) == 2:
        return _fixed(lambda x: aten.adaptive_avg_pool2d(x, size), lambda c: aten._adaptive_avg_pool2d_backward(c, x))
    return _fixed(lambda x: aten.adaptive_avg_pool3d(x, size), lambda c: aten._adaptive_avg_pool3d_backward(c, x))


def reduced_dims(call: Call) -> list[int]:
    """The dimensions that a reduction drops: those given, or all."""
    x, dims = call["self"], call.arguments.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    return sorted(d % x.dim() for d in dims) if dims else list(range(x.dim()))


def unreduce(values: Tensor, dims: Sequence[int], *, keepdim: bool) -> Tensor:
    """Put back the dimensions that a reduction over ``dims`` dropped, as size 1."""
    if keepdim:
        return values
    for dim in dims:
        values = values.unsqueeze(dim)
    return values


def _reduction(call: Call, *, mean: bool) -> tuple[Linear, None]:
    x, dims, keepdim = call["self"], reduced_dims(call), bool(call.arguments.get("keepdim"))
    scale = 1 / math.prod(x.shape[d] for d in dims) if mean else 1.0
    return _fixed(
        lambda x: x.sum(dims, keepdim=keepdim) * scale,
        lambda c: (unreduce(c, dims, keepdim=keepdim) * scale).expand(x.shape),
    )


def _mean(call: Call) -> tuple[Linear, None]:
    return _reduction(call, mean=True)


def _sum(call: Call) -> tuple[Linear, None]:
    return _reduction(call, mean=False)


def _cumsum(call: Call) -> tuple[Linear, None]:
    dim = call["dim"]
    return _fixed(lambda x: x.cumsum(dim), lambda c: c.flip(dim).cumsum(dim).flip(dim))


def _bicubic(arguments: Mapping[str, Any]) -> str:
    """Bicubic sampling has weights of both signs, which no table holds."""
    return "with mode='bicubic'" if arguments["interpolation_mode"] == 2 else ""


def _grid_sample(call: Call) -> tuple[Linear, None]:
    x, settings = call["input"], (call["grid"], *(call[name] for name in ("interpolation_mode", "padding_mode", "align_corners")))
    dims = x.dim() - 2
    sample = {2: aten.grid_sampler_2d, 3: aten.grid_sampler_3d}[dims]
    back = {2: aten.grid_sampler_2d_backward, 3: aten.grid_sampler_3d_backward}[dims]
    return _fixed(lambda x: sample(x, *settings), lambda c: back(c, x, *settings, [True, False])[0])


def _scales(call: Call) -> list[float | None]:
    """The scale of every spatial axis, None where only its size is given: a list in one overload, an argument per axis in the other."""
    by_axis = [scale for name, scale in call.arguments.items() if name.startswith("scales")]
    return call.arguments.get("scale_factors") or by_axis or [None] * (call.x.dim() - 2)


def _resize_matrix(mode: str, size_in: int, size_out: int, scale: float | None, call: Call) -> Tensor:
    """The ``(size_out, size_in)`` weights of resizing one axis; all modes are separable."""
    eye = torch.eye(size_in, dtype=call.x.dtype, device=call.x.device)
    settings: dict[str, Any] = {"mode": mode.removesuffix("-aa")}
    if "nearest" not in mode:
        settings["align_corners"] = bool(call["align_corners"])
    if mode in {"nearest", "nearest-exact", "linear"}:
        # a scale that was given, not the ratio of the sizes, says where samples lie
        settings |= {"size": size_out} if scale is None else {"scale_factor": scale}
        return functional.interpolate(eye[None], **settings)[0].mT
    settings |= {"size": (size_out, 4)} if scale is None else {"scale_factor": (scale, 1.0)}
    wide = eye[None, :, :, None].expand(1, size_in, size_in, 4).contiguous()
    columns = functional.interpolate(wide, **settings, antialias=mode.endswith("-aa"))
    return columns[0, :, :, 0].mT


def _along(values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Multiply the last axes of ``values`` by one matrix each."""
    for axis, matrix in enumerate(reversed(matrices), start=1):
        values = torch.movedim(torch.movedim(values, -axis, -1) @ matrix.mT, -1, -axis)
    return values


def _taps(matrix: Tensor) -> tuple[list[Tensor], Tensor]:
    """The inputs of every output: for each tap its index by output, and the weights ``(size_out, taps)``."""
    taps = int(matrix.count_nonzero(1).max())
    index = matrix.abs().topk(taps, dim=1).indices
    return list(index.unbind(1)), matrix.gather(1, index)


def _signed_resize(rows: Tensor, columns: Tensor) -> tuple[Linear, None]:
    """Resizing with weights of both signs: one ``(H_out, W_out)`` weight per pair of taps."""
    (row_taps, row_weights), (column_taps, column_weights) = _taps(rows), _taps(columns)
    weight = torch.einsum("ai,bj->ijab", row_weights, column_weights)

    def forward(x: Tensor, weight: Tensor | None) -> Tensor:
        z = x.new_zeros(*x.shape[:-2], len(rows), len(columns))
        for row, by_column in zip(row_taps, weight, strict=True):  # pyright: ignore[reportArgumentType]
            line = x.index_select(-2, row)
            for column, w in zip(column_taps, by_column, strict=True):
                z = z + line.index_select(-1, column) * w
        return z

    def transpose(c: Tensor, weight: Tensor | None) -> Tensor:
        x = c.new_zeros(*c.shape[:-2], rows.shape[1], columns.shape[1])
        for row, by_column in zip(row_taps, weight, strict=True):  # pyright: ignore[reportArgumentType]
            line = c.new_zeros(*c.shape[:-1], columns.shape[1])
            for column, w in zip(column_taps, by_column, strict=True):
                line = line.index_add(-1, column, c * w)
            x = x.index_add(-2, row, line)
        return x

    return Linear(weight, forward, transpose), None


def _resize(mode: str) -> Callable[[Call], tuple[Linear, None]]:
    def linear(call: Call) -> tuple[Linear, None]:
        sizes = zip(call.x.shape[2:], call.output.shape[2:], _scales(call), strict=True)
        matrices = [_resize_matrix(mode, size_in, size_out, scale, call) for size_in, size_out, scale in sizes]
        # a bicubic kernel has negative lobes: its weights enter as a tensor, of which rules take the positive part
        if any(bool((m < 0).any()) for m in matrices):
            return _signed_resize(*matrices)
        return _fixed(lambda x: _along(x, matrices), lambda c: _along(c, [m.mT for m in matrices]))

    return linear


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


def _first(relevance: list[Tensor | None]) -> Tensor:
    """The relevance of the values of an op that also returns indices."""
    values = relevance[0]
    if values is None:
        raise RuntimeError("relevance arrived at indices")
    return values


def _winner_with_indices(back: str, dims: int) -> Callable[[Call, list[Tensor | None]], Relevances]:
    single = _winner(back, dims)
    return lambda call, relevance: single(call, _first(relevance))


def _adaptive_winner(call: Call, relevance: list[Tensor | None]) -> Relevances:
    x, indices, values = call["self"], call.output[1], _first(relevance)
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
    x, values, indices = call["self"], _first(relevance), call.output[1]
    dim, keepdim = call.arguments.get("dim", -1), bool(call.arguments.get("keepdim", True))
    if not keepdim:
        values, indices = values.unsqueeze(dim), indices.unsqueeze(dim)
    return {"self": torch.zeros_like(x).scatter_add(dim, indices, values)}


add_ops(["avg_pool2d", "avg_pool3d"], Op(Role.POOL, linear=_average_pool, nonnegative="inherits", channels="first"))
add_ops(["avg_pool1d"], Op(Role.POOL, linear=_average_pool1d, nonnegative="inherits", channels="first"))
add_ops(
    ["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"],
    Op(Role.POOL, linear=_adaptive_average_pool, nonnegative="inherits", channels="first"),
)
add_ops(["mean"], Op(Role.POOL, linear=_mean, nonnegative="inherits"))
add_ops(["sum"], Op(Role.POOL, linear=_sum, nonnegative="inherits"))
add_ops(["cumsum"], Op(Role.POOL, linear=_cumsum, nonnegative="inherits"))
add_ops(
    ["grid_sampler", "grid_sampler_2d", "grid_sampler_3d"],
    Op(Role.POOL, linear=_grid_sample, data=("input",), needs=("grid",), limit=_bicubic, nonnegative="inherits"),
)
for _name, _mode in {
    "upsample_nearest1d": "nearest",
    "upsample_nearest2d": "nearest",
    "upsample_nearest3d": "nearest",
    "_upsample_nearest_exact1d": "nearest-exact",
    "_upsample_nearest_exact2d": "nearest-exact",
    "_upsample_nearest_exact3d": "nearest-exact",
    "upsample_linear1d": "linear",
    "upsample_bilinear2d": "linear",
    "upsample_trilinear3d": "linear",
    "upsample_bicubic2d": "bicubic",
    "_upsample_bilinear2d_aa": "bilinear-aa",
    "_upsample_bicubic2d_aa": "bicubic-aa",
}.items():
    _sign = "never" if "bicubic" in _mode else "inherits"
    add_ops([_name], Op(Role.POOL, linear=_resize(_mode), data=("input", "self"), nonnegative=_sign, channels="first"))
_MAXIMUM = Op(Role.SELECT, nonnegative="inherits", maximum=True, channels="first")
for _dims in (1, 2, 3):
    _back = "max_pool3d_with_indices_backward" if _dims == 3 else "max_pool2d_with_indices_backward"
    add_ops([f"max_pool{_dims}d"], replace(_MAXIMUM, backward=_winner(_back, _dims), needs=("self",)))
    add_ops([f"max_pool{_dims}d_with_indices"], replace(_MAXIMUM, backward=_winner_with_indices(_back, _dims), needs=("self",)))
    add_ops([f"adaptive_max_pool{_dims}d"], replace(_MAXIMUM, backward=_adaptive_winner, needs=("output",)))
_EXTREMUM = Op(Role.SELECT, _extremum, needs=("self", "output"), nonnegative="inherits")
add_ops(["amax"], replace(_EXTREMUM, maximum=True))
add_ops(["amin"], _EXTREMUM)
_WITH_INDEX = Op(Role.SELECT, _extremum_with_index, needs=("output",), nonnegative="inherits")
add_ops(["max.dim"], replace(_WITH_INDEX, maximum=True))
add_ops(["topk", "sort", "kthvalue", "cummax", "cummin", "min.dim", "median.dim", "nanmedian.dim"], _WITH_INDEX)
