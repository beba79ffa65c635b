"""Which regions have evidence that is more than chance: the test of Benjamini and Hochberg, by Student's t."""

from dataclasses import dataclass

import torch
from torch import Tensor

from relprop.ops.layout import SampleLayout


@dataclass(frozen=True)
class Directions:
    """The directions among the classes, or the random weights, that tell how far evidence spreads.

    Attributes:
        count: How many there are: each costs a pass from the output to the regions.
        freedom: Degrees of freedom of the spread, even; those that the directions lack are of what the regions have in common.
    """

    count: int
    freedom: int


CHEAP, COSTLY = Directions(64, 64), Directions(4, 16)
"""Where a linear head alone follows the regions, so that a pass costs little; and where it goes through more of the model."""


def by_chance(distance: Tensor, freedom: int) -> Tensor:
    """Return how often Student's t lies farther from zero, ``P(|t| > |z|)``, of an even number ``ν`` of degrees of freedom.

    With ``cos² θ = 1 / (1 + z² / ν)`` it is ``1 − sin θ (1 + 1/2 cos² θ + 1·3/(2·4) cos⁴ θ + … )``, of ``ν / 2`` terms.
    """
    cosine = 1 / (1 + distance.square() / freedom)
    term = total = torch.ones_like(distance)
    for i in range(1, freedom // 2):
        term = term * cosine * ((2 * i - 1) / (2 * i))
        total = total + term
    return (1 - (1 - cosine).sqrt() * total).clamp(min=0)


def standing_out(evidence: Tensor, spread: Tensor, freedom: int, rate: float, layout: SampleLayout, batch: int) -> Tensor:
    """Return how far the evidence of regions is more than any class might have there, ``(1 − p_p / p*)⁺``, by Benjamini and Hochberg (1995).

    Of a sample's ``P`` regions those stand out whose ``p = P(|t| > |z|)``, ``z = C_p / σ_p``, is at most ``p* = rate · i / P``, where ``i`` is
    the largest rank at which the ``i``-th smallest p is; if all were chance no more than ``rate`` of them would be false in the mean.

    Args:
        evidence: ``C_p``, with one channel.
        spread: ``σ_p``, its standard deviation over the classes; regions where it is zero, such as padding, are none.
        freedom: Its degrees of freedom, even.
        rate: The false discovery rate, in (0, 1).
        layout: Where the samples lie.
        batch: Number of samples.
    """
    p = by_chance(evidence / spread.clamp(min=torch.finfo(spread.dtype).tiny), freedom)
    smallest = layout.by_sample(p, batch).sort(1).values
    ranks = torch.arange(1, smallest.shape[1] + 1, dtype=p.dtype, device=p.device)
    regions = layout.sum((spread > 0).to(p), batch).unsqueeze(1)
    bars = rate * ranks / regions.clamp(min=1)
    bar = torch.where((smallest <= bars) & (ranks <= regions), bars, torch.finfo(p.dtype).tiny).amax(1)
    return (1 - p / layout.spread(bar, p)).clamp(min=0)
