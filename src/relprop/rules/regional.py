"""The rule of one value between an upper and a lower part of a graph: evidence by region, shared among the region's channels."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from relprop.errors import OptionError, UnsupportedOpError
from relprop.ops.layout import SampleLayout
from relprop.rules.equilibrium import over_its_sum
from relprop.rules.kernel import divide

RegionFunction = Callable[[Tensor, Tensor, int, SampleLayout, int], Tensor]
"""``(what arrives, value, dimension of the channels, layout of the samples, batch) -> relevance``, all three shaped alike."""


@dataclass(frozen=True)
class RegionRule:
    """How the relevance that arrives at a value is shared anew among its elements.

    Attributes:
        name: Printed in the plan.
        backward: The function.
        reads_value: Whether it reads the value itself.
        conserves: Whether it keeps the sum of what arrives, per sample.
    """

    name: str
    backward: RegionFunction
    reads_value: bool = False
    conserves: bool = True


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

    def backward(relevance: Tensor, _: Tensor, channels: int, layout: SampleLayout, batch: int) -> Tensor:
        magnitude = relevance.abs()
        factor = divide(relevance.sum(channels, keepdim=True), magnitude.sum(channels, keepdim=True))
        if weight < 1:
            mean = divide(layout.sum(relevance, batch), layout.sum(magnitude, batch))
            factor = weight * factor + (1 - weight) * layout.spread(mean, relevance)
        return magnitude * factor

    return RegionRule("by region", backward)


def by_activation() -> RegionRule:
    """Weigh every channel by its mean gradient, as Grad-CAM does without summing the channels: ``R_pk = x_pk · mean_q c_qk``.

    What arrives is to be the gradient ``c``, by :func:`relprop.rules.gradient.gradient`.
    """

    def backward(gradient: Tensor, value: Tensor, channels: int, layout: SampleLayout, batch: int) -> Tensor:
        places = [d for d in range(value.dim()) if d not in {channels, layout.dim}]
        if layout.dim is not None and value.shape[layout.dim] != batch:
            raise UnsupportedOpError(
                "Channels are weighed by their mean over a sample, and here windows lie in the batch dimension; "
                "take another upper=…, such as epsilon-plus."
            )
        return value * gradient.mean(places, keepdim=True)

    return RegionRule("by mean gradient", backward, reads_value=True, conserves=False)


def by_smooth_evidence(weight: float = 0.5) -> RegionRule:
    """Count evidence by region, every channel weighed by its mean gradient: :func:`by_region` of what :func:`by_activation` gives.

    Behind a hidden dense layer every place of a channel has a weight of its own, and the evidence of single regions is noise.

    Args:
        weight: As that of :func:`by_region`.

    Raises:
        OptionError: ``weight`` lies outside [0, 1].
    """
    weighed, counted = by_activation(), by_region(weight)

    def backward(gradient: Tensor, value: Tensor, channels: int, layout: SampleLayout, batch: int) -> Tensor:
        evidence = weighed.backward(gradient, value, channels, layout, batch)
        return counted.backward(evidence, value, channels, layout, batch)

    return RegionRule("by region of mean gradients", backward, reads_value=True, conserves=False)


def by_section() -> RegionRule:
    """Set regions for the target against those for the others: ``R_pk = (2 S_p⁺ / ΣS⁺ − S_p⁻ / ΣS⁻) / K``, ``S_p = Σ_k x_pk · mean_q c_qk``.

    What arrives is to be the gradient ``c`` of the target's logit minus those of the others. All ``K`` channels of a region get the same.
    """
    weighed = by_activation()

    def backward(gradient: Tensor, value: Tensor, channels: int, layout: SampleLayout, batch: int) -> Tensor:
        evidence = weighed.backward(gradient, value, channels, layout, batch).sum(channels, keepdim=True)
        parts = (evidence.clamp(min=0), evidence.clamp(max=0))
        target, others = (over_its_sum(part, layout, batch)[0] for part in parts)
        return ((2 * target + others) / value.shape[channels]).expand_as(value)

    return RegionRule("by section", backward, reads_value=True, conserves=False)
