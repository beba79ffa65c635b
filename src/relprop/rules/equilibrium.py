"""The rule of Attribution Equilibrium (Nam and Lee, T-PAMI 2024): both signs keep their weight, and inactive neurons take a part."""

import math

import torch
from torch import Tensor

from relprop.errors import OptionError
from relprop.ops.layout import SampleLayout
from relprop.ops.op import ABSORBED, Call, Relevances
from relprop.rules.influence import by_influence, is_wide
from relprop.rules.kernel import divide
from relprop.rules.rule import Rule


def equilibrium(ratio: float = 2.0) -> Rule:
    """Share positive relevance among active inputs and negative relevance among inactive ones too, as the authors' code does.

    With ``P = R⁺/ΣR⁺`` and ``N = R⁻/Σ|R⁻|`` of a sample, shares by activation ``S(V) = x⁺ |w|ᵀ (V / |w| x⁺)`` and by place
    ``T(V, m) = m |w|ᵀ (V / |w| m)``, the relevance of the inputs is ``S(ratio P + N) − 1/n + T(P, x > 0) + T(N, x ≤ 0)``, where ``1/n`` is
    taken from the ``n`` inputs with a share. Layers without spatial extent take ``S(P + N)`` in the place of the first two terms. All is
    scaled to the same ``Σ|R|`` of a sample, so that the branches of a residual block keep their proportion; the authors' code does not,
    and leaves shortcuts out.

    Args:
        ratio: The weight of positive relevance, in [1, 2]: with 2 positive and negative relevance balance.

    Raises:
        OptionError: ``ratio`` lies outside [1, 2].
    """
    if not (1 <= ratio <= 2 and math.isfinite(ratio)):
        raise OptionError(f"Option ratio={ratio!r} of rule 'equilibrium' must lie between 1 and 2.")

    def backward(call: Call, relevance: Tensor) -> Relevances:
        linear, _ = call.as_linear()
        positive, size = over_its_sum(relevance.clamp(min=0), call.layout, call.batch)
        negative, other = over_its_sum(relevance.clamp(max=0), call.layout, call.batch)
        active = (call.x > 0).to(relevance.dtype)
        wide = is_wide(linear)
        shares = by_influence(linear, call.x.clamp(min=0), (ratio if wide else 1.0) * positive + negative)
        if wide:
            shares = lowered(call, shares, (size > 0).to(size.dtype))
        shares = shares + by_influence(linear, active, positive) + by_influence(linear, 1 - active, negative)
        below = call.layouts[call.data]
        scaled = shares * below.spread(divide(size + other, below.sum(shares.abs(), call.batch)), shares)
        return {call.data: scaled, ABSORBED: call.layout.sum(relevance, call.batch) - below.sum(scaled, call.batch)}

    return Rule("equilibrium", backward, ("x",))


def over_its_sum(part: Tensor, layout: SampleLayout, batch: int) -> tuple[Tensor, Tensor]:
    """Relevance of one sign over the magnitude of its sum per sample, and that magnitude, ``(batch,)``."""
    size = layout.sum(part, batch).abs()
    return part / layout.spread(torch.where(size > 0, size, 1.0), part), size


def lowered(call: Call, shares: Tensor, taken: Tensor) -> Tensor:
    """Take a sum per sample, ``(batch,)``, in equal parts from the inputs with a share."""
    layout, some = call.layouts[call.data], (shares != 0).to(shares.dtype)
    return shares - some * layout.spread(divide(taken, layout.sum(some, call.batch)), shares)
