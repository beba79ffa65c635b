"""The whole photo around the part of it that the model saw."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from relprop.errors import InputError
from relprop.viz.colors import Bytes

Window = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels of the photo; beyond it where the model saw padding."""


@dataclass(frozen=True)
class Framed:
    """A whole photo with the window of it that the model saw; drawn in place of the cropped photo.

    Attributes:
        photo: The photo, in its own resolution.
        window: The window, as :meth:`relprop.zoo.Preprocessing.window` gives it.

    Raises:
        InputError: The window is empty or lies outside of the photo.
    """

    photo: Image.Image
    window: Window

    def __post_init__(self) -> None:
        (left, top, right, bottom), (width, height) = self.window, self.photo.size
        if not (left < right and top < bottom and left < width and top < height and right > 0 and bottom > 0):
            raise InputError(f"The window {self.window} shows nothing of a photo of {width}×{height} pixels.")

    @property
    def pixels(self) -> Bytes:
        """The photo, ``(H, W, 3)``."""
        return np.asarray(self.photo.convert("RGB"))

    @property
    def inside(self) -> tuple[slice, slice]:
        """The rows and columns of the photo whose centers lie in the window."""
        left, top, right, bottom = self.window
        width, height = self.photo.size
        return _covered(top, bottom, height), _covered(left, right, width)

    def spread(self, values: np.ndarray, outside: np.ndarray | float = 0.0) -> np.ndarray:
        """Return values of a map's cells ``(h, w, …)`` on the photo's pixels ``(H, W, …)``: of the cell that a pixel's center lies in.

        Args:
            values: Values or colors, one per cell of the map.
            outside: The value of pixels out of the window, which the model did not see.
        """
        rows, columns = self.inside
        left, top, right, bottom = self.window
        ys = _cells(rows, top, bottom, values.shape[0])
        xs = _cells(columns, left, right, values.shape[1])
        spread = np.empty((self.photo.height, self.photo.width, *values.shape[2:]), dtype=values.dtype)
        spread[:] = outside
        spread[rows, columns] = values[np.ix_(ys, xs)]
        return spread

    def reduced(self, longest: int) -> "Framed":
        """Return the photo with at most ``longest`` pixels on its longer side, and the window in it."""
        factor = longest / max(self.photo.size)
        if factor >= 1:
            return self
        width, height = (max(1, round(side * factor)) for side in self.photo.size)
        across, down = width / self.photo.width, height / self.photo.height
        left, top, right, bottom = self.window
        small = self.photo.resize((width, height), Image.Resampling.LANCZOS)
        return Framed(small, (left * across, top * down, right * across, bottom * down))


def _covered(low: float, high: float, size: int) -> slice:
    """The pixels with centers ``i + 0.5`` in [low, high)."""
    return slice(max(0, int(np.ceil(low - 0.5))), min(size, int(np.ceil(high - 0.5))))


def _cells(pixels: slice, low: float, high: float, count: int) -> np.ndarray:
    """The cell of each pixel's center, of ``count`` equal ones between ``low`` and ``high``."""
    centers = np.arange(pixels.start, pixels.stop) + 0.5
    return np.minimum(((centers - low) / (high - low) * count).astype(int), count - 1)
