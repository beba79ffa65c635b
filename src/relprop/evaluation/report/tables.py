"""One model and one metric of a run: every method's scores with their intervals, and the differences to a baseline."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from relprop.evaluation.report.ranks import Ranks, rank_methods
from relprop.evaluation.report.scores import Scored
from relprop.evaluation.report.statistics import (
    Array,
    Estimate,
    Score,
    difference,
    estimates,
    mean_rows,
    mean_score,
    median_estimates,
)
from relprop.metrics import MetricSpec, Value
from relprop.metrics.base import Direction, Over

Way = Over | Literal["median"]
"""How a set is scored: as the metric says, or by the median of the images' scores, for unbounded ratios."""


@dataclass(frozen=True)
class Line:
    """One value of one method.

    Attributes:
        method: The method with its options.
        value: The name of the value, such as ``miou``.
        over: ``set`` (score of the summed statistics), ``images`` (mean of the images' scores) or ``median`` (of these).
        direction: Whether ``higher`` or ``lower`` is better, or ``none``.
        images: Number of scored images.
        failed: Number of failed images.
        undefined: Number of scored images whose value is undefined; they are left out of mean and median.
        score: The score with its 95 % interval.
        difference: The difference to the baseline over the images that both scored; None for the baseline or without one.
        best: Whether no method of the table is better.
    """

    method: str
    value: str
    over: Way
    direction: Direction
    images: int
    failed: int
    undefined: int
    score: Estimate
    difference: Estimate | None
    best: bool = False


@dataclass(frozen=True)
class Curve:
    """The mean of one method's curve over images, one estimate per point."""

    method: str
    name: str
    points: tuple[Estimate, ...]


@dataclass(frozen=True)
class Table:
    """All methods on one model and metric.

    ``lines`` are sorted by over, value and method, the headline's first; ``ranks`` are by the scores of single images, one per value.
    """

    model: str
    metric: str
    baseline: str | None
    lines: tuple[Line, ...]
    curves: tuple[Curve, ...]
    ranks: tuple[Ranks, ...] = ()

    @property
    def headline(self) -> Way | None:
        """The ``over`` of the first lines; None without lines."""
        return self.lines[0].over if self.lines else None

    def line(self, method: str, value: str, over: Way | None = None) -> Line | None:
        """Return one line, by default of the headline."""
        wanted = (method, value, over or self.headline)
        return next((line for line in self.lines if (line.method, line.value, line.over) == wanted), None)


@dataclass(frozen=True)
class _Way:
    """A way to score a set of images.

    The score of a set is ``score(Σ rows(raw(data)))``; the difference of two methods on the same images is
    ``paired_score(Σ paired(raw(first), raw(second)))``. The sums run over images.
    """

    over: Over
    values: tuple[Value, ...]
    raw: Callable[[Scored], Array]
    rows: Callable[[Array], Array]
    score: Score
    paired: Callable[[Array, Array], Array]
    paired_score: Score


def make_table(
    model: str,
    metric: str,
    spec: MetricSpec | None,
    methods: Mapping[str, Scored],
    baseline: str | None,
    *,
    rounds: int,
    seed: int,
) -> Table:
    """Score every method, and compare it with the baseline.

    Args:
        model: The name of the model in tables.
        metric: The name of the metric in tables.
        spec: The metric as data; None if the registry has no such metric.
        methods: The scores of each method.
        baseline: One of the methods, or None.
        rounds: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
    """
    lines: list[Line] = []
    for way in _ways(spec, methods):
        found = [_lines(way, method, methods, baseline, rounds, seed) for method in methods]
        lines += [line for same in zip(*found, strict=True) for line in _with_best(same)]
        if way.over == "images":
            medians = [_median_lines(way, method, methods, baseline, rounds, seed) for method in methods]
            lines += [line for same in zip(*medians, strict=True) for line in _with_best(same)]
    curves = tuple(curve for method, data in methods.items() for curve in _curves(method, data, rounds, seed))
    return Table(model, metric, baseline, tuple(lines), curves, tuple(_ranks(spec, methods)))


def _ranks(spec: MetricSpec | None, methods: Mapping[str, Scored]) -> Iterator[Ranks]:
    for value in _values(spec, methods):
        scores = {method: (data.images, data.scores[value.name]) for method, data in methods.items() if value.name in data.scores}
        found = rank_methods(value.name, value.direction, scores)
        if found is not None:
            yield found


def _ways(spec: MetricSpec | None, methods: Mapping[str, Scored]) -> list[_Way]:
    """Return the ways to score the metric, its default first."""
    values = _values(spec, methods)
    means = _Way(
        "images", values, lambda data: _columns(data.scores, values, len(data.images)), mean_rows, mean_score, _gaps, mean_score
    )
    widths = next(({n: v.shape[1] for n, v in data.statistics.items()} for data in methods.values() if len(data.images)), {})
    if spec is None or not widths:
        return [means]
    score = _set_score(spec, widths, values)
    whole = _Way("set", values, lambda data: _statistics(data, widths), lambda raw: raw, score, _side_by_side, difference(score))
    return [{"set": whole, "images": means}[over] for over in spec.over]


