"""Mean ranks of methods over images, and how far apart they must be to differ (Demšar, JMLR 2006)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from relprop.evaluation.report.statistics import LEVEL, Array
from relprop.metrics.base import Direction


@dataclass(frozen=True)
class Ranks:
    """The mean ranks of methods by one value.

    Attributes:
        value: The name of the value.
        direction: Whether ``"higher"`` or ``"lower"`` is better.
        images: The number of images that all methods scored.
        methods: The mean rank of each method, 1 for the best.
        difference: How far two ranks must be apart to differ.
    """

    value: str
    direction: Direction
    images: int
    methods: Mapping[str, float]
    difference: float


def rank_methods(value: str, direction: Direction, methods: Mapping[str, tuple[NDArray[np.str_], Array]]) -> Ranks | None:
    """Rank methods over the images that all of them scored; None without a better direction, or fewer than two methods or images.

    Args:
        value: The name of the value.
        direction: Whether higher or lower is better.
        methods: The sorted names of the images and their scores, by method.
    """
    if direction == "none" or len(methods) < 2:
        return None
    first, *others = (names[np.isfinite(scores)] for names, scores in methods.values())
    common = first[np.all([np.isin(first, names) for names in others], axis=0)]
    if len(common) < 2:
        return None
    scores = np.stack([scores[np.isin(names, common)] for names, scores in methods.values()], axis=1)
    ranks = dict(zip(methods, mean_ranks(scores, direction).tolist(), strict=True))
    return Ranks(value, direction, len(common), ranks, critical_difference(len(methods), len(common)))


def mean_ranks(scores: Array, direction: Direction) -> Array:
    """Return the mean rank of each method, 1 for the best; ties share their mean rank.

    Args:
        scores: ``(images, methods)``; images with an undefined score are left out.
        direction: Whether ``"higher"`` or ``"lower"`` scores are better.

    Returns:
        ``(methods,)``; NaN where no image has all scores.
    """
    kept = scores[np.isfinite(scores).all(1)]
    values = -kept if direction == "higher" else kept
    if not len(values):
        return np.full(scores.shape[1], np.nan)
    return np.mean([_ranked(row) for row in values], axis=0)


def critical_difference(methods: int, images: int, level: float = LEVEL) -> float:
    """Return how far two mean ranks must be apart to differ, ``q √(k (k + 1) / 6N)``, by Nemenyi's test.

    ``q`` is a quantile of the studentized range of ``k`` methods with infinite degrees of freedom, over ``√2``.
    """
    return _range_quantile(methods, level) / math.sqrt(2) * math.sqrt(methods * (methods + 1) / (6 * images))


def _ranked(row: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values get the mean of their places."""
    below = (row[None] < row[:, None]).sum(1)
    equal = (row[None] == row[:, None]).sum(1)
    return below + (equal + 1) / 2


def _range_quantile(methods: int, level: float) -> float:
    """Solve ``k ∫ φ(z) (Φ(z) − Φ(z − q))^{k−1} dz = level`` for q by bisection."""
    grid = torch.linspace(-8, 16, 4801, dtype=torch.float64)
    density = torch.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi)
    low, high = 0.0, 20.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        inside = torch.special.ndtr(grid) - torch.special.ndtr(grid - middle)
        share = methods * torch.trapezoid(density * inside ** (methods - 1), grid)
        low, high = (middle, high) if float(share) < level else (low, middle)
    return (low + high) / 2
