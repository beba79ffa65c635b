"""Which regions have evidence that is more than chance: the test of Benjamini and Hochberg."""

import math

import torch
from torch import Tensor

from relprop.ops.layout import SampleLayout


def by_chance(distance: Tensor) -> Tensor:
    """Return how often a normal number lies farther from zero than some standard deviations, ``P(|Z| > |z|) = erfc(|z| / √2)``."""
    return torch.erfc(distance.abs() / math.sqrt(2))


def standing_out(evidence: Tensor, spread: Tensor, rate: float, layout: SampleLayout, batch: int) -> Tensor:
    """Return how far the evidence of regions is more than any class might have there, ``(1 − p_p / p*)⁺``, by Benjamini and Hochberg (1995).

    Of a sample's ``P`` regions those stand out whose ``p = P(|Z| > |z|)``, ``z = C_p / σ_p``, is at most ``p* = rate · i / P``, where ``i`` is
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