def _values(spec: MetricSpec | None, methods: Mapping[str, Scored]) -> tuple[Value, ...]:
    """Return the scalar values, in the metric's order, then other scores found in the rows."""
    names = list(dict.fromkeys(name for data in methods.values() for name in data.scores))
    known = tuple(value for value in (spec.values if spec else ()) if value.name in names)
    others = [name for name in names if name not in {value.name for value in known}]
    return (*known, *(Value(name, "none", -np.inf, np.inf, "") for name in others))


def _columns(scores: Mapping[str, Array], values: Sequence[Value], images: int) -> Array:
    columns = [scores.get(value.name, np.full(images, np.nan)) for value in values]
    return np.stack(columns, axis=1) if columns else np.empty((images, 0))


def _statistics(data: Scored, widths: Mapping[str, int]) -> Array:
    return np.concatenate([data.statistics.get(name, np.empty((0, width))) for name, width in widths.items()], axis=1)


def _set_score(spec: MetricSpec, widths: Mapping[str, int], values: Sequence[Value]) -> Score:
    """Return the metric's ``compute`` on summed statistics concatenated along the last axis."""
    ends = np.cumsum(list(widths.values()))[:-1]

    def score(sums: Array) -> Array:
        parts = np.split(sums, ends, axis=-1)
        named = {
            name: torch.from_numpy(np.asarray(part[..., 0] if width == 1 else part))
            for (name, width), part in zip(widths.items(), parts, strict=True)
        }
        found = spec.compute(named)
        return np.stack([found[value.name].numpy() for value in values], axis=-1)

    return score


def _gaps(first: Array, second: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return mean_rows(first - second)


def _side_by_side(first: Array, second: Array) -> Array:
    return np.concatenate([first, second], axis=1)


def _lines(way: _Way, method: str, methods: Mapping[str, Scored], baseline: str | None, rounds: int, seed: int) -> list[Line]:
    """Return one line per value of one method."""
    data, base = methods[method], methods.get(baseline or "")
    raw = way.raw(data)
    found = estimates(way.rows(raw), way.score, rounds=rounds, seed=seed)
    gaps = [None] * len(found)
    if base is not None and method != baseline:
        _, mine, theirs = np.intersect1d(data.images, base.images, assume_unique=True, return_indices=True)
        paired = way.paired(raw[mine], way.raw(base)[theirs])
        gaps = estimates(paired, way.paired_score, rounds=rounds, seed=seed)
    undefined = (~np.isfinite(raw)).sum(0) if way.over == "images" else np.zeros(len(found), dtype=np.int64)
    return [
        Line(method, value.name, way.over, value.direction, len(data.images), len(data.failed), int(nowhere), score, gap)
        for value, nowhere, score, gap in zip(way.values, undefined, found, gaps, strict=True)
    ]


def _median_lines(
    way: _Way, method: str, methods: Mapping[str, Scored], baseline: str | None, rounds: int, seed: int
) -> list[Line]:
    """Return one line per unbounded ratio of one method: the median, and the median of the differences by image."""
    chosen = [place for place, value in enumerate(way.values) if value.ratio]
    data, base = methods[method], methods.get(baseline or "")
    if not chosen:
        return []
    raw = way.raw(data)[:, chosen]
    found = median_estimates(raw, rounds=rounds, seed=seed)
    gaps = [None] * len(found)
    if base is not None and method != baseline:
        _, mine, theirs = np.intersect1d(data.images, base.images, assume_unique=True, return_indices=True)
        with np.errstate(invalid="ignore"):
            gaps = median_estimates(raw[mine] - way.raw(base)[theirs][:, chosen], rounds=rounds, seed=seed)
    undefined = (~np.isfinite(raw)).sum(0)
    values = [way.values[place] for place in chosen]
    return [
        Line(method, value.name, "median", value.direction, len(data.images), len(data.failed), int(nowhere), score, gap)
        for value, nowhere, score, gap in zip(values, undefined, found, gaps, strict=True)
    ]


def _with_best(lines: Sequence[Line]) -> list[Line]:
    """Mark the best of the lines of one value."""
    sign = {"higher": 1, "lower": -1, "none": 0}[lines[0].direction]
    defined = [sign * line.score.value for line in lines if np.isfinite(line.score.value)]
    return [replace(line, best=bool(sign and defined and sign * line.score.value == max(defined))) for line in lines]


def _curves(method: str, data: Scored, rounds: int, seed: int) -> list[Curve]:
    return [
        Curve(method, name, tuple(estimates(mean_rows(values), mean_score, rounds=rounds, seed=seed)))
        for name, values in data.curves.items()
    ]
