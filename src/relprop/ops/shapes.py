"""Results on the meta device: shape, dtype and layout. Where torch works them out in Python, it loads its compiler first, which takes seconds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _like_first(x: Tensor, *_: object, **__: object) -> Tensor:
    """Make a result like the first argument; ``empty_like`` would load torch's compiler."""
    return torch.empty_strided(x.shape, _dense_strides(x), dtype=x.dtype, device="meta")


def _pointwise(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:  # noqa: ANN401
    """Make the result of an op that takes elements one by one: the operands' shapes broadcast, the dtype that one element has.

    Memory is laid out as in the first operand of the result's shape, as torch does it.
    """
    operands = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
    shape = _broadcast([v.shape for v in operands])
    one = [_one_element(v) for v in args]
    dtype = func(*one, **{k: _one_element(v) for k, v in kwargs.items() if k != "memory_format"}).dtype
    memory_format = kwargs.get("memory_format") or torch.preserve_format
    if memory_format != torch.preserve_format:
        return torch.empty(shape, dtype=dtype, device="meta", memory_format=memory_format)
    full = [v for v in operands if list(v.shape) == shape]
    strides = _dense_strides(full[0]) if full else torch.empty(shape, device="meta").stride()
    return torch.empty_strided(shape, strides, dtype=dtype, device="meta")


def _broadcast(shapes: Sequence[Sequence[int]]) -> list[int]:
    dims = max(len(shape) for shape in shapes)
    sizes = [{shape[d - dims] for shape in shapes if len(shape) >= dims - d} - {1} for d in range(dims)]
    if any(len(found) > 1 for found in sizes):
        raise RuntimeError(f"Tensors of the shapes {', '.join(str(tuple(shape)) for shape in shapes)} do not broadcast.")
    return [next(iter(found), 1) for found in sizes]


def _one_element(value: Any) -> Any:  # noqa: ANN401
    return torch.ones([1] * value.dim(), dtype=value.dtype, device="cpu") if isinstance(value, Tensor) else value


def _dense_strides(x: Tensor) -> list[int]:
    """Return strides without gaps or overlap, the dimensions in the order that they have in memory."""
    strides, step = [0] * x.dim(), 1
    for dim in sorted(range(x.dim()), key=lambda d: (x.stride(d), -d)):
        strides[dim] = step
        step *= max(x.shape[dim], 1)
    return strides


def _made(x: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.empty(shape, dtype=x.dtype, device="meta")


def _rows_like_input(x: Tensor, *_: object, **__: object) -> Tensor:
    return _made(x, x.shape)


def _adaptive_pool(x: Tensor, size: Sequence[int]) -> Tensor:
    return _laid_out_like(x, _made(x, [*x.shape[: -len(size)], *size]))


def _mean(x: Tensor, dim: Sequence[int] | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    dims = {d % x.dim() for d in dim} if dim else set(range(x.dim()))
    sizes = [1 if d in dims else n for d, n in enumerate(x.shape) if keepdim or d not in dims]
    return _made(x if dtype is None else x.to(dtype), sizes)


def _linear(x: Tensor, weight: Tensor, _: Tensor | None = None) -> Tensor:
    if x.shape[-1] != weight.shape[1]:
        raise RuntimeError(f"A weight of shape {tuple(weight.shape)} takes no input of shape {tuple(x.shape)}.")
    return torch.empty([*x.shape[:-1], weight.shape[0]], dtype=torch.promote_types(x.dtype, weight.dtype), device="meta")


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    if a.shape[-1] != b.shape[-2 if b.dim() > 1 else 0]:
        raise RuntimeError(f"Matrices of the shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be multiplied.")
    batch = _broadcast([a.shape[:-2], b.shape[:-2]])
    sizes = [*batch, *a.shape[-2:-1], *(b.shape[-1:] if b.dim() > 1 else ())]
    return torch.empty(sizes, dtype=torch.promote_types(a.dtype, b.dtype), device="meta")


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    joined = [v for v in tensors if v.shape != (0,)] or tensors[:1]
    first = joined[0]
    dim %= first.dim()
    others = [[*v.shape[:dim], *v.shape[dim + 1 :]] for v in joined]
    if any(v.dim() != first.dim() for v in joined) or any(sizes != others[0] for sizes in others):
        raise RuntimeError(f"Tensors of the shapes {', '.join(str(tuple(v.shape)) for v in joined)} cannot be joined.")
    shape = list(first.shape)
    shape[dim] = sum(v.shape[dim] for v in joined)
    dtype = first.dtype
    for v in tensors:
        dtype = torch.promote_types(dtype, v.dtype)
    return _laid_out_like(first, torch.empty(shape, dtype=dtype, device="meta"))


def _softmax(x: Tensor, _: int, dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty_strided(x.shape, _dense_strides(x), dtype=dtype or x.dtype, device="meta")


def _attention(query: Tensor, _: Tensor, value: Tensor, *__: object, **___: object) -> Tensor:
    return _made(query, [*query.shape[:-1], value.shape[-1]])


def _repeated_positions(repeats: Tensor, *, output_size: int | None = None) -> Tensor:
    if output_size is None:
        raise NotImplementedError("The size depends on values.")
    return torch.empty([output_size], dtype=repeats.dtype, device="meta")


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
    dtype = torch.promote_types(x.dtype, weight.dtype)
    return _laid_out_like(x, torch.empty([x.shape[0], weight.shape[0], *sizes], dtype=dtype, device="meta"))


def _transposed_convolution(
    x: Tensor,
    weight: Tensor,
    _: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> Tensor:
    dims = weight.dim() - 2
    if x.dim() != dims + 2 or x.shape[1] != weight.shape[0]:
        raise RuntimeError(f"A transposed weight of shape {tuple(weight.shape)} takes no input of shape {tuple(x.shape)}.")
    spread = [list(s) * dims if len(s) == 1 else list(s) for s in (stride, padding, output_padding, dilation)]
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, o, d in zip(x.shape[2:], weight.shape[2:], *spread, strict=True)
    ]
    dtype = torch.promote_types(x.dtype, weight.dtype)
    return _laid_out_like(x, torch.empty([x.shape[0], weight.shape[1] * groups, *sizes], dtype=dtype, device="meta"))


def _pad(x: Tensor, pad: Sequence[int], *_: object, **__: object) -> Tensor:
    shape = list(x.shape)
    for dim, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True), 1):
        shape[-dim] += before + after
    if min(shape) < 0:
        raise RuntimeError(f"Padding of {list(pad)} leaves nothing of an input of shape {tuple(x.shape)}.")
    return _laid_out_like(x, _made(x, shape))


def _for_one_channel(func: Any, dims: int) -> Callable[..., Any]:  # noqa: ANN401
    """The shape of an op that treats channels alike, read off a run on zeros of one channel of one sample."""

    def shape(x: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        lead = x.shape[: x.dim() - dims]
        found = func(torch.zeros([1] * len(lead) + list(x.shape[len(lead) :]), dtype=x.dtype, device="cpu"), *args, **kwargs)
        results = found if isinstance(found, tuple) else (found,)
        made = tuple(
            _laid_out_like(x, torch.empty([*lead, *r.shape[len(lead) :]], dtype=r.dtype, device="meta")) for r in results
        )
        return made if isinstance(found, tuple) else made[0]

    return shape


def _laid_out_like(x: Tensor, made: Tensor) -> Tensor:
    """Return a new tensor in channels-last memory format where ``x`` has it; volumes come out contiguous on most devices."""
    last = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return made.contiguous(memory_format=torch.channels_last) if last else made


CHANNEL_WISE = (
    (1, aten.max_pool1d.default, aten.avg_pool1d.default, aten.adaptive_max_pool1d.default),
    (1, aten.upsample_nearest1d.vec, aten.upsample_linear1d.vec),
    (2, aten.max_pool2d.default, aten.max_pool2d_with_indices.default, aten.avg_pool2d.default, aten.adaptive_max_pool2d.default),
    (2, aten.upsample_nearest2d.vec, aten.upsample_bilinear2d.vec, aten.upsample_bicubic2d.vec),
    (3, aten.max_pool3d.default, aten.max_pool3d_with_indices.default, aten.avg_pool3d.default, aten.adaptive_max_pool3d.default),
    (3, aten.upsample_nearest3d.vec, aten.upsample_trilinear3d.vec),
)
"""Ops that treat channels alike, behind the number of dimensions that they work on."""

SHAPES: Mapping[Any, Callable[..., Tensor]] = {
    aten.repeat_interleave.Tensor: _repeated_positions,
    aten.conv1d.default: _convolution,
    aten.conv2d.default: _convolution,
    aten.conv3d.default: _convolution,
    aten.batch_norm.default: _like_first,
    aten.layer_norm.default: _rows_like_input,
    aten.group_norm.default: _like_first,
    aten.adaptive_avg_pool1d.default: _adaptive_pool,
    aten.adaptive_avg_pool2d.default: _adaptive_pool,
    aten.adaptive_avg_pool3d.default: _adaptive_pool,
    aten.linear.default: _linear,
    aten.mean.dim: _mean,
    aten.scaled_dot_product_attention.default: _attention,
    aten.conv_transpose1d.default: _transposed_convolution,
    aten.conv_transpose2d.input: _transposed_convolution,
    aten.conv_transpose3d.input: _transposed_convolution,
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _pad,
    aten.matmul.default: _matmul,
    aten.cat.default: _cat,
    aten.softmax.int: _softmax,
    aten.log_softmax.int: _softmax,
    **dict.fromkeys((aten.hardswish.default, aten.prelu.default, aten.log_sigmoid.default, aten.rrelu.default), _like_first),
    **dict.fromkeys((aten.instance_norm.default, aten.roll.default), _like_first),
    **{func: _for_one_channel(func, dims) for dims, *funcs in CHANNEL_WISE for func in funcs},
}
"""By op that torch works out in Python, slowly: a function of its arguments, on the meta device, that makes a result there."""


def on_meta(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - what the op returns
    """Run an op on operands of the meta device.

    Raises:
        RuntimeError: The operands' shapes do not fit the op.
        NotImplementedError: Torch cannot run the op there.
    """
    meta = torch.device("meta")
    given = [meta if isinstance(v, torch.device) else v for v in args]
    named = {k: meta if k == "device" and v is not None else v for k, v in kwargs.items() if k != "generator"}
    if torch.Tag.pointwise in func.tags and torch.Tag.nondeterministic_seeded not in func.tags and len(func._schema.returns) == 1:
        return _pointwise(func, given, named)
    return SHAPES.get(func, func)(*given, **named)
