"""Sheets: strips of cells on one page, the layout of every figure of maps."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from relprop.text import percent
from relprop.viz.lettering import joined_to_fit, width_of
from relprop.viz.page import BAR, EXPLAINED, INK, MUTED, PALE, RIVAL, SMALLEST, Page, Place, blank_page
from relprop.viz.tiles import Classes, Legend, Marks, Reason, Strip, Tile

# All lengths in inches.
MARGIN, GAP, TITLE, ROW_TITLE, CELL_TITLE, FOOT_LINE = 0.2, 0.16, 0.42, 0.3, 0.22, 0.16
CELL = 2.8
"""Width of a cell: 224 pixels are enlarged by exactly two at 160 dots per inch."""
_BAR, _ENDS, _NUMBERS, _SPACE = 0.15, 0.17, 0.14, 0.12
"""Heights: the color scale with the space above it, the words at its ends, a line of numbers, the space below a strip."""
_LINE, _GLYPH = 1.35, 0.6
"""Height of a line and mean width of a glyph, both over the font's size."""


def draw_sheet(strips: Sequence[Strip], *, title: str = "", foot: Sequence[str] = (), cell: float = CELL) -> Figure:
    """Draw strips of cells below each other.

    Args:
        strips: The rows, from the top down.
        title: Stands above, at the left.
        foot: Lines at the foot of the page, small.
        cell: Width of a cell in inches.
    """
    columns = max(len(strip.cells) for strip in strips)
    rows = [_Row(strip, cell) for strip in strips]
    width = 2 * MARGIN + columns * (cell + GAP) - GAP
    lines = [part for text in foot for part in joined_to_fit(text.split(" "), " ", 7.0, width - 2 * MARGIN)]
    top = TITLE if title else MARGIN
    height = top + sum(row.height for row in rows) + len(lines) * FOOT_LINE + MARGIN * 0.6
    page = blank_page(width, height)
    if title:
        page.line(Place(MARGIN, height - top, width - 2 * MARGIN, top), title, 12, "bold")
    at = height - top
    for row in rows:
        row.draw(page, at)
        at -= row.height
    for number, text in enumerate(lines):
        page.text(MARGIN, at - (number + 0.7) * FOOT_LINE, text, size=7, color=MUTED)
    return page.figure


@dataclass(frozen=True)
class _Row:
    """One strip with its heights, all in inches."""

    strip: Strip
    cell: float

    @property
    def small(self) -> float:
        """The size of the font of legends and numbers, in points."""
        return 7.0 if self.cell >= 2 else 6.0

    @property
    def above(self) -> float:
        titled = any(cell is not None and cell.title for cell in self.strip.cells)
        return ROW_TITLE * bool(self.strip.title) + CELL_TITLE * titled

    @property
    def picture(self) -> float:
        return self.cell * self.strip.aspect

    @property
    def below(self) -> float:
        tiles = [cell for cell in self.strip.cells if isinstance(cell, Tile)]
        lines = max((len(self.lines(tile)) for tile in tiles), default=0)
        return (_BAR + _ENDS) * any(tile.legend for tile in tiles) + lines * _NUMBERS + _SPACE

    @property
    def height(self) -> float:
        return self.above + self.picture + self.below

    def lines(self, tile: Tile) -> list[str]:
        """The numbers of a tile, as many on a line as fit."""
        return joined_to_fit(tile.numbers, "  ·  ", self.small, self.cell)

    def draw(self, page: Page, top: float) -> None:
        """Draw the strip from ``top`` down."""
        if self.strip.title:
            page.line(Place(MARGIN, top - ROW_TITLE, page.width - 2 * MARGIN, ROW_TITLE - 0.05), self.strip.title, 10)
        bottom = top - self.above - self.picture
        for number, cell in enumerate(self.strip.cells):
            if cell is not None:
                self._draw_cell(page, Place(MARGIN + number * (self.cell + GAP), bottom, self.cell, self.picture), cell)

    def _draw_cell(self, page: Page, room: Place, cell: Tile | Reason | Classes) -> None:
        if cell.title:
            page.line(Place(room.left, room.top + 0.03, room.width, CELL_TITLE - 0.04), cell.title, 8.5, "bold", color=MUTED)
        if isinstance(cell, Tile):
            self._draw_tile(page, room, cell)
        elif isinstance(cell, Reason):
            _draw_reason(page, room, cell.text)
        else:
            _draw_classes(page, room, cell)

    def _draw_tile(self, page: Page, room: Place, tile: Tile) -> None:
        height = room.width * tile.pixels.shape[0] / tile.pixels.shape[1]
        place = Place(room.left, room.top - height, room.width, height)
        page.picture(place, tile.pixels)
        _draw_marks(page, place, tile.marks, tile.pixels.shape[:2])
        below = place.bottom
        if tile.legend is not None:
            _draw_legend(page, Place(room.left, below - _BAR - _ENDS, room.width, _BAR + _ENDS), tile.legend, self.small)
            below -= _BAR + _ENDS
        for number, text in enumerate(self.lines(tile), start=1):
            page.line(Place(room.left, below - number * _NUMBERS, room.width, _NUMBERS), text, self.small, color=INK)


