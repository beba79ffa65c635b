"""Norms ``y = (x − mean) / σ · weight + bias``: their scale ``1 / σ``, and their gradient with σ held constant."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from relprop.ops.op import Arguments, Call, Op, Role
from relprop.ops.table import add_ops


def weight_of(call: Call) -> Tensor | None:
    """The weight of a norm such that it broadcasts over its input; None where it has none."""
    weight = call.arguments.get("weight")
    if weight is None or "normalized_shape" in call.arguments:
        return weight
    return weight.reshape(-1, *[1] * (call.x.dim() - 2))


def _last_dims(call: Call) -> list[int]:
    return list(range(-len(call["normalized_shape"]), 0))


def _epsilon(call: Call) -> float:
    return torch.finfo(call.x.dtype).eps if call["eps"] is None else call["eps"]


def _scale_of_layer_norm(call: Call, x: Tensor) -> Tensor:
    return torch.rsqrt(x.var(_last_dims(call), correction=0, keepdim=True) + call["eps"])


def _scale_of_rms_norm(call: Call, x: Tensor) -> Tensor:
    return torch.rsqrt(x.square().mean(_last_dims(call), keepdim=True) + _epsilon(call))


def _groups(call: Call) -> int:
    return call.arguments.get("num_groups", call.x.shape[1])


def _scale_by_group(call: Call, x: Tensor) -> Tensor:
    """Group norm, and instance norm, whose groups are single channels."""
    grouped = x.reshape(x.shape[0], _groups(call), -1)
    scale = torch.rsqrt(grouped.var(-1, correction=0, keepdim=True) + call["eps"])
    return scale.expand_as(grouped).reshape(x.shape)


def _scale_of_batch_norm(call: Call, x: Tensor) -> Tensor:
    """By running statistics where it has them, as in evaluation mode."""
    if call.arguments.get("running_var") is None:
        return _scale_by_group(call, x)
    return torch.rsqrt(call["running_var"] + call["eps"]).reshape(1, -1, *[1] * (x.dim() - 2))


def _gradient_over_last(call: Call, c: Tensor) -> Tensor:
    """``(c w − mean(c w)) / σ`` over the last dimensions; RMS norm subtracts no mean."""
    x, dims, weight = call.x, _last_dims(call), call.arguments.get("weight")
    share = c.clone() if weight is None else c * weight
    centered = x
    if "bias" in call.arguments:  # RMS norm subtracts no mean
        share.sub_(share.mean(dims, keepdim=True))
        centered = x - x.mean(dims, keepdim=True)
    size = math.prod(x.shape[dim] for dim in dims)
    deviation = torch.linalg.vector_norm(centered, dim=dims, keepdim=True) / math.sqrt(size)
    return share.mul_(torch.rsqrt(deviation.square() + _epsilon(call)))


def _gradient_by_group(call: Call, c: Tensor) -> Tensor:
    """``(c w − mean(c w)) / σ`` within each group of channels."""
    weight = weight_of(call)
    weighted = c if weight is None else c * weight
    grouped = weighted.reshape(c.shape[0], _groups(call), -1)
    return (grouped - grouped.mean(-1, keepdim=True)).reshape(c.shape) * _scale_by_group(call, call.x)


def _gradient_of_batch_norm(call: Call, c: Tensor) -> Tensor:
    """``c w / σ`` by running statistics."""
    if call.arguments.get("running_var") is None:
        return _gradient_by_group(call, c)
    weight = weight_of(call)
    return (c if weight is None else c * weight) * _scale_of_batch_norm(call, call.x)


def _slices(arguments: Arguments, output: Tensor, dim: int) -> dict[str, int] | None:
    return {"input": dim} if dim < output.dim() - len(arguments["normalized_shape"]) else None


_NEEDS = ("input", "weight", "bias", "running_mean", "running_var")
_NORM = Op(Role.NORM, gradient=_gradient_by_group, data=("input",), needs=_NEEDS, scale=_scale_by_group, channels="first")
_OVER_LAST = replace(_NORM, gradient=_gradient_over_last, slices=_slices, channels="last")
_OF_BATCH = replace(_NORM, gradient=_gradient_of_batch_norm, scale=_scale_of_batch_norm)

add_ops(["layer_norm"], replace(_OVER_LAST, scale=_scale_of_layer_norm))
add_ops(["rms_norm"], replace(_OVER_LAST, scale=_scale_of_rms_norm))
add_ops(["group_norm"], _NORM)
add_ops(["instance_norm", "batch_norm", "_native_batch_norm_legit_no_training"], _OF_BATCH)
