"""Figures of a report: bars of the headline scores with their intervals, mean curves, and mean ranks."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from relprop.evaluation.report.grids import ARROWS
from relprop.evaluation.report.report import Report
from relprop.evaluation.report.tables import Line, Table
from relprop.files import as_path, atomic, make_folder
from relprop.text import counted
from relprop.viz.curves import plot_curves
from relprop.viz.lettering import AS_IT_IS, printable
from relprop.viz.ranks import plot_ranks

_COLUMNS = 3


def write_figures(report: Report, folder: Path | str) -> list[Path]:
    """Write for every model and metric ``MODEL-METRIC.png``, and where they exist ``…-curves.png`` and one ``…-ranks-VALUE.png`` per value.

    Raises:
        OutputError: A file that cannot be written.
    """
    folder = as_path(folder, "The folder of figures")
    written: list[Path] = []
    for table in report.tables:
        name = _file_name(f"{table.model}-{table.metric}")
        for suffix, figure in (("", draw_bars(table)), ("-curves", draw_curves(table)), *_ranks(table)):
            if figure is not None:
                make_folder(folder)
                written.append(folder / f"{name}{suffix}.png")
                with atomic(written[-1]) as path:
                    figure.savefig(path, dpi=120)
    return written


def draw_bars(table: Table) -> Figure | None:
    """Return one panel per headline value, with a bar and interval per method, the best on top; None without scores."""
    lines = [line for line in table.lines if line.over == table.headline and np.isfinite(line.score.value)]
    values = list(dict.fromkeys(line.value for line in lines))
    if not values:
        return None
    methods = len({line.method for line in lines})
    columns = min(_COLUMNS, len(values))
    rows = -(-len(values) // columns)
    figure = Figure(figsize=(3.6 * columns + 0.4, 0.5 + rows * (0.6 + 0.22 * methods)), layout="constrained")
    figure.suptitle(printable(_title(table)), fontsize=10, **AS_IT_IS)
    for place, value in enumerate(values, start=1):
        _bars(figure.add_subplot(rows, columns, place), [line for line in lines if line.value == value])
    return figure


def _bars(axes: Axes, lines: Sequence[Line]) -> None:
    sign = 1 if lines[0].direction == "lower" else -1
    lines = sorted(lines, key=lambda line: sign * line.score.value, reverse=True)
    scores = np.array([line.score.value for line in lines])
    ends = np.array([(line.score.low, line.score.high) for line in lines])
    errors = np.nan_to_num(np.abs(ends.T - scores))
    places = range(len(lines))
    axes.barh(places, scores, xerr=errors, color="#7a9cc6", ecolor="#333333", error_kw={"lw": 1})
    axes.set_yticks(places, [printable(line.method) for line in lines], **AS_IT_IS)
    axes.set_title(printable(f"{lines[0].value} {ARROWS[lines[0].direction]}".rstrip()), fontsize=9, **AS_IT_IS)
    axes.tick_params(labelsize=7)
    axes.margins(y=0.02)
    _zoom(axes, scores, np.where(np.isfinite(ends), ends, scores[:, None]))


def _zoom(axes: Axes, scores: np.ndarray, ends: np.ndarray) -> None:
    """Clip the axis at four times the upper quartile of the scores, so that outliers do not hide the other methods."""
    limit = 4 * float(np.percentile(scores, 75))
    if limit > 0 and float(ends.max()) > limit:
        axes.set_xlim(min(0.0, float(ends.min())), limit)
        axes.set_xlabel("bars that reach the edge go on", fontsize=6)


def draw_curves(table: Table) -> Figure | None:
    """Return one panel per curve, with a line per method, and its interval as a band for up to ten methods; None without curves."""
    names = list(dict.fromkeys(curve.name for curve in table.curves))
    panels = {
        name.removesuffix("_curve").replace("_", " "): {
            curve.method: [(point.value, point.low, point.high) for point in curve.points]
            for curve in table.curves
            if curve.name == name
        }
        for name in names
    }
    return plot_curves(panels, title=_title(table), columns=_COLUMNS) if panels else None


def _ranks(table: Table) -> Iterator[tuple[str, Figure]]:
    """Yield the end of a file's name and the chart of mean ranks, for each value that has ranks."""
    for ranks in table.ranks:
        title = f"{_title(table)}, {ranks.value} {ARROWS[ranks.direction]}, mean ranks over {counted(ranks.images, 'image')}"
        yield f"-ranks-{_file_name(ranks.value)}", plot_ranks(ranks.methods, ranks.difference, title=title)


def _title(table: Table) -> str:
    return f"{table.model}: {table.metric}"


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-")
