"""The figure of an explanation: photo, heat map, overlay and the predicted classes, one row per explained class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from relprop.errors import OutputError
from relprop.output import atomic
from relprop.viz.colors import COLORMAP, Bytes, Floats, colorize, overlay

INK, MUTED, BAR, EXPLAINED = "#1f2328", "#656d76", "#c9d1d9", "#b3202a"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": BAR,
    "axes.linewidth": 0.6,
}
PICTURES = ("png", "pdf", "svg", "jpg", "jpeg", "webp", "tif", "tiff", "eps")
# All lengths in inches.
PANEL, TEXT, GAP, MARGIN, TITLE, ROW_TITLE, FOOT = 2.6, 2.9, 0.12, 0.18, 0.42, 0.3, 0.34


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
        panels: the rows; a row without a photo shows the heat map alone, one without scores no classes.
        title: stands above, at the left.
        percentile: of the absolute relevance, that gets the full color.
    """
    with mpl.rc_context(STYLE):
        page = _page(panels)
        if title:
            page.text(MARGIN, page.height - 0.27, title, size=12, weight="bold")
        for row, panel in enumerate(panels):
            _draw_row(page, row, panel, percentile)
        _draw_scale(page, "relevance")
        return page.figure


def save_figure(figure: Figure, path: str | Path, dpi: int = 160) -> None:
    """Write the figure whole or not at all; the suffix chooses the format (``PICTURES``).

    Raises:
        OutputError: where the suffix is unknown or the file cannot be written.
    """
    path = Path(path)
    check_picture_format(path)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def check_picture_format(path: Path) -> None:
    """Raise ``OutputError`` where the suffix names no picture format."""
    if path.suffix[1:].lower() not in PICTURES:
        raise OutputError(f"{path} has no suffix of a picture format; use one of {', '.join(PICTURES)}.")


@dataclass(frozen=True)
class _Page:
    """A figure measured in inches from its lower left corner."""

    figure: Figure
    width: float
    height: float
    row_height: float
    columns: dict[str, float]  # left edge of each column

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def text(self, left: float, bottom: float, text: str, **style: Any) -> None:  # noqa: ANN401 - matplotlib's own keywords
        self.figure.text(left / self.width, bottom / self.height, text, **style)

    def bottom(self, row: int) -> float:
        return self.height - TITLE - (row + 1) * (self.row_height + ROW_TITLE)


def _page(panels: Sequence[Panel]) -> _Page:
    height, width = panels[0].heatmap.shape
    row_height = PANEL * height / width
    pictures = ["photo", "relevance", "overlay"] if any(panel.photo is not None for panel in panels) else ["relevance"]
    columns = {name: MARGIN + index * (PANEL + GAP) for index, name in enumerate(pictures)}
    right = MARGIN + len(pictures) * (PANEL + GAP)
    if any(panel.scores for panel in panels):
        columns["scores"] = right + GAP
        right += TEXT + GAP
    total = TITLE + len(panels) * (row_height + ROW_TITLE) + FOOT
    figure = Figure(figsize=(right - GAP + MARGIN, total), facecolor="white")
    FigureCanvasAgg(figure)
    return _Page(figure, right - GAP + MARGIN, total, row_height, columns)


def _draw_row(page: _Page, row: int, panel: Panel, percentile: float) -> None:
    bottom = page.bottom(row)
    pictures = {"relevance": colorize(panel.heatmap, percentile)}
    if panel.photo is not None:
        pictures |= {"photo": panel.photo, "overlay": overlay(panel.photo, panel.heatmap, percentile)}
    for name, pixels in pictures.items():
        axes = page.axes(page.columns[name], bottom, PANEL, page.row_height)
        axes.imshow(pixels, aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
    page.text(min(page.columns.values()), bottom + page.row_height + 0.08, panel.title, size=10)
    if panel.scores:
        _draw_scores(page.axes(page.columns["scores"], bottom, TEXT, page.row_height), panel.scores)


def _draw_scores(axes: Axes, scores: Sequence[Score]) -> None:
    """Draw names, bars and percentages from the top down; the explained class is red."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(max(len(scores), 5), 0))
    for row, score in enumerate(scores):
        color = EXPLAINED if score.explained else INK
        weight = "bold" if score.explained else "normal"
        axes.text(0, row + 0.36, _fit(score.name), color=color, weight=weight, va="center")
        axes.text(1, row + 0.36, f"{score.probability:.1%}", color=color, weight=weight, va="center", ha="right")
        axes.barh(row + 0.68, 1, height=0.12, color="#eef0f2")
        axes.barh(row + 0.68, score.probability, height=0.12, color=EXPLAINED if score.explained else MUTED)


def _draw_scale(page: _Page, column: str) -> None:
    """Draw the color scale under the heat maps: against, nothing, for."""
    inset = 0.55
    axes = page.axes(page.columns[column] + inset, 0.16, PANEL - 2 * inset, 0.09)
    axes.imshow(np.linspace(-1, 1, 256)[None], cmap=COLORMAP, aspect="auto")
    axes.set(xticks=[], yticks=[])
    style = {"size": 8, "color": MUTED, "va": "center"}
    page.text(page.columns[column] + inset - 0.06, 0.205, "against", ha="right", **style)
    page.text(page.columns[column] + PANEL - inset + 0.06, 0.205, "for", ha="left", **style)


def _fit(name: str, longest: int = 32) -> str:
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"
