"""The rule of one value between an upper and a lower part of a graph: evidence by region, shared among the region's channels."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from relprop.errors import OptionError, UnsupportedOpError
from relprop.ops.layout import SampleLayout
from relprop.rules.equilibrium import over_its_sum
from relprop.rules.kernel import divide


@dataclass(frozen=True)
class Place:
    """A value that is made of regions.

    Attributes:
        value: The value, hollow unless the rule reads it.
        channels: The dimension of its channels.
        layout: Where the samples lie.
        batch: Number of samples.
    """

    value: Tensor
    channels: int
    layout: SampleLayout
    batch: int


Weigh = Callable[[Tensor, Place], Tensor]
"""``(what arrives, place) -> evidence of every channel of every region``, shaped alike."""
Share = Callable[[Tensor, Place], Tensor]
"""``(evidence of every channel, place) -> relevance``, shaped alike."""


def _as_it_arrives(relevance: Tensor, _: Place) -> Tensor:
    """Take relevance that arrives as evidence."""
    return relevance


def by_activation(gradient: Tensor, place: Place) -> Tensor:
    """Weigh every channel by its mean gradient, as Grad-CAM does without summing the channels: ``x_pk · mean_q c_qk``.

    What arrives is to be the gradient ``c``, by :func:`relprop.rules.gradient.gradient`.
    """
    layout = place.layout
    if layout.dim is not None and place.value.shape[layout.dim] != place.batch:
        raise UnsupportedOpError(
            "Channels are weighed by their mean over a sample, and here windows lie in the batch dimension; "
            "take another upper=…, such as epsilon-plus."
        )
    places = [d for d in range(place.value.dim()) if d not in {place.channels, layout.dim}]
    return place.value * gradient.mean(places, keepdim=True)


def _as_it_is(evidence: Tensor, _: Place) -> Tensor:
    """Take evidence as relevance."""
    return evidence


@dataclass(frozen=True)
class RegionRule:
    """How the relevance that arrives at a value is shared anew among its elements.

    Attributes:
        name: Printed in the plan.
        share: What evidence becomes.
        weigh: How what arrives becomes evidence.
        reads_value: Whether that reads the value itself.
        false_discovery_rate: The share of the regions that may count by chance, in (0, 1]: below 1 evidence is tested, by
            :func:`relprop.rules.discoveries.standing_out`.
        conserves: Whether it keeps the sum of what arrives, per sample, but for what counts as absorbed.
    """

    name: str
    share: Share = _as_it_is
    weigh: Weigh = _as_it_arrives
    reads_value: bool = False
    false_discovery_rate: float = 1.0
    conserves: bool = True

    @property
    def tests(self) -> bool:
        """Whether regions are tested."""
        return self.false_discovery_rate < 1


def by_region(weight: float = 0.0, false_discovery_rate: float = 1.0) -> RegionRule:
    """Count evidence by region: ``R_pk = |r_pk| (w C_p / A_p + (1 − w) Σ_q C_q / Σ_q A_q)``, ``C_p = Σ_k r_pk``, ``A_p = Σ_k |r_pk|``.

    The sums are over the regions ``q`` whose evidence has the sign of ``C_p``. So a region keeps its sign, the evidence for the class and
    that against it keep their sums, and inside a region the channels share by magnitude.

    Args:
        weight: ``w``: 1 for the evidence of every region itself; 0 where all evidence of a sign is shared by magnitude.
        false_discovery_rate: The share of the regions that may count by chance, in (0, 1]; with 1 all regions count.

    Raises:
        OptionError: An option lies outside its range.
    """
    if not (0 <= weight <= 1 and math.isfinite(weight)):
        raise OptionError(f"Option weight={weight!r} must lie between 0 and 1.")
    if not (0 < false_discovery_rate <= 1 and math.isfinite(false_discovery_rate)):
        raise OptionError(f"Option false_discovery_rate={false_discovery_rate!r} must lie above 0 and be at most 1.")

    def share(evidence: Tensor, place: Place) -> Tensor:
        magnitude = evidence.abs()
        counted, size = (part.sum(place.channels, keepdim=True) for part in (evidence, magnitude))
        factor = weight * divide(counted, size)
        if weight < 1:
            shared = sum(_evenly(part, size, place) for part in (counted.clamp(min=0), counted.clamp(max=0)))
            factor = factor + (1 - weight) * shared
        return magnitude * factor

    return RegionRule("by region", share, false_discovery_rate=false_discovery_rate)


def _evenly(counted: Tensor, size: Tensor, place: Place) -> Tensor:
    """The evidence of one sign over its magnitude in a sample, ``Σ C / Σ A``, in the regions that have it."""
    inside = counted != 0
    sums = (place.layout.sum(part, place.batch) for part in (counted, size * inside))
    return place.layout.spread(divide(*sums), counted) * inside


def by_mean_gradient() -> RegionRule:
    """Take as relevance what :func:`by_activation` gives."""
    return RegionRule("by mean gradient", weigh=by_activation, reads_value=True, conserves=False)


def by_smooth_evidence(weight: float = 0.5, false_discovery_rate: float = 1.0) -> RegionRule:
    """Count evidence by region, every channel weighed by its mean gradient: :func:`by_region` of what :func:`by_activation` gives.

    Behind a hidden dense layer every place of a channel has a weight of its own, and the evidence of single regions is noise.

    Args:
        weight: As that of :func:`by_region`.
        false_discovery_rate: Likewise.

    Raises:
        OptionError: As of :func:`by_region`.
    """
    counted = by_region(weight, false_discovery_rate)
    return replace(counted, name="by region of mean gradients", weigh=by_activation, reads_value=True, conserves=False)


def by_section() -> RegionRule:
    """Set regions for the target against those for the others: ``R_pk = (2 S_p⁺ / ΣS⁺ − S_p⁻ / ΣS⁻) / K``, ``S_p = Σ_k x_pk · mean_q c_qk``.

    What arrives is to be the gradient ``c`` of the target's logit minus those of the others. All ``K`` channels of a region get the same.
    """

    def share(evidence: Tensor, place: Place) -> Tensor:
        section = evidence.sum(place.channels, keepdim=True)
        parts = (section.clamp(min=0), section.clamp(max=0))
        target, others = (over_its_sum(part, place.layout, place.batch)[0] for part in parts)
        return ((2 * target + others) / evidence.shape[place.channels]).expand_as(evidence)

    return RegionRule("by section", share, by_activation, reads_value=True, conserves=False)
