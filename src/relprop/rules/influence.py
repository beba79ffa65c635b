"""The rule of influence: shares by magnitude, and RAP's uniform shift with a surplus of positive relevance alone."""

import math

from torch import Tensor

from relprop.ops.linear import Linear
from relprop.ops.op import Call, Relevances
from relprop.rules.affine import activated_inputs, on_each_operand, take_surplus
from relprop.rules.kernel import divide
from relprop.rules.rule import Rule, refuse_negative


def influence(growth: float = 0.1) -> Rule:
    """Share by influence, ``R̄_i = Σ_j m_i |w_ij| (R_j + g R_j⁺) / Σ_k m_k |w_kj|``, less the surplus in equal parts from activated inputs.

    ``m_i = |x_i| + mean |x|``, the mean over the sample's activated inputs, and 0 for the others: an input counts by its value and by being
    active. ``g`` is the growth, and twice that in layers whose outputs read several places, which spread relevance over them. The surplus
    ``Σ R̄ − Σ R`` of a sample is taken off as in RAP (Nam et al. 2020, Eq. 8 and 9), so that its sum is kept, and what has little of the
    positive relevance ends up negative. RAP's own surplus is that of contributions against the sign of their output, and both signs of
    relevance grow by it; here the positive one alone does.

    Args:
        growth: How much positive relevance grows in a layer, at the cost of what has little of it.

    Raises:
        OptionError: ``growth`` is negative or infinite.
    """
    refuse_negative("influence", growth=growth)

    def backward(call: Call, relevance: Tensor) -> Relevances:
        linear, _ = call.as_linear()
        activated = activated_inputs(call)
        grown = relevance + (2 * growth if is_wide(linear) else growth) * relevance.clamp(min=0)
        shares = by_influence(linear, _raised(call, activated), grown)
        return take_surplus(call, relevance, shares, activated)

    return Rule("influence", on_each_operand(backward), ("x",))


def _raised(call: Call, activated: Tensor) -> Tensor:
    """The magnitudes of a sample's activated inputs, each with their mean."""
    layout, batch = call.layouts[call.data], call.batch
    magnitude = call.x.abs() * activated
    mean = divide(layout.sum(magnitude, batch), layout.sum(activated, batch))
    return magnitude.add_(activated * layout.spread(mean, magnitude))


def by_influence(linear: Linear, magnitude: Tensor, relevance: Tensor) -> Tensor:
    """Share relevance in proportion to ``m_i |w_ij|``; outputs without contributions pass nothing."""
    weight = None if linear.weight is None else linear.weight.abs()
    return magnitude * linear.transpose(divide(relevance, linear.forward(magnitude, weight)), weight)


def is_wide(linear: Linear) -> bool:
    """Whether outputs read several places, as those of a kernel of 3 × 3 do and those of dense layers do not."""
    return linear.weight is not None and math.prod(linear.weight.shape[2:]) > 1
