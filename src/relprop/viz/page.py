"""A figure measured in inches, and what all figures share: style, pixels, the color scale."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from relprop.viz.colors import COLORMAP, Bytes
from relprop.viz.lettering import AS_IT_IS, printable

INK, MUTED, PALE, BAR, EXPLAINED = "#1f2328", "#656d76", "#eef0f2", "#c9d1d9", "#b3202a"
STYLE: dict[str, Any] = {**AS_IT_IS, "size": 9.0, "color": INK}
# All lengths in inches.
GAP, MARGIN, TITLE, ROW_TITLE, FOOT = 0.12, 0.18, 0.42, 0.3, 0.34


class Picture(Figure):
    """A figure outside pyplot's list of open figures; notebooks show it whether or not they imported pyplot."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


@dataclass(frozen=True)
class Page:
    """A figure with lengths in inches, measured from its lower left corner.

    Pictures, boxes and labels lie on one axes that covers the page: every further one would take as long as a picture.
    """

    figure: Figure
    axes: Axes
    width: float
    height: float

    def text(self, left: float, bottom: float, text: str, **style: Any) -> None:  # noqa: ANN401 - matplotlib's own keywords
        """Write text of the page that begins there, unless ``ha`` and ``va`` say otherwise."""
        place = left / self.width, bottom / self.height
        self.figure.text(*place, printable(text, style.get("weight", "normal")), **STYLE | style)

    def label(self, left: float, bottom: float, text: str, **style: Any) -> None:  # noqa: ANN401 - matplotlib's own keywords
        """Write text that belongs to a picture, likewise."""
        self.axes.text(left, bottom, printable(text, style.get("weight", "normal")), **STYLE | style)

    def box(self, left: float, bottom: float, width: float, height: float, **style: Any) -> None:  # noqa: ANN401
        """Draw a rectangle; without further keywords one without an edge."""
        kept: dict[str, Any] = {"linewidth": 0.0} | style
        self.axes.add_patch(Rectangle((left, bottom), width, height, **kept))

    def picture(self, left: float, bottom: float, width: float, height: float, pixels: Bytes) -> None:
        """Show pixels ``(H, W, 3)`` as they are, in a frame."""
        self._image(left, bottom, width, height, pixels, interpolation="nearest")

    def scale(self, left: float, width: float) -> None:
        """Draw the color scale at the foot of the page: against, nothing, for."""
        inset = 0.55
        self._image(left + inset, 0.16, width - 2 * inset, 0.09, np.linspace(-1, 1, 256)[None], cmap=COLORMAP)
        style = {"size": 8, "color": MUTED, "va": "center"}
        self.text(left + inset - 0.06, 0.205, "against", ha="right", **style)
        self.text(left + width - inset + 0.06, 0.205, "for", ha="left", **style)

    def _image(self, left: float, bottom: float, width: float, height: float, values: np.ndarray, **style: Any) -> None:  # noqa: ANN401
        extent = left, left + width, bottom, bottom + height
        self.axes.imshow(values, extent=extent, aspect="auto", origin="upper", **style)
        self.box(left, bottom, width, height, fill=False, edgecolor=BAR, linewidth=0.6, zorder=2.5)


def blank_page(width: float, height: float) -> Page:
    """Return an empty white page."""
    figure = Picture(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return Page(figure, axes, width, height)
