"""Ops that are linear in one operand: convolutions, dense layers, matrix products. Each gives its forward and its transpose."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from relprop.ops.fast import linear
from relprop.ops.linear import Linear
from relprop.ops.op import Arguments, Call, Op, Role, slices_with_broadcasting
from relprop.ops.table import add_ops

aten = torch.ops.aten


def as_list(value: int | list[int], dims: int) -> list[int]:
    """Return a convolution's setting, one number or a list of them, for every dimension of its grid."""
    values = [value] if isinstance(value, int) else list(value)
    return values * dims if len(values) == 1 else values


def _convolution(call: Call, *, transposed: bool) -> tuple[Linear, Tensor | None]:
    dims = call["weight"].dim() - 2
    stride, padding, dilation = (as_list(call[name], dims) for name in ("stride", "padding", "dilation"))
    output_padding = as_list(call["output_padding"], dims) if transposed else [0] * dims
    settings = (stride, padding, dilation, transposed, output_padding, call["groups"])
    x = call["input"]

    def raised(x: Tensor, weight: Tensor | None, offset: Tensor | None) -> Tensor:
        return aten.convolution(x, weight, offset, *settings)

    def forward(x: Tensor, weight: Tensor | None) -> Tensor:
        return raised(x, weight, None)

    def transpose(c: Tensor, weight: Tensor | None) -> Tensor:
        if not transposed and weight is not None and _in_patches(x, weight, settings):
            return _patches_back(c, weight)
        return aten.convolution_backward(c, x, weight, None, *settings, [True, False, False])[0]

    bias = call["bias"]
    shaped = None if bias is None else bias.reshape(-1, *[1] * dims)
    return Linear(call["weight"], forward, transpose, raised=raised), shaped


def _in_patches(x: Tensor, weight: Tensor, settings: tuple[Any, ...]) -> bool:
    """Whether a convolution divides its input into patches without overlap, as vision transformers do."""
    stride, padding, dilation, _, _, groups = settings
    kernel = list(weight.shape[2:])
    divides = all(size % k == 0 for size, k in zip(x.shape[2:], kernel, strict=True))
    return (
        stride == kernel
        and divides
        and groups == 1
        and not any(padding)
        and all(d == 1 for d in dilation)
        and math.prod(kernel) > 1
    )


def _patches_back(c: Tensor, weight: Tensor) -> Tensor:
    """The transpose of a convolution over patches: one matrix product, three times as fast as ``convolution_backward``."""
    kernel = weight.shape[2:]
    dims = len(kernel)
    patches = linear(c.movedim(1, -1), weight.flatten(1).mT).unflatten(-1, weight.shape[1:])
    order = [0, dims + 1, *(d for i in range(dims) for d in (1 + i, dims + 2 + i))]
    whole = patches.permute(order)
    return whole.reshape(*whole.shape[:2], *(n * k for n, k in zip(c.shape[2:], kernel, strict=True)))


def _conv(call: Call) -> tuple[Linear, Tensor | None]:
    return _convolution(call, transposed=False)


def _conv_transpose(call: Call) -> tuple[Linear, Tensor | None]:
    return _convolution(call, transposed=True)


def _linear(call: Call) -> tuple[Linear, Tensor | None]:
    def transpose(c: Tensor, weight: Tensor | None) -> Tensor:
        return linear(c, weight.mT)  # pyright: ignore[reportOptionalMemberAccess]

    return Linear(call["weight"], linear, transpose, by_rows=True, raised=linear), call["bias"]


