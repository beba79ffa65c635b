"""A figure measured in inches, and what all figures share: style, pixels, the color scale."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from relprop.viz.colors import COLORMAP, Bytes

INK, MUTED, PALE, BAR, EXPLAINED = "#1f2328", "#656d76", "#eef0f2", "#c9d1d9", "#b3202a"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": BAR,
    "axes.linewidth": 0.6,
}
# All lengths in inches.
GAP, MARGIN, TITLE, ROW_TITLE, FOOT = 0.12, 0.18, 0.42, 0.3, 0.34


@dataclass(frozen=True)
class Page:
    """A figure with lengths in inches, measured from its lower left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Add axes without ticks."""
        axes = self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))
        axes.set(xticks=[], yticks=[])
        return axes

    def text(self, left: float, bottom: float, text: str, **style: Any) -> None:  # noqa: ANN401 - matplotlib's own keywords
        """Write text that begins there, unless ``ha`` and ``va`` say otherwise."""
        self.figure.text(left / self.width, bottom / self.height, text, **style)

    def picture(self, left: float, bottom: float, width: float, height: float, pixels: Bytes) -> None:
        """Show pixels ``(H, W, 3)`` as they are."""
        self.axes(left, bottom, width, height).imshow(pixels, aspect="auto", interpolation="nearest")

    def scale(self, left: float, width: float) -> None:
        """Draw the color scale at the foot of the page: against, nothing, for."""
        inset = 0.55
        axes = self.axes(left + inset, 0.16, width - 2 * inset, 0.09)
        axes.imshow(np.linspace(-1, 1, 256)[None], cmap=COLORMAP, aspect="auto")
        style = {"size": 8, "color": MUTED, "va": "center"}
        self.text(left + inset - 0.06, 0.205, "against", ha="right", **style)
        self.text(left + width - inset + 0.06, 0.205, "for", ha="left", **style)


def blank_page(width: float, height: float) -> Page:
    """Return an empty white page."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return Page(figure, width, height)
