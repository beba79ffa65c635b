"""Averages and sums, which are linear with fixed weights."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from relprop.ops.linear import Linear
from relprop.ops.op import Call, Op, Role
from relprop.ops.table import add_ops

aten = torch.ops.aten


def fixed(forward: Callable[[Tensor], Tensor], transpose: Callable[[Tensor], Tensor]) -> tuple[Linear, None]:
    """An op with fixed non-negative weights and no bias."""
    return Linear(None, lambda x, _: forward(x), lambda c, _: transpose(c), nonnegative=True), None


def averages(call: Call) -> tuple[Linear, None]:
    """Averages over the windows of a pool in one to three dimensions; a row is an image of height one."""
    x, kernel, stride, padding = (call[name] for name in ("self", "kernel_size", "stride", "padding"))
    if len(kernel) == 1:
        window = {"kernel_size": [1, *kernel], "stride": [1, *stride] if stride else [], "padding": [0, *padding]}
        image, _ = averages(replace(call, arguments={**call.arguments, "self": x.unsqueeze(-2), **window}))
        return fixed(
            lambda x: image.forward(x.unsqueeze(-2), None).squeeze(-2),
            lambda c: image.transpose(c.unsqueeze(-2), None).squeeze(-2),
        )
    counts = call.arguments.get("count_include_pad", False), call.arguments.get("divisor_override")
    settings = (kernel, stride, padding, call["ceil_mode"], *counts)
    pool, back = (aten.avg_pool2d, aten.avg_pool2d_backward) if len(kernel) == 2 else (aten.avg_pool3d, aten.avg_pool3d_backward)
    return fixed(lambda x: pool(x, *settings), lambda c: back(c, x, *settings))


def adaptive_averages(call: Call) -> tuple[Linear, None]:
    """Averages over windows that the size of the output tells."""
    x, size = call["self"], call["output_size"]
    if len(size) == 1:
        x1 = x.unsqueeze(-2)
        return fixed(
            lambda x: aten.adaptive_avg_pool1d(x, size),
            lambda c: aten._adaptive_avg_pool2d_backward(c.unsqueeze(-2), x1).squeeze(-2),
        )
    if len(size) == 2:
        return fixed(lambda x: aten.adaptive_avg_pool2d(x, size), lambda c: aten._adaptive_avg_pool2d_backward(c, x))
    return fixed(lambda x: aten.adaptive_avg_pool3d(x, size), lambda c: aten._adaptive_avg_pool3d_backward(c, x))


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
    return fixed(
        lambda x: x.sum(dims, keepdim=keepdim) * scale,
        lambda c: (unreduce(c, dims, keepdim=keepdim) * scale).expand(x.shape),
    )


def _mean(call: Call) -> tuple[Linear, None]:
    return _reduction(call, mean=True)


def _sum(call: Call) -> tuple[Linear, None]:
    return _reduction(call, mean=False)


def _cumsum(call: Call) -> tuple[Linear, None]:
    dim = call["dim"]
    return fixed(lambda x: x.cumsum(dim), lambda c: c.flip(dim).cumsum(dim).flip(dim))


add_ops(["avg_pool1d", "avg_pool2d", "avg_pool3d"], Op(Role.POOL, linear=averages, nonnegative="inherits", channels="first"))
add_ops(
    ["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"],
    Op(Role.POOL, linear=adaptive_averages, nonnegative="inherits", channels="first"),
)
add_ops(["mean"], Op(Role.POOL, linear=_mean, nonnegative="inherits"))
add_ops(["sum"], Op(Role.POOL, linear=_sum, nonnegative="inherits"))
add_ops(["cumsum"], Op(Role.POOL, linear=_cumsum, nonnegative="inherits"))
