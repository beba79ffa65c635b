"""A figure measured in inches, and what all figures share: style, pixels, outlines."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from relprop.viz.colors import Bytes, Floats
from relprop.viz.lettering import AS_IT_IS, fitted, printable

INK, MUTED, PALE, BAR, EXPLAINED, RIVAL = "#1f2328", "#656d76", "#eef0f2", "#c9d1d9", "#ac1328", "#1c5ba3"
STYLE: Mapping[str, Any] = {**AS_IT_IS, "size": 9.0, "color": INK}
SMALLEST = 5.0
"""Of a font, in points."""


@dataclass(frozen=True)
class Place:
    """A rectangle on a page, in inches from the lower left corner."""

    left: float
    bottom: float
    width: float
    height: float

    @property
    def top(self) -> float:
        """The upper edge."""
        return self.bottom + self.height

    @property
    def right(self) -> float:
        """The right edge."""
        return self.left + self.width


class Picture(Figure):
    """A figure outside pyplot's list of open figures; notebooks show it whether or not they imported pyplot."""

    def savefig(self, fname: Any, **options: Any) -> None:  # noqa: ANN401 - matplotlib's own
        """Save the figure; pixels that are enlarged by a whole number are repeated, others are resampled."""
        dpi = options.get("dpi", self.dpi)
        for image in [image for axes in self.axes for image in axes.images]:
            left, right, _, _ = image.get_extent()
            factor = (right - left) * (dpi if isinstance(dpi, int | float) else self.dpi) / image.get_shape()[1]
            image.set_interpolation("nearest" if factor > 0.5 and abs(factor - round(factor)) < 1e-6 else "antialiased")
        super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        return png_of(self)


def png_of(figure: Figure, dpi: float = 100.0) -> bytes:
    """Return a figure as a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
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
        self.figure.text(*place, printable(text, style.get("weight", "normal")), **{**STYLE, **style})

    def label(self, left: float, bottom: float, text: str, **style: Any) -> None:  # noqa: ANN401 - matplotlib's own keywords
        """Write text that belongs to a picture, likewise."""
        self.axes.text(left, bottom, printable(text, style.get("weight", "normal")), **{**STYLE, **style})

    def line(self, place: Place, text: str, size: float, weight: str = "normal", **style: Any) -> None:  # noqa: ANN401
        """Write one line at the left of a place, smaller or cut where it is too long."""
        text, size = fitted(text, place.width, size, SMALLEST, weight)
        self.label(
            place.left, place.bottom + place.height / 2, text, size=size, weight=weight, **{"va": "center_baseline", **style}
        )

    def box(self, place: Place, **style: Any) -> None:  # noqa: ANN401 - matplotlib's own keywords
        """Draw a rectangle; without further keywords one without an edge."""
        kept: dict[str, Any] = {"linewidth": 0.0} | style
        self.axes.add_patch(Rectangle((place.left, place.bottom), place.width, place.height, **kept))

    def picture(self, place: Place, pixels: Bytes) -> None:
        """Show pixels ``(H, W, 3)`` in a frame."""
        extent = place.left, place.right, place.bottom, place.top
        self.axes.imshow(pixels, extent=extent, aspect="auto", origin="upper", interpolation="antialiased")
        self.box(place, fill=False, edgecolor=BAR, linewidth=0.6, zorder=2.5)

    def outline(self, place: Place, mask: Floats, color: str, width: float = 1.4) -> None:
        """Draw where a mask or field ``(H, W)`` that covers the place crosses 0.5, of a mask the borders of its pixels, on a white rim."""
        if not bool((mask > 0.5).any()):
            return
        rows, columns = mask.shape
        across, down = place.width / columns, place.height / rows
        padded = np.pad(mask.astype(np.float64), 1)
        xs = np.clip(place.left + (np.arange(-1, columns + 1) + 0.5) * across, place.left, place.right)
        ys = np.clip(place.top - (np.arange(-1, rows + 1) + 0.5) * down, place.bottom, place.top)
        lines = self.axes.contour(xs, ys, padded, levels=[0.5], colors=[color], linewidths=width, zorder=2.2)
        lines.set_path_effects([withStroke(linewidth=width + 1.6, foreground="white")])

    def frame(self, place: Place, color: str, width: float = 1.4) -> None:
        """Draw the edge of a rectangle, on a white rim."""
        rim = [withStroke(linewidth=width + 1.6, foreground="white")]
        self.box(place, fill=False, edgecolor=color, linewidth=width, zorder=2.3, path_effects=rim)


def blank_page(width: float, height: float) -> Page:
    """Return an empty white page."""
    figure = Picture(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return Page(figure, axes, width, height)