def _matmul(call: Call) -> tuple[Linear, Tensor | None]:
    left, right = call.arguments["self"], call.arguments.get("other", call.arguments.get("mat2"))
    x_is_left = call.data == "self"
    x, weight = (left, right) if x_is_left else (right, left)

    def forward(x: Tensor, weight: Tensor | None) -> Tensor:
        return torch.matmul(x, weight) if x_is_left else torch.matmul(weight, x)  # pyright: ignore[reportArgumentType]

    def transpose(c: Tensor, weight: Tensor | None) -> Tensor:
        c = c.contiguous()  # a product of strided matrices takes twice the time
        if weight.dim() == 1:  # pyright: ignore[reportOptionalMemberAccess]
            spread = torch.unsqueeze(c, -1) * weight if x_is_left else torch.unsqueeze(c, -2) * weight.unsqueeze(-1)  # pyright: ignore[reportOperatorIssue, reportOptionalMemberAccess]
        elif x.dim() == 1:
            spread = (weight @ c.unsqueeze(-1) if x_is_left else c.unsqueeze(-2) @ weight).squeeze(-1 if x_is_left else -2)  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
        elif x_is_left:
            spread = c @ weight.mT  # pyright: ignore[reportOptionalMemberAccess]
        else:  # in memory as x, which often is a transposed matrix
            spread = (c.mT @ weight).mT if x.stride(-2) == 1 else weight.mT @ c  # pyright: ignore[reportOperatorIssue, reportOptionalMemberAccess]
        return spread.sum_to_size(x.shape)

    weight_name = "self" if not x_is_left else ("other" if "other" in call.arguments else "mat2")
    return Linear(weight, forward, transpose, nonnegative=weight_name in call.nonnegative), None


def _bilinear(call: Call) -> tuple[Linear, Tensor | None]:
    """Linear in either operand: the other one, held constant, makes the weight ``(…, outputs, features)`` of every row."""
    other, equation = ("input2", "kij,...j->...ki") if call.data == "input1" else ("input1", "kij,...i->...kj")
    weight = torch.einsum(equation, call["weight"], call[other])

    def forward(x: Tensor, weight: Tensor | None) -> Tensor:
        return torch.einsum("...ki,...i->...k", weight, x)

    def transpose(c: Tensor, weight: Tensor | None) -> Tensor:
        return torch.einsum("...ki,...k->...i", weight, c)

    return Linear(weight, forward, transpose), call["bias"]


def _slices_of_rows(_: Arguments, output: Tensor, dim: int) -> dict[str, int] | None:
    return {"input": dim} if dim < output.dim() - 1 else None


def _slices_of_matmul(arguments: Arguments, output: Tensor, dim: int) -> dict[str, int] | None:
    dims = [arguments[name].dim() for name in ("self", "other")]
    if min(dims) < 2:
        return None
    if dim < output.dim() - 2:
        return dict(slices_with_broadcasting({name: arguments[name] for name in ("self", "other")}, output, dim))
    return {"self": dims[0] - 2} if dim == output.dim() - 2 else {"other": dims[1] - 1}


_LAYER_NEEDS = ("weight", "bias")
_CONV = Op(Role.CONV, linear=_conv, data=("input",), needs=_LAYER_NEEDS, weight_outputs=0, channels="first")
add_ops(["conv1d", "conv2d", "conv3d"], _CONV)
_CONV_TRANSPOSE = replace(_CONV, linear=_conv_transpose, weight_outputs=1)
add_ops(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], _CONV_TRANSPOSE)
_LINEAR = Op(
    Role.DENSE, linear=_linear, data=("input",), needs=_LAYER_NEEDS, slices=_slices_of_rows, weight_outputs=0, channels="last"
)
add_ops(["linear"], _LINEAR)
_BILINEAR = ("input1", "input2")
add_ops(["bilinear"], Op(Role.DENSE, linear=_bilinear, data=_BILINEAR, needs=(*_BILINEAR, *_LAYER_NEEDS)))
_FACTORS = ("self", "other", "mat2")
_MATMUL = Op(Role.DENSE, linear=_matmul, data=_FACTORS, needs=_FACTORS, pairwise=True)
add_ops(["matmul"], replace(_MATMUL, slices=_slices_of_matmul))
add_ops(["mm", "bmm"], _MATMUL)
