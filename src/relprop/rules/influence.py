"""The rule of influence: shares by magnitude, and RAP's uniform shift with a surplus of positive relevance alone."""

import math
from typing import Any

from torch import Tensor

from relprop.errors import OptionError
from relprop.ops.linear import Linear
from relprop.ops.maxima import of_values
from relprop.ops.op import Call, Relevances, Role, op_name
from relprop.rules.affine import activated_inputs, on_each_operand, take_surplus
from relprop.rules.kernel import divide
from relprop.rules.rule import Rule, refuse_negative


def influence(growth: float = 0.09) -> Rule:
    """Share by influence, less a surplus: ``R_i = m_i (Σ_j |w_ij| (R_j + g R_j⁺) / Σ_k m_k |w_kj| − λ)``.

    ``m_i = |x_i| + mean |x|``, the mean over the sample's activated inputs, and 0 for the others: an input counts by its value and by being
    active. ``g`` is the growth, and twice that in layers whose outputs read several places, which spread relevance over them. ``λ`` keeps
    the sum of a sample: as in RAP (Nam et al. 2020, Eq. 8 and 9) the surplus is taken off its activated inputs, here by their magnitude,
    so that relevance per magnitude sinks by the same everywhere, and what has little of it ends up negative. RAP's own surplus is that of
    contributions against the sign of their output, and both signs of relevance grow by it; here the positive one alone does.

    A pool of maxima shares among all inputs of a window as an average does, so that a map does not follow single winners; other maxima
    and selections pass relevance to their winner.

    Args:
        growth: How much positive relevance grows in a layer, at the cost of what has little of it.

    Raises:
        OptionError: ``growth`` is negative or infinite.
    """
    refuse_negative("influence", growth=growth)

    def shared(call: Call, linear: Linear, relevance: Tensor) -> Relevances:
        magnitude = _raised(call)
        grown = relevance + (growth if _reads_one_place(linear) else 2 * growth) * relevance.clamp(min=0)
        return take_surplus(call, relevance, by_influence(linear, magnitude, grown), magnitude)

    of_layer = on_each_operand(lambda call, relevance: shared(call, call.as_linear()[0], relevance))

    def backward(call: Call, relevance: Any) -> Relevances:  # noqa: ANN401 - a list where the op returns indices too
        if call.op.windows is not None:
            return shared(call, call.op.windows(call)[0], of_values(relevance))
        return _to_winner(call, relevance) if call.op.role is Role.SELECT else of_layer(call, relevance)

    return Rule("influence", backward, ("x",))


def winner() -> Rule:
    """The rule of maxima and selections that other methods have: the winner takes all."""
    return Rule("winner", _to_winner, local=True)


def _to_winner(call: Call, relevance: Any) -> Relevances:  # noqa: ANN401 - a list where the op returns indices too
    if call.op.backward is None:
        raise OptionError(f"{op_name(call.function)} selects nothing, so the rule 'winner' does not apply to it.")
    return call.op.backward(call, relevance)


def _raised(call: Call) -> Tensor:
    """The magnitudes of a sample's activated inputs, each with their mean."""
    layout, batch, activated = call.layouts[call.data], call.batch, activated_inputs(call)
    magnitude = call.x.abs() * activated
    mean = divide(layout.sum(magnitude, batch), layout.sum(activated, batch))
    return magnitude.add_(activated * layout.spread(mean, magnitude))


def _reads_one_place(linear: Linear) -> bool:
    """Whether outputs read one place each, as those of dense layers and of kernels of 1 × 1, and not of pools."""
    return linear.weight is not None and not is_wide(linear)


def by_influence(linear: Linear, magnitude: Tensor, relevance: Tensor) -> Tensor:
    """Share relevance in proportion to ``m_i |w_ij|``; outputs without contributions pass nothing."""
    weight = None if linear.weight is None else linear.weight.abs()
    return magnitude * linear.transpose(divide(relevance, linear.forward(magnitude, weight)), weight)


def is_wide(linear: Linear) -> bool:
    """Whether outputs read several places, as those of a kernel of 3 × 3 do and those of dense layers do not."""
    return linear.weight is not None and math.prod(linear.weight.shape[2:]) > 1
