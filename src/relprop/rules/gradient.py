"""The rule that is no share of relevance but the chain rule: what arrives at a value is the gradient of the output."""

import torch
from torch import Tensor

from relprop.ops.op import Call, Relevances
from relprop.rules.rule import Rule


def gradient() -> Rule:
    """Pass gradients: ``c_x = Σ_j c_j ∂y_j/∂x``, of every operand of an op."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        names = call.operands

        def output(*values: Tensor) -> Tensor:
            return call.function(**{**call.arguments, **dict(zip(names, values, strict=True))})

        pulled = torch.func.vjp(output, *(call[name] for name in names))[1]
        return dict(zip(names, pulled(relevance), strict=True))

    return Rule("gradient", backward, ("x", "constants"), all_operands=True)