def _draw_marks(page: Page, place: Place, marks: Marks, shape: tuple[int, ...]) -> None:
    for mask, color in marks.regions:
        page.outline(place, mask, color)
    for (left, top, right, bottom), color in marks.boxes:
        across, down = place.width / shape[1], place.height / shape[0]
        page.frame(
            Place(place.left + left * across, place.top - bottom * down, (right - left) * across, (bottom - top) * down), color
        )


def _draw_legend(page: Page, room: Place, legend: Legend, size: float) -> None:
    """Draw the colors, and at their ends what they mean; a bar of one color has its pale end at the left or at the right."""
    page.picture(Place(room.left, room.top - _BAR + 0.01, room.width, 0.08), legend.scale.colors[None])
    low, high = legend.ends
    needed = width_of(low, size) + width_of(high, size) + 0.12
    size = max(SMALLEST, size * min(1.0, room.width / needed))
    style = {"size": size, "color": MUTED, "va": "center_baseline"}
    page.label(room.left, room.bottom + _ENDS / 2, low, **style)
    page.label(room.right, room.bottom + _ENDS / 2, high, ha="right", **style)


def _draw_reason(page: Page, room: Place, reason: str) -> None:
    """Write why there is no map, as much of it as fits."""
    size, inset = 7.0, 0.3
    page.box(room, facecolor=PALE, edgecolor=BAR, linewidth=0.6)
    length = max(8, int(72 * (room.width - inset) / (_GLYPH * size)))
    lines = textwrap.wrap(reason, length, max_lines=max(1, int(72 * (room.height - inset) / (_LINE * size))), placeholder=" …")
    style = {"size": size, "color": MUTED, "ha": "center", "va": "center", "linespacing": _LINE}
    page.label(room.left + room.width / 2, room.bottom + room.height / 2, "\n".join(lines), **style)


def _draw_classes(page: Page, room: Place, classes: Classes) -> None:
    """Draw names, bars and percentages from the top down; explained classes are red, a rival is blue."""
    line = min(room.height / max(len(classes.scores), 5), 0.56)
    for row, score in enumerate(classes.scores):
        top = room.top - row * line
        weight = "bold" if score.explained or score.rival else "normal"
        color = EXPLAINED if score.explained else RIVAL if score.rival else INK
        page.line(Place(room.left, top - 0.62 * line, room.width - 0.6, 0.5 * line), score.name, 9, weight, color=color)
        style = {"ha": "right", "va": "center_baseline", "color": color, "weight": weight}
        page.label(room.right, top - 0.37 * line, percent(score.probability, 1), **style)
        bar = Place(room.left, top - 0.76 * line, room.width, 0.11 * line)
        page.box(bar, color=PALE)
        filled = MUTED if color == INK else color
        page.box(Place(bar.left, bar.bottom, bar.width * score.probability, bar.height), color=filled)
