"""Bootstrap over images: means, paired differences and scores of summed counts, each with its 95 % interval."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Score = Callable[[Array], Array]
"""Sums over images ``(…, K)`` → scores ``(…, V)``."""

ROUNDS = 2000
LEVEL = 0.95
_DRAWS_AT_ONCE = 2**22
_KEPT = 2**28
"""Largest number of draws (images × rounds) that is cached for the next method: 256 MiB."""


@dataclass(frozen=True)
class Estimate:
    """A score and its bootstrap interval; the interval is NaN for fewer than two images, all is NaN where the score is undefined."""

    value: float
    low: float
    high: float


def resamples(images: int, rounds: int = ROUNDS, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of the images that each round draws with replacement, in chunks of rounds: ``(rounds, images)``."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // max(1, images))
    for first in range(0, rounds, at_once):
        yield generator.integers(images, size=(min(at_once, rounds - first), images))


def resampled_sums(rows: Array, rounds: int = ROUNDS, seed: int = 0) -> Array:
    """Return the sums of the rows over the images that each round draws.

    Args:
        rows: ``(images, K)``.
        rounds: Number of resamples.
        seed: Seed of the draws, which are equal for equal numbers of images.

    Returns:
        ``(rounds, K)``.
    """
    return np.concatenate([times.astype(np.float64) @ rows for times in _multiplicities(len(rows), rounds, seed)])


def _multiplicities(images: int, rounds: int, seed: int) -> Iterable[NDArray[np.uint8]]:
    """Return how often each round draws each image, in chunks of rounds: ``(rounds, images)``."""
    kept = images * rounds <= _KEPT
    return _drawn_once(images, rounds, seed) if kept else (_counted(drawn) for drawn in resamples(images, rounds, seed))


@lru_cache(maxsize=1)
def _drawn_once(images: int, rounds: int, seed: int) -> tuple[NDArray[np.uint8], ...]:
    return tuple(_counted(drawn) for drawn in resamples(images, rounds, seed))


def _counted(drawn: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Count the draws of each image in uint8; a count beyond 255 has a negligible probability and is clipped."""
    rounds, images = drawn.shape
    places = drawn + images * np.arange(rounds)[:, None]
    times = np.bincount(places.ravel(), minlength=drawn.size)
    return times.clip(max=np.iinfo(np.uint8).max).astype(np.uint8).reshape(drawn.shape)


def estimates(rows: Array, score: Score, *, rounds: int = ROUNDS, seed: int = 0) -> list[Estimate]:
    """Score a set of images, with the percentile interval of the scores of resampled sets (Efron and Tibshirani 1993, chapter 13).

    Args:
        rows: ``(images, K)``, one row of summable numbers per image.
        score: Sums ``(…, K)`` → scores ``(…, V)``; a score that a sum does not define is NaN.
        rounds: Number of resampled sets.
        seed: Seed of the resampling.

    Returns:
        One estimate per score.
    """
    values = score(rows.sum(0))
    nothing = np.full_like(values, np.nan)
    low, high = _interval(score(resampled_sums(rows, rounds, seed))) if len(rows) > 1 else (nothing, nothing)
    return [Estimate(float(v), float(a), float(b)) for v, a, b in zip(values, low, high, strict=True)]


def _interval(scores: Array) -> tuple[Array, Array]:
    """Return the percentiles of each column's defined scores."""
    ends = np.full((2, scores.shape[1]), np.nan)
    defined = np.isfinite(scores)
    tail = 100 * (1 - LEVEL) / 2
    for place in np.flatnonzero(defined.any(0)):
        ends[:, place] = np.percentile(scores[defined[:, place], place], [tail, 100 - tail])
    return ends[0], ends[1]


def median_estimates(values: Array, *, rounds: int = ROUNDS, seed: int = 0) -> list[Estimate]:
    """Return the median of each column over the images that have a value, with the percentile interval of the medians of resampled sets.

    Args:
        values: ``(images, V)``, NaN where undefined.
        rounds: Number of resampled sets.
        seed: Seed of the resampling.
    """
    times = np.concatenate(list(_multiplicities(len(values), rounds, seed))) if len(values) > 1 else None
    found: list[Estimate] = []
    for column in values.T:
        there = np.isfinite(column)
        order = np.argsort(column[there], kind="stable")
        ordered = column[there][order]
        if not len(ordered):
            found.append(Estimate(np.nan, np.nan, np.nan))
            continue
        medians = None if times is None else _medians(ordered, times[:, there][:, order])
        low, high = (np.full(1, np.nan),) * 2 if medians is None else _interval(medians[:, None])
        found.append(Estimate(float(np.median(ordered)), float(low[0]), float(high[0])))
    return found


def _medians(ordered: Array, times: NDArray[np.uint8]) -> Array:
    """Return the median of each round: ``(N,)`` ordered values and how often each is drawn ``(rounds, N)`` → ``(rounds,)``; NaN for none."""
    before = times.cumsum(1, dtype=np.int64)
    total = before[:, -1]
    middle = [(before <= ((total - 1 + side) // 2)[:, None]).sum(1).clip(max=len(ordered) - 1) for side in (0, 1)]
    return np.where(total > 0, (ordered[middle[0]] + ordered[middle[1]]) / 2, np.nan)


def mean_rows(values: Array) -> Array:
    """Return the summable numbers of a mean over the images that have a value: ``(images, V)`` → ``(images, 2·V)``."""
    defined = np.isfinite(values)
    return np.concatenate([np.where(defined, values, 0.0), defined], axis=1)


def mean_score(sums: Array) -> Array:
    """Return the means of sums of ``mean_rows``; NaN where no image has a value."""
    total, count = np.split(sums, 2, axis=-1)
    with np.errstate(invalid="ignore"):
        return total / count


def difference(score: Score) -> Score:
    """Return the score of rows that hold two methods' numbers side by side: ``score(first) − score(second)``."""

    def between(sums: Array) -> Array:
        first, second = np.split(sums, 2, axis=-1)
        return score(first) - score(second)

    return between
