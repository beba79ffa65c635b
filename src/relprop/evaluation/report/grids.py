"""Tables of results as grids of cells, the common form of Markdown, LaTeX and the terminal."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from relprop.evaluation.report.statistics import Estimate
from relprop.evaluation.report.tables import Line, Table
from relprop.metrics import METRICS

ARROWS = {"higher": "↑", "lower": "↓", "none": ""}
NAMING = frozenset({"model", "method"})
"""Headers of columns that hold names, not numbers."""
WAYS = {"set": "score of the whole set", "images": "mean over images", "median": "median over images"}


@dataclass(frozen=True)
class Cell:
    """A text; bold if it is the best of its column."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Grid:
    """A table for display; the columns in ``NAMING`` hold names, the others numbers."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def grids(table: Table) -> Iterator[Grid]:
    """Yield a grid of scores for each way to score, followed by a grid of differences if there is a baseline."""
    for over in dict.fromkeys(line.over for line in table.lines):
        lines = [line for line in table.lines if line.over == over]
        values = {line.value: f"{line.value} {ARROWS[line.direction]}".rstrip() for line in lines}
        methods = [[line for line in lines if line.method == method] for method in dict.fromkeys(line.method for line in lines)]
        scores = tuple((*_counts(row[0]), *map(_score, row)) for row in methods)
        yield Grid(f"{table.metric}, {WAYS[over]}", ("method", unit_of(table), "failed", *values.values()), scores)
        if table.baseline:
            gaps = tuple((Cell(row[0].method), *map(_gap, row)) for row in methods if row[0].method != table.baseline)
            yield Grid(
                f"{table.metric}, {WAYS[over]}: difference to {table.baseline}, paired by image",
                ("method", *values.values()),
                gaps,
            )


def unit_of(table: Table) -> str:
    """Return the unit of the scores: images, or groups of images."""
    spec = METRICS.get(table.metric.partition(":")[0])
    return "images" if spec is None or spec.group == 1 else f"groups of {spec.group}"


def number(value: float, *, signed: bool = False) -> str:
    """Format a number with three decimals, one from 100 on, scientific if very large or small; a dash if it is undefined."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    style = ".2e" if size >= 10_000 or 0 < size < 0.0005 else ".1f" if size >= 100 else ".3f"
    return f"{value:{'+' if signed else ''}{style}}".replace("-", "−")


def interval(estimate: Estimate, *, signed: bool = False) -> str:
    """Format a score with its interval: ``0.812 [0.801, 0.823]``."""
    ends = f" [{number(estimate.low, signed=signed)}, {number(estimate.high, signed=signed)}]"
    return number(estimate.value, signed=signed) + (ends if math.isfinite(estimate.low) else "")


def _counts(line: Line) -> tuple[Cell, ...]:
    return Cell(line.method), Cell(str(line.images)), Cell(str(line.failed))


def _score(line: Line) -> Cell:
    undefined = f" ({line.undefined} undefined)" if line.undefined else ""
    return Cell(interval(line.score) + undefined, line.best)


def _gap(line: Line) -> Cell:
    return Cell("–" if line.difference is None else interval(line.difference, signed=True))
