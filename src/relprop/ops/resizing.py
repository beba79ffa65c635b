"""Resizing and sampling of grids, which are linear with fixed weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from relprop.ops.linear import Linear
from relprop.ops.op import Call, Op, Role
from relprop.ops.pooling import fixed
from relprop.ops.table import add_ops

aten = torch.ops.aten


def _bicubic(arguments: Mapping[str, Any]) -> str:
    """Bicubic sampling has weights of both signs, which no table holds."""
    return "with mode='bicubic'" if arguments["interpolation_mode"] == 2 else ""


def _grid_sample(call: Call) -> tuple[Linear, None]:
    x, settings = call["input"], (call["grid"], *(call[name] for name in ("interpolation_mode", "padding_mode", "align_corners")))
    dims = x.dim() - 2
    sample = {2: aten.grid_sampler_2d, 3: aten.grid_sampler_3d}[dims]
    back = {2: aten.grid_sampler_2d_backward, 3: aten.grid_sampler_3d_backward}[dims]
    return fixed(lambda x: sample(x, *settings), lambda c: back(c, x, *settings, [True, False])[0])


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


def along(values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
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
        return fixed(lambda x: along(x, matrices), lambda c: along(c, [m.mT for m in matrices]))

    return linear


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
