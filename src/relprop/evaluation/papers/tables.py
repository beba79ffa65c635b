"""Tables of a reproduction: the measured number, the published one and the difference."""

from collections.abc import Iterator, Sequence

from relprop.evaluation.papers.reproduction import Comparison, Reproduction
from relprop.evaluation.report.escape import block, inline
from relprop.evaluation.report.grids import Cell, Grid, interval, number
from relprop.evaluation.report.report import csv_text, markdown_grid

COLUMNS = (
    *("part", "model", "method", "metric", "value", "images", "ours", "low", "high"),
    *("published", "difference"),
)


def reproduction_grids(found: Reproduction) -> Iterator[Grid]:
    """Yield one table per part and metric; numbers that were only published end the first table of their part."""
    for part in found.protocol.parts:
        rows = [row for row in found.comparisons if row.part == part.name]
        only = [row for row in rows if not row.metric]
        metrics = list(dict.fromkeys(row.metric for row in rows if row.metric))
        for place, metric in enumerate(metrics or [""] if rows else []):
            shown = [row for row in rows if row.metric == metric and metric] + (only if place == 0 else [])
            medians = [row.value for row in shown if row.value not in part.values]
            yield _grid(f"{part.what}: {metric or 'not run'}", tuple(dict.fromkeys([*part.values, *medians])), shown)


def _grid(caption: str, values: Sequence[str], rows: Sequence[Comparison]) -> Grid:
    header = [column for value in values for column in (value, "published", "difference")]
    lines = {
        (row.model, row.method): [other for other in rows if (other.model, other.method) == (row.model, row.method)]
        for row in rows
    }
    body = (
        (
            Cell(model),
            Cell(method),
            Cell(str(max(row.images for row in line))),
            *(cell for value in values for cell in _cells(line, value)),
        )
        for (model, method), line in lines.items()
    )
    return Grid(caption, ("model", "method", "images", *header), tuple(body))


def _cells(line: Sequence[Comparison], value: str) -> tuple[Cell, Cell, Cell]:
    row = next((row for row in line if row.value == value), None)
    if row is None:
        return Cell("–"), Cell("–"), Cell("–")
    texts = (
        "–" if row.ours is None else interval(row.ours),
        "–" if row.published is None else number(row.published),
        "–" if row.difference is None else number(row.difference, signed=True),
    )
    return Cell(texts[0]), Cell(texts[1]), Cell(texts[2])


def reproduction_markdown(found: Reproduction) -> str:
    """Return the experiment as a page of Markdown."""
    method = next((report.method for report in found.reports.values()), "")
    notes = [*found.notes, *(f"{part}: {note}" for part, report in found.reports.items() for note in report.notes)]
    parts = [f"# {found.protocol.name}", f"Source: {found.protocol.source}.", method]
    parts += ["\n".join(f"- {block(note)}" for note in notes)] if notes else []
    parts += [text for grid in reproduction_grids(found) for text in (f"## {inline(grid.caption)}", markdown_grid(grid))]
    return "\n\n".join(part for part in parts if part) + "\n"


def reproduction_csv(found: Reproduction) -> str:
    """Return every number, one per line."""
    return csv_text(COLUMNS, map(_csv_row, found.comparisons))


def _csv_row(row: Comparison) -> tuple[object, ...]:
    ours = (row.ours.value, row.ours.low, row.ours.high) if row.ours else (None, None, None)
    return (row.part, row.model, row.method, row.metric, row.value, row.images, *ours, row.published, row.difference)
