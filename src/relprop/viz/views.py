"""The views of one map: in colors, over its photo, as an outline, and by its two signs."""

from dataclasses import dataclass

import numpy as np

from relprop.meaning import UNSAID, Meaning
from relprop.viz.colors import Bytes, Floats, Scale, colorize, colorize_rgba, laid_over, scale_of
from relprop.viz.frame import Framed
from relprop.viz.images import Photo, shown_pixels
from relprop.viz.look import PLAIN, Look
from relprop.viz.numbers import Sums, sums_of
from relprop.viz.regions import cut_out, region_field
from relprop.viz.smoothing import smoothed
from relprop.viz.tiles import REGION, UNMARKED, Legend, Marks, Tile

_UNSEEN = np.array([238, 240, 242], dtype=np.uint8)


@dataclass(frozen=True)
class View:
    """One map ``(h, w)`` with its photo, and how it is shown.

    Attributes:
        heatmap: The map.
        photo: The photo; None where there is none.
        look: How it is shown.
        meaning: What its signs mean.
        absorbed: The relevance that constants absorbed; None where it says nothing.
        marks: Lines on every picture of it.
    """

    heatmap: Floats
    photo: Photo = None
    look: Look = PLAIN
    meaning: Meaning = UNSAID
    absorbed: float | None = None
    marks: Marks = UNMARKED

    @property
    def sums(self) -> Sums:
        """What the map adds up to, whatever the look."""
        return sums_of(self.heatmap, self.absorbed)

    @property
    def scale(self) -> Scale:
        """The scale of its colors."""
        return scale_of(smoothed(self.heatmap, self.look.smooth), self.look)

    @property
    def legend(self) -> Legend:
        """The legend of its colors."""
        return Legend(self.scale, self.meaning)

    def picture(self, title: str = "photo") -> Tile:
        """Return the photo.

        Raises:
            ValueError: There is none.
        """
        return Tile(shown_pixels(self._photo), title, marks=self.marks)

    def colors(self, title: str = "") -> Tile:
        """Return the map in colors, with its legend and numbers."""
        pixels = colorize(self.heatmap, self.look)
        if isinstance(self.photo, Framed):
            pixels = self.photo.spread(pixels, _UNSEEN)
        return Tile(pixels, title, self.legend, self.sums.parts, self.marks)

    def overlay(self, title: str = "", *, legend: bool = False) -> Tile:
        """Return the map over its photo, with ``legend`` as the only picture of the map."""
        return Tile(self.overlaid(), title, self.legend if legend else None, self.sums.parts if legend else (), self.marks)

    def overlaid(self) -> Bytes:
        """Return the pixels ``(H, W, 3)`` of the map over its grayed photo."""
        colors = colorize_rgba(self.heatmap, self.look)
        if isinstance(self.photo, Framed):
            colors = self.photo.spread(colors)
        return laid_over(shown_pixels(self._photo), colors)

    def outlined(self, title: str = "") -> Tile:
        """Return the photo with the outline of the positive region, faded outside of it."""
        field = region_field(self.heatmap)
        if isinstance(self.photo, Framed):
            field = self.photo.spread(field)
        pixels = cut_out(shown_pixels(self._photo), field > 0.5)
        return Tile(pixels, title, marks=Marks(((field, REGION),)) + self.marks)

    def part(self, sign: int, title: str = "") -> Tile:
        """Return the positive (``sign`` 1) or the negative part (−1) in the scale of the whole map."""
        end = max(abs(value) for value in self.scale.ends)
        kept = np.where(np.sign(self.heatmap) == sign, self.heatmap, 0.0)
        look = Look(limit=end, smooth=self.look.smooth, opacity=self.look.opacity)
        one = View(kept, self.photo, look, self.meaning, None, self.marks).colors(title)
        total = self.sums.parts[1 if sign > 0 else 2]
        scale = Scale(0.0, end, below=sign < 0, above=sign > 0)
        return Tile(one.pixels, title, Legend(scale, self.meaning), (total,), self.marks)

    @property
    def _photo(self) -> Bytes | Framed:
        if self.photo is None:
            raise ValueError("A map without a photo can be shown in colors alone.")
        return self.photo
