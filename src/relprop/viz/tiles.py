"""What the cells of a sheet show: pictures with their legend and numbers, lists of classes, reasons why there is no map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relprop.meaning import Meaning
from relprop.viz.colors import Bytes, Floats, Scale
from relprop.viz.numbers import written
from relprop.viz.page import EXPLAINED
from relprop.viz.scores import Score

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels."""


@dataclass(frozen=True)
class Legend:
    """The color scale under a map, with words and values at its ends."""

    scale: Scale
    meaning: Meaning

    @property
    def ends(self) -> tuple[str, str]:
        """What stands at the left and at the right end."""
        low, high = map(written, self.scale.ends)
        below, above = self.meaning.negative or "negative", self.meaning.positive
        return f"{low} {below}" if self.scale.below else low, f"{above} {high}" if self.scale.above else high


@dataclass(frozen=True)
class Marks:
    """Lines on a picture.

    Attributes:
        regions: Fields ``(H, W)``, such as masks, whose contours at 0.5 are drawn, with their colors.
        boxes: Rectangles in pixels of the picture, with their colors.
    """

    regions: tuple[tuple[Floats, str], ...] = ()
    boxes: tuple[tuple[Box, str], ...] = ()

    def __add__(self, other: "Marks") -> "Marks":
        return Marks(self.regions + other.regions, self.boxes + other.boxes)


UNMARKED = Marks()
REGION, ANNOTATED = EXPLAINED, "#1f7a3d"
"""The colors of the positive region and of annotations."""


@dataclass(frozen=True)
class Tile:
    """A picture.

    Attributes:
        pixels: ``(H, W, 3)``.
        title: Stands above.
        legend: Stands below.
        numbers: Short texts below that, as many per line as fit.
        marks: Lines on it.
    """

    pixels: Bytes
    title: str = ""
    legend: Legend | None = None
    numbers: tuple[str, ...] = ()
    marks: Marks = UNMARKED


@dataclass(frozen=True)
class Reason:
    """Why there is no picture."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Classes:
    """The predicted classes, from the top down."""

    scores: tuple[Score, ...]
    title: str = ""


Cell = Tile | Reason | Classes | None
"""None leaves the cell empty."""


@dataclass(frozen=True)
class Strip:
    """One row of a sheet: its cells from the left to the right, and a title above them."""

    cells: Sequence[Cell]
    title: str = ""

    @property
    def aspect(self) -> float:
        """Height over width of its tallest picture; 1 without any."""
        return max((cell.pixels.shape[0] / cell.pixels.shape[1] for cell in self.cells if isinstance(cell, Tile)), default=1.0)


def annotated(masks: Floats | None, boxes: Sequence[Box]) -> Marks:
    """Return the marks of an annotation: a mask ``(H, W)`` or None, and boxes."""
    regions = () if masks is None else ((np.asarray(masks, dtype=np.float64), ANNOTATED),)
    return Marks(regions, tuple((box, ANNOTATED) for box in boxes))
