"""The figure of an explanation: photo, heat map, overlay and the predicted classes, one row per explained class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from relprop.errors import OutputError
from relprop.files import as_path, atomic
from relprop.text import percent
from relprop.viz.colors import Bytes, Floats, colorize, overlay
from relprop.viz.page import EXPLAINED, FOOT, GAP, INK, MARGIN, MUTED, PALE, ROW_TITLE, TITLE, Page, blank_page

PICTURES = ("png", "pdf", "svg", "jpg", "jpeg", "webp", "tif", "tiff", "eps")
PANEL, TEXT = 2.6, 2.9
"""Widths of pictures and of the list of classes, in inches."""
_PNG_LEVEL = 4  # takes half as long as zlib's 6, for files larger by 3 %


@dataclass(frozen=True)
class Score:
    """A predicted class: its name, probability in [0, 1], and whether it is the explained one."""

    name: str
    probability: float
    explained: bool = False


@dataclass(frozen=True)
class Panel:
    """One row of the figure: ``photo (H, W, 3)`` or None, its ``heatmap (H, W)``, a title for it and the predicted classes."""

    heatmap: Floats
    photo: Bytes | None = None
    title: str = ""
    scores: tuple[Score, ...] = ()


def top_scores(probabilities: Sequence[float], names: Sequence[str], explained: int, count: int = 5) -> tuple[Score, ...]:
    """Return the ``count`` most probable classes, most probable first, and the explained one where it is not among them."""
    order = sorted(range(len(probabilities)), key=lambda index: -probabilities[index])[:count]
    shown = order if explained in order else [*order, explained]
    return tuple(Score(names[index], probabilities[index], index == explained) for index in shown)


def draw(panels: Sequence[Panel], *, title: str = "", percentile: float = 100.0) -> Figure:
    """Draw one row per panel: photo, heat map, overlay, predicted classes.

    Args:
        panels: The rows; a row without a photo shows the heat map alone, one without scores no classes.
        title: Stands above, at the left.
        percentile: Percentile of the absolute relevance at which the colors saturate.
    """
    layout = _layout(panels)
    if title:
        layout.page.text(MARGIN, layout.page.height - 0.27, title, size=12, weight="bold")
    for row, panel in enumerate(panels):
        _draw_row(layout, row, panel, percentile)
    layout.page.scale(layout.columns["relevance"], PANEL)
    return layout.page.figure


def save_figure(figure: Figure, path: str | Path, dpi: int = 160) -> None:
    """Write the figure whole or not at all; the suffix chooses the format (``PICTURES``).

    Raises:
        InputError: The path is neither a string nor a path.
        OutputError: The suffix is unknown or the file cannot be written.
    """
    path = as_path(path)
    check_picture_format(path)
    fast: dict[str, Any] = {"pil_kwargs": {"compress_level": _PNG_LEVEL}} if path.suffix.lower() == ".png" else {}
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=dpi, **fast)


def check_picture_format(path: Path) -> None:
    """Raise ``OutputError`` where the suffix names no picture format."""
    if path.suffix[1:].lower() not in PICTURES:
        raise OutputError(f"{path} has no suffix of a picture format; use one of {', '.join(PICTURES)}.")


@dataclass(frozen=True)
class _Layout:
    """Where rows and columns lie on the page, in inches."""

    page: Page
    row_height: float
    columns: dict[str, float]  # left edge of each column

    def bottom(self, row: int) -> float:
        return self.page.height - TITLE - (row + 1) * (self.row_height + ROW_TITLE)


def _layout(panels: Sequence[Panel]) -> _Layout:
    height, width = panels[0].heatmap.shape
    row_height = PANEL * height / width
    pictures = ["photo", "relevance", "overlay"] if any(panel.photo is not None for panel in panels) else ["relevance"]
    columns = {name: MARGIN + index * (PANEL + GAP) for index, name in enumerate(pictures)}
    right = MARGIN + len(pictures) * (PANEL + GAP)
    if any(panel.scores for panel in panels):
        columns["scores"] = right + GAP
        right += TEXT + GAP
    page = blank_page(right - GAP + MARGIN, TITLE + len(panels) * (row_height + ROW_TITLE) + FOOT)
    return _Layout(page, row_height, columns)


def _draw_row(layout: _Layout, row: int, panel: Panel, percentile: float) -> None:
    page, bottom, height = layout.page, layout.bottom(row), layout.row_height
    pictures = {"relevance": colorize(panel.heatmap, percentile)}
    if panel.photo is not None:
        pictures |= {"photo": panel.photo, "overlay": overlay(panel.photo, panel.heatmap, percentile)}
    for name, pixels in pictures.items():
        page.picture(layout.columns[name], bottom, PANEL, height, pixels)
    page.text(min(layout.columns.values()), bottom + height + 0.08, panel.title, size=10)
    if panel.scores:
        _draw_scores(page, layout.columns["scores"], bottom, height, panel.scores)


def _draw_scores(page: Page, left: float, bottom: float, height: float, scores: Sequence[Score]) -> None:
    """Draw names, bars and percentages from the top down; the explained class is red."""
    line = height / max(len(scores), 5)
    for row, score in enumerate(scores):
        top = bottom + height - row * line
        weight = "bold" if score.explained else "normal"
        style = {"color": EXPLAINED if score.explained else INK, "weight": weight, "va": "center"}
        page.label(left, top - 0.36 * line, _fit(score.name), **style)
        page.label(left + TEXT, top - 0.36 * line, percent(score.probability, 1), ha="right", **style)
        page.box(left, top - 0.74 * line, TEXT, 0.12 * line, color=PALE)
        filled = EXPLAINED if score.explained else MUTED
        page.box(left, top - 0.74 * line, TEXT * score.probability, 0.12 * line, color=filled)


def _fit(name: str, longest: int = 32) -> str:
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"
