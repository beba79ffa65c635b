"""Softmax, which makes the weights of attention, and its gradient."""

import torch
from torch import Tensor

from relprop.ops.op import Arguments, Call, Op, Role
from relprop.ops.table import add_ops

aten = torch.ops.aten


def _gradient_of_softmax(call: Call, c: Tensor) -> Tensor:
    """``s (c − Σ s c)``."""
    return aten._softmax_backward_data(c, call.output, call["dim"], call.output.dtype)


def _gradient_of_log_softmax(call: Call, c: Tensor) -> Tensor:
    """``c − s Σ c``."""
    return aten._log_softmax_backward_data(c, call.output, call["dim"], call.output.dtype)


def _slices(arguments: Arguments, output: Tensor, dim: int) -> dict[str, int] | None:
    return {"self": dim} if dim != arguments["dim"] % output.dim() else None


_NEEDS = ("self", "output")
add_ops(
    ["softmax", "_softmax"],
    Op(
        Role.SOFTMAX,
        gradient=_gradient_of_softmax,
        needs=_NEEDS,
        nonnegative="always",
        bounded=True,
        probabilities=True,
        slices=_slices,
    ),
)
add_ops(
    ["log_softmax", "_log_softmax"],
    Op(Role.SOFTMAX, gradient=_gradient_of_log_softmax, needs=_NEEDS, probabilities=True, slices=_slices),
)
