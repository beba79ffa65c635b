"""The report of a run, and its form in Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from relprop.evaluation.report.escape import block, csv_cell, in_table, inline, one_line
from relprop.evaluation.report.grids import ARROWS, NAMING, Cell, Grid, grids
from relprop.evaluation.report.statistics import Estimate
from relprop.evaluation.report.tables import Line, Table
from relprop.metrics import Value

_SHOWN = 5
_LATEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "−": r"$-$",
    "–": "--",
    "⁺": r"$^+$",
    "⁻": r"$^-$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
}


@dataclass(frozen=True)
class Failures:
    """The images on which one method and metric failed for one reason."""

    model: str
    metric: str
    method: str
    reason: str
    images: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.images[:_SHOWN]) + (f", … ({len(self.images)} images)" if len(self.images) > _SHOWN else "")
        return f"{self.model}, {self.metric}, {self.method}: {shown}: {self.reason}"


@dataclass(frozen=True)
class Report:
    """The summary of a run.

    Attributes:
        name: The name of the results folder.
        tables: One per model and metric.
        failures: Every row that failed, by method and reason.
        notes: Remarks for the reader: failed rows, an unfinished run.
        method: How the intervals were computed.
        meanings: The values of each metric, with their meanings.
    """

    name: str
    tables: tuple[Table, ...]
    failures: tuple[Failures, ...] = ()
    notes: tuple[str, ...] = ()
    method: str = ""
    meanings: Mapping[str, tuple[Value, ...]] = field(default_factory=dict[str, tuple[Value, ...]])

    def markdown(self) -> str:
        """Return the report as a page of Markdown."""
        return markdown(self)

    def latex(self) -> str:
        """Return the tables in LaTeX."""
        return latex(self)

    def csv(self) -> str:
        """Return every value of every method, one per line."""
        return scores_csv(self)

    def curves_csv(self) -> str:
        """Return the mean of every curve, one point per line."""
        return curves_csv(self)

    def failures_csv(self) -> str:
        """Return every failed row, one per line."""
        return failures_csv(self.failures)

    def table(self, model: str, metric: str) -> Table | None:
        """Return the table of one model and metric."""
        return next((table for table in self.tables if (table.model, table.metric) == (model, metric)), None)


def markdown(report: Report) -> str:
    """Return the report as a page of Markdown."""
    parts = [f"# Evaluation: {inline(report.name)}", *_listed(report.notes), report.method]
    for model in dict.fromkeys(table.model for table in report.tables):
        parts.append(f"## {inline(model)}")
        for table in report.tables:
            if table.model == model:
                parts.append(f"### {inline(table.metric)}")
                parts += [part for grid in grids(table) for part in (block(grid.caption), markdown_grid(grid))]
    parts += ["## What the values say", "\n".join(_meanings(report))] if report.meanings else []
    parts += ["## Failed", "\n".join(f"- {block(str(failure))}" for failure in report.failures)] if report.failures else []
    return "\n\n".join(parts) + "\n"


def markdown_grid(grid: Grid) -> str:
    """Return a grid as a Markdown table with right-aligned numbers."""

    def row(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    rule = ["---" if name in NAMING else "---:" for name in grid.header]
    body = (row(f"**{in_table(cell.text)}**" if cell.bold else in_table(cell.text) for cell in cells) for cells in grid.rows)
    return "\n".join([row(map(in_table, grid.header)), row(rule), *body])


def latex(report: Report) -> str:
    """Return the tables in LaTeX, for the package ``booktabs``."""
    notes = [f"% {one_line(note)}" for note in (f"Evaluation: {report.name}", *report.notes, report.method)]
    tables = [_latex_grid(f"{table.model}: {grid.caption}", grid) for table in report.tables for grid in grids(table)]
    return "\n".join([*notes, "% \\usepackage{booktabs}", *tables])


def _latex_grid(caption: str, grid: Grid) -> str:
    body = [" & ".join(map(_latex_cell, cells)) + r" \\" for cells in grid.rows]
    header = " & ".join(map(_escaped, grid.header)) + r" \\"
    begin = [r"\begin{table}", rf"\caption{{{_escaped(caption)}}}", rf"\begin{{tabular}}{{l{'r' * (len(grid.header) - 1)}}}"]
    return "\n".join([*begin, r"\toprule", header, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _latex_cell(cell: Cell) -> str:
    return rf"\textbf{{{_escaped(cell.text)}}}" if cell.bold else _escaped(cell.text)


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(mark, mark) for mark in one_line(text))


SCORES = (
    *("model", "metric", "method", "value", "over", "direction", "images", "failed", "undefined", "score", "low", "high", "best"),
    *("baseline", "difference", "difference_low", "difference_high"),
)
CURVES = ("model", "metric", "method", "curve", "point", "mean", "low", "high")
FAILURES = ("model", "metric", "method", "image", "reason")


def scores_csv(report: Report) -> str:
    """Return every value of every method, one per line."""
    rows = (_score_row(table, line) for table in report.tables for line in table.lines)
    return csv_text(SCORES, rows)


def _score_row(table: Table, line: Line) -> tuple[object, ...]:
    names = (table.model, table.metric, line.method, line.value, line.over, line.direction)
    counts = (line.images, line.failed, line.undefined)
    baseline = table.baseline if line.difference else None
    return (*names, *counts, *_numbers(line.score), line.best, baseline, *_numbers(line.difference))


def curves_csv(report: Report) -> str:
    """Return the mean of every curve, one point per line."""
    rows = (
        (table.model, table.metric, curve.method, curve.name, place, *_numbers(point))
        for table in report.tables
        for curve in table.curves
        for place, point in enumerate(curve.points)
    )
    return csv_text(CURVES, rows)


def failures_csv(failures: Sequence[Failures]) -> str:
    """Return every failed row."""
    return csv_text(FAILURES, ((f.model, f.metric, f.method, image, f.reason) for f in failures for image in f.images))


def _numbers(estimate: Estimate | None) -> tuple[object, object, object]:
    return (None, None, None) if estimate is None else (estimate.value, estimate.low, estimate.high)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV, without formulas for spreadsheets."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return file.getvalue()


def _listed(notes: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {block(note)}" for note in notes)] if notes else []


def _meanings(report: Report) -> list[str]:
    return [
        f"- {block(metric)}, `{value.name}`{f' {ARROWS[value.direction]}'.rstrip()}: {value.meaning}"
        for metric, values in report.meanings.items()
        for value in values
    ]
