"""Which regions count: those whose evidence is more than chance, by the test of Benjamini and Hochberg, and not that of another class."""

from typing import NamedTuple

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


class Usual(NamedTuple):
    """What is usual in every region where evidence is tested, with one channel.

    Attributes:
        spread: ``σ_p``, the standard deviation of the evidence over the classes; regions where it is zero, such as padding, are none.
        rival: ``M_p``, the largest evidence for one of the likeliest classes; zero where no other is compared.
    """

    spread: Tensor
    rival: Tensor


def counting(evidence: Tensor, usual: Usual, rate: float, layout: SampleLayout, batch: int) -> Tensor:
    """Return how far regions count, in [0, 1]: as far as their evidence stands out among the classes, and is not a rival's.

    Args:
        evidence: ``C_p``, with one channel.
        usual: What it is compared with.
        rate: The false discovery rate, in (0, 1).
        layout: Where the samples lie.
        batch: Number of samples.
    """
    return standing_out(evidence, usual.spread, rate, layout, batch) * prevailing(evidence, usual.rival)


def prevailing(evidence: Tensor, rival: Tensor) -> Tensor:
    """Return how far positive evidence is the explained class's, ``min(1, (3 C_p / M_p − 1)⁺)``: not at all up to a third of a rival's.

    From two thirds on it counts fully: two breeds of one object share its regions.
    """
    third = rival / 3
    ratio = (evidence - third) / third.clamp(min=torch.finfo(third.dtype).tiny)
    return torch.where(evidence > 0, ratio.clamp(min=0, max=1), 1.0)


def standing_out(evidence: Tensor, spread: Tensor, rate: float, layout: SampleLayout, batch: int) -> Tensor:
    """Return how far the evidence of regions is more than any class might have there, ``(1 − p_p / p*)⁺``, by Benjamini and Hochberg (1995).

    Of a sample's ``P`` regions those stand out whose ``p = P(|t| > |z|)``, ``z = C_p / σ_p``, is at most ``p* = rate · i / P``, where ``i`` is
    the largest rank at which the ``i``-th smallest p is; if all were chance no more than ``rate`` of them would be false in the mean.

    Args:
        evidence: ``C_p``, with one channel.
        spread: ``σ_p``, as in :class:`Usual`.
        rate: As that of :func:`counting`.
        layout: Likewise.
        batch: Likewise.
    """
    p = by_chance(evidence / spread.clamp(min=torch.finfo(spread.dtype).tiny))
    smallest = layout.by_sample(p, batch).sort(1).values
    ranks = torch.arange(1, smallest.shape[1] + 1, dtype=p.dtype, device=p.device)
    regions = layout.sum((spread > 0).to(p), batch).unsqueeze(1)
    bars = rate * ranks / regions.clamp(min=1)
    bar = torch.where((smallest <= bars) & (ranks <= regions), bars, torch.finfo(p.dtype).tiny).amax(1)
    return (1 - p / layout.spread(bar, p)).clamp(min=0)
