"""The rule that is no share of relevance but the chain rule: what arrives at a value is the gradient of the output."""

import torch
from torch import Tensor

from relprop.ops.op import Call, Relevances
from relprop.rules.kernel import divide_signed
from relprop.rules.rule import Rule


def gradient(*, of_relevance: bool = False) -> Rule:
    """Pass gradients: ``c_x = Σ_j c_j ∂y_j/∂x``, of every operand of an op.

    Args:
        of_relevance: Whether relevance arrives, as at the last layer of a start in units of the logits, so that ``c_j = R_j / y_j``.
    """

    def backward(call: Call, relevance: Tensor) -> Relevances:
        names = call.operands
        if of_relevance:
            relevance = divide_signed(relevance, call.output.clone())

        def output(*values: Tensor) -> Tensor:
            return call.function(**{**call.arguments, **dict(zip(names, values, strict=True))})

        pulled = torch.func.vjp(output, *(call[name] for name in names))[1]
        return dict(zip(names, pulled(relevance), strict=True))

    needs = ("x", "constants", "output") if of_relevance else ("x", "constants")
    return Rule("gradient", backward, needs, all_operands=True)
