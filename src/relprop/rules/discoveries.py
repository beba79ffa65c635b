"""Which regions have evidence that is more than chance: the test of Benjamini and Hochberg, by Student's t."""

import torch
from torch import Tensor

from relprop.ops.layout import SampleLayout

FREEDOM = 16
"""Degrees of freedom of the spread: those of its directions, and of what the regions have in common where these are less."""


def by_chance(distance: Tensor) -> Tensor:
    """Return how often Student's t lies farther from zero, ``P(|t| > |z|)``, of 16 degrees of freedom.

    With ``cos² θ = 1 / (1 + z² / ν)`` and ν even it is ``1 − sin θ (1 + 1/2 cos² θ + 1·3/(2·4) cos⁴ θ + … )``, of ``ν / 2`` terms.
    """
    cosine = 1 / (1 + distance.square() / FREEDOM)
    term = total = torch.ones_like(distance)
    for i in range(1, FREEDOM // 2):
        term = term * cosine * ((2 * i - 1) / (2 * i))
        total = total + term
    return (1 - (1 - cosine).sqrt() * total).clamp(min=0)


def standing_out(evidence: Tensor, spread: Tensor, rate: float, layout: SampleLayout, batch: int) -> Tensor:
    """Return how far the evidence of regions is more than any class might have there, ``(1 − p_p / p*)⁺``, by Benjamini and Hochberg (1995).

    Of a sample's ``P`` regions those stand out whose ``p = P(|t| > |z|)``, ``z = C_p / σ_p``, is at most ``p* = rate · i / P``, where ``i`` is
    the largest rank at which the ``i``-th smallest p is; if all were chance no more than ``rate`` of them would be false in the mean.

    Args:
        evidence: ``C_p``, with one channel.
        spread: ``σ_p``, its standard deviation over the classes; regions where it is zero, such as padding, are none.
        rate: The false discovery rate, in (0, 1).
        layout: Where the samples lie.
        batch: Number of samples.
    """
    p = by_chance(evidence / spread.clamp(min=torch.finfo(spread.dtype).tiny))
    smallest = layout.by_sample(p, batch).sort(1).values
    ranks = torch.arange(1, smallest.shape[1] + 1, dtype=p.dtype, device=p.device)
    regions = layout.sum((spread > 0).to(p), batch).unsqueeze(1)
    bars = rate * ranks / regions.clamp(min=1)
    bar = torch.where((smallest <= bars) & (ranks <= regions), bars, torch.finfo(p.dtype).tiny).amax(1)
    return (1 - p / layout.spread(bar, p)).clamp(min=0)
