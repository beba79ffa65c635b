"""How ops are recorded: shapes that torch works out slowly, ops that a pass rewrites, ops whose results have a size that depends on values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _like_input(x: Tensor, *_: object, **__: object) -> Tensor:
    return torch.empty_like(x)


def _rows_like_input(x: Tensor, *_: object, **__: object) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device="meta")


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
    aten.batch_norm.default: _like_input,
    aten.layer_norm.default: _rows_like_input,
    aten.group_norm.default: _like_input,
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
    ]
)
"""Ops without an entry that a pass rewrites, so that they are not decomposed."""

OF_UNKNOWN_SIZE = frozenset(f"aten::{name}" for name in ("index", "masked_select", "repeat_interleave"))
"""Ops whose result may have a size that depends on values, though torch does not tag them so."""

INDEXED = frozenset(f"aten::{name}" for name in ("index", "index_put", "index_put_"))
"""Ops whose indices may be masks."""
