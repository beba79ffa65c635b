"""The figure of a comparison: one row per explained class, one column per method."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from relprop.errors import InputError
from relprop.viz.colors import Bytes, Floats, colorize, overlay
from relprop.viz.page import BAR, FOOT, GAP, MARGIN, MUTED, PALE, ROW_TITLE, TITLE, Page, blank_page

PHOTO = "photo"
COLUMN_TITLE, SCALE = 0.2, 2.4
"""Height of a column's title and width of the color scale, in inches."""
_WIDEST, _LINE, _GLYPH = 8, 1.35, 0.6
"""Columns side by side; height of a line and mean width of a glyph, both over the font's size."""


@dataclass(frozen=True)
class Row:
    """One row of a comparison.

    Attributes:
        cells: By column a heat map ``(H, W)``, or the reason why there is none.
        photo: ``(H, W, 3)``, shown first.
        title: Stands above the row.
    """

    cells: Mapping[str, Floats | str]
    photo: Bytes | None = None
    title: str = ""


def draw_grid(rows: Sequence[Row], *, title: str = "", percentile: float = 100.0, overlaid: bool = False) -> Figure:
    """Draw rows of heat maps under the names of their columns; too many columns for one line wrap.

    Args:
        rows: The rows; those that lack a column leave it empty.
        title: Stands above, at the left.
        percentile: Percentile of each map's absolute relevance at which the colors saturate.
        overlaid: Lay the maps over the photos.

    Raises:
        InputError: There is nothing to draw, or there are no photos to lay maps over.
    """
    columns = tuple(dict.fromkeys(column for row in rows for column in row.cells))
    if not columns:
        raise InputError("There is nothing to compare: give at least one row with one column.")
    if overlaid and any(row.photo is None for row in rows):
        raise InputError("Maps can be laid over photos only where every row has one.")
    layout = _layout(rows, columns)
    page, top = layout.page, layout.page.height - TITLE
    page.text(MARGIN, page.height - 0.27, title, size=12, weight="bold")
    for number, band in enumerate(layout.bands):
        top = _draw_band(layout, band, rows, top, _Style(percentile, overlaid, titled=number == 0 or len(rows) > 1))
    page.scale(max(MARGIN, page.width - MARGIN - SCALE), min(SCALE, page.width - 2 * MARGIN))
    return page.figure


@dataclass(frozen=True)
class _Style:
    percentile: float
    overlaid: bool
    titled: bool


@dataclass(frozen=True)
class _Layout:
    """Where cells lie on the page: bands of columns below each other, widths and heights in inches."""

    page: Page
    bands: tuple[tuple[str, ...], ...]
    cell: float
    heights: tuple[float, ...]  # of the rows


def _layout(rows: Sequence[Row], columns: tuple[str, ...]) -> _Layout:
    has_photos = any(row.photo is not None for row in rows)
    bands = _bands((PHOTO, *columns) if has_photos else columns, several=len(rows) > 1, repeat=has_photos)
    widest = max(map(len, bands))
    cell = 2.6 if widest <= 3 else 2.1 if widest <= 5 else 1.6
    heights = tuple(cell * _aspect(row) for row in rows)
    titles = len(rows) * len(bands) if len(rows) > 1 else 1
    total = TITLE + len(bands) * (COLUMN_TITLE + sum(heights) + len(rows) * GAP) + titles * ROW_TITLE + FOOT
    return _Layout(blank_page(2 * MARGIN + widest * (cell + GAP) - GAP, total), bands, cell, heights)


def _bands(columns: tuple[str, ...], *, several: bool, repeat: bool) -> tuple[tuple[str, ...], ...]:
    """Break columns into lines of about equal length; of several rows, every line begins with the photos."""
    lead, rest = (columns[:1], columns[1:]) if several and repeat else ((), columns)
    room = _WIDEST - len(lead) if several else _columns_of_one_row(len(rest))
    lines = -(-len(rest) // room)
    length = -(-len(rest) // lines)
    return tuple(lead + rest[start : start + length] for start in range(0, len(rest), length))


def _columns_of_one_row(cells: int) -> int:
    """Return how many of so many cells lie side by side: all up to five, else about 8 to 5 of width and height."""
    return cells if cells <= 5 else next(n for n in range(4, _WIDEST + 1) if n == _WIDEST or n * n >= 1.6 * cells)


def _aspect(row: Row) -> float:
    pictures = [row.photo, *(cell for cell in row.cells.values() if not isinstance(cell, str))]
    height, width = next((picture.shape[:2] for picture in pictures if picture is not None), (1, 1))
    return height / width


def _draw_band(layout: _Layout, band: tuple[str, ...], rows: Sequence[Row], top: float, style: _Style) -> float:
    """Draw one line of columns for all rows from ``top`` down; return where it ends."""
    page, cell = layout.page, layout.cell
    lefts = [MARGIN + index * (cell + GAP) for index in range(len(band))]
    for number, (row, height) in enumerate(zip(rows, layout.heights, strict=True)):
        if style.titled:
            page.text(MARGIN, top - 0.2, row.title, size=10)
            top -= ROW_TITLE
        if number == 0:
            for left, column in zip(lefts, band, strict=True):
                size = min(9.0, 72 * cell / (_GLYPH * len(column)))
                page.text(left, top - COLUMN_TITLE + 0.05, column, size=size, weight="bold", color=MUTED)
            top -= COLUMN_TITLE
        for left, column in zip(lefts, band, strict=True):
            _draw_cell(page, (left, top - height, cell, height), row, column, style)
        top -= height + GAP
    return top


def _draw_cell(page: Page, place: tuple[float, float, float, float], row: Row, column: str, style: _Style) -> None:
    if column == PHOTO and row.photo is not None:
        page.picture(*place, row.photo)
    elif isinstance(content := row.cells.get(column, ""), str):
        _draw_reason(page, place, content)
    elif style.overlaid and row.photo is not None:
        page.picture(*place, overlay(row.photo, content, style.percentile))
    else:
        page.picture(*place, colorize(content, style.percentile))


def _draw_reason(page: Page, place: tuple[float, float, float, float], reason: str) -> None:
    """Write why there is no map, as much of it as fits."""
    (left, bottom, width, height), size, inset = place, 7.0, 0.3
    page.box(*place, facecolor=PALE, edgecolor=BAR, linewidth=0.6)
    length = max(8, int(72 * (width - inset) / (_GLYPH * size)))
    lines = textwrap.wrap(reason, length, max_lines=max(1, int(72 * (height - inset) / (_LINE * size))), placeholder=" …")
    style = {"size": size, "color": MUTED, "ha": "center", "va": "center", "linespacing": _LINE}
    page.label(left + width / 2, bottom + height / 2, "\n".join(lines), **style)
