"""How ops are recorded: shapes that torch works out slowly, ops that a pass rewrites, ops whose results have a size that depends on values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def like_first(x: Tensor, *_: object, **__: object) -> Tensor:
    """Make a result like the first argument; ``empty_like`` would load torch's compiler."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _made(x: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.empty(shape, dtype=x.dtype, device="meta")


def _rows_like_input(x: Tensor, *_: object, **__: object) -> Tensor:
    return _made(x, x.shape)


def _adaptive_pool(x: Tensor, size: Sequence[int]) -> Tensor:
    return _made(x, [*x.shape[: -len(size)], *size])


def _mean(x: Tensor, dim: Sequence[int] | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    dims = {d % x.dim() for d in dim} if dim else set(range(x.dim()))
    sizes = [1 if d in dims else n for d, n in enumerate(x.shape) if keepdim or d not in dims]
    return _made(x if dtype is None else x.to(dtype), sizes)


def _linear(x: Tensor, weight: Tensor, _: Tensor | None = None) -> Tensor:
    if x.shape[-1] != weight.shape[1]:
        raise RuntimeError(f"A weight of shape {tuple(weight.shape)} takes no input of shape {tuple(x.shape)}.")
    return torch.empty([*x.shape[:-1], weight.shape[0]], dtype=torch.promote_types(x.dtype, weight.dtype), device="meta")


def _attention(query: Tensor, _: Tensor, value: Tensor, *__: object, **___: object) -> Tensor:
    return _made(query, [*query.shape[:-1], value.shape[-1]])


def _convolution(
    x: Tensor,
    weight: Tensor,
    _: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Tensor:
    dims = weight.dim() - 2
    if x.dim() != dims + 2 or x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, a weight of shape {tuple(weight.shape)} takes no input of shape {tuple(x.shape)}."
        )
    stride, padding, dilation = (list(s) * dims if len(s) == 1 else list(s) for s in (stride, padding, dilation))
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    ]
    if min(sizes) < 1:
        raise RuntimeError(f"a kernel of {tuple(weight.shape[2:])} is larger than the padded input of shape {tuple(x.shape)}")
    last = dims == 2 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    dtype = torch.promote_types(x.dtype, weight.dtype)
    made = torch.empty([x.shape[0], weight.shape[0], *sizes], dtype=dtype, device="meta")
    return made.contiguous(memory_format=torch.channels_last) if last else made


SHAPES: Mapping[Any, Callable[..., Tensor]] = {
    aten.conv1d.default: _convolution,
    aten.conv2d.default: _convolution,
    aten.conv3d.default: _convolution,
    aten.batch_norm.default: like_first,
    aten.layer_norm.default: _rows_like_input,
    aten.group_norm.default: like_first,
    aten.adaptive_avg_pool1d.default: _adaptive_pool,
    aten.adaptive_avg_pool2d.default: _adaptive_pool,
    aten.adaptive_avg_pool3d.default: _adaptive_pool,
    aten.linear.default: _linear,
    aten.mean.dim: _mean,
    aten.scaled_dot_product_attention.default: _attention,
}
"""By op that torch works out in Python, slowly: a function of its arguments, on the meta device, that makes a result there."""

REWRITTEN = frozenset(
    f"aten::{name}"
    for name in [
        "pad",
        "var",
        "cosine_similarity",
        "scaled_dot_product_attention",
        "copy",
        "convolution",
        "_convolution",
        "_native_batch_norm_legit_no_training",
        "complex",
        "polar",
    ]
)
"""Ops without an entry that a pass rewrites, so that they are not decomposed."""

OF_UNKNOWN_SIZE = frozenset(f"aten::{name}" for name in ("index", "masked_select", "repeat_interleave"))
"""Ops whose result may have a size that depends on values, though torch does not tag them so."""

INDEXED = frozenset(f"aten::{name}" for name in ("index", "index_put", "index_put_"))
"""Ops whose indices may be masks."""
