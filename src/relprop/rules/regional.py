"""The rule of one value between an upper and a lower part of a graph: evidence by region, shared among the region's channels."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from relprop.errors import OptionError
from relprop.ops.layout import SampleLayout
from relprop.rules.kernel import divide

RegionFunction = Callable[[Tensor, int, SampleLayout, int], Tensor]
"""``(relevance, dimension of the channels, layout of the samples, batch) -> relevance``, shaped alike, with the same sum per sample."""


@dataclass(frozen=True)
class RegionRule:
    """How the relevance that arrives at a value is shared anew among its elements.

    Attributes:
        name: Printed in the plan.
        backward: The function.
    """

    name: str
    backward: RegionFunction


def by_region(weight: float = 1.0) -> RegionRule:
    """Count evidence by region: ``R_pk = |r_pk| · (w C_p / A_p + (1 − w) Σ C / Σ A)``, with ``C_p = Σ_k r_pk`` and ``A_p = Σ_k |r_pk|``.

    Every region ``p`` keeps its evidence ``C_p``, which its channels ``k`` share by magnitude. Both terms conserve the sample's sum.

    Args:
        weight: ``w``: 1 for evidence by region alone; 0 spreads the sample's sum by magnitude alone, wherever the evidence is.

    Raises:
        OptionError: ``weight`` lies outside [0, 1].
    """
    if not (0 <= weight <= 1 and math.isfinite(weight)):
        raise OptionError(f"Option weight={weight!r} must lie between 0 and 1.")

    def backward(relevance: Tensor, channels: int, layout: SampleLayout, batch: int) -> Tensor:
        magnitude = relevance.abs()
        factor = divide(relevance.sum(channels, keepdim=True), magnitude.sum(channels, keepdim=True))
        if weight < 1:
            mean = divide(layout.sum(relevance, batch), layout.sum(magnitude, batch))
            factor = weight * factor + (1 - weight) * layout.spread(mean, relevance)
        return magnitude * factor

    return RegionRule("by region", backward)
