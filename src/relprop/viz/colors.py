"""Relevance as colors: white at zero, red above it, blue below; of a map of one sign, white is its least value."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from relprop.viz.look import PLAIN, Look
from relprop.viz.smoothing import smoothed

Floats = NDArray[np.floating]
Bytes = NDArray[np.uint8]

_ANCHORS = ("#1c5ba3", "#3a86bd", "#86bbd9", "#cfe3ef", "#ffffff", "#fdd9c6", "#f2a07f", "#d5583f", "#ac1328")
"""Blue to red by equal steps: the darker, the stronger on both sides, and alike in lightness; in the hues of ColorBrewer's RdBu, which
the common color deficiencies tell apart."""


@dataclass(frozen=True)
class Scale:
    """Which values the colors stand for.

    Attributes:
        white: The value that is shown white.
        size: The distance from it at which the colors saturate.
        below: Whether the map has values below ``white``.
        above: Whether it has values above ``white``.
    """

    white: float
    size: float
    below: bool = True
    above: bool = True

    @property
    def ends(self) -> tuple[float, float]:
        """The values at the two ends of the colors."""
        return self.white - self.size * self.below, self.white + self.size * self.above

    @property
    def colors(self) -> Bytes:
        """The colors from one end to the other, ``(256, 3)``."""
        return _painted(np.linspace(-1.0 * self.below, 1.0 * self.above, 256))

    def unit(self, values: Floats) -> Floats:
        """Return values as fractions of the scale, clipped to [−1, 1]."""
        return np.clip((values - self.white) / self.size, -1.0, 1.0)


@cache
def colormap() -> LinearSegmentedColormap:
    """Return the diverging map of all pictures, with lightness falling towards both ends."""
    return LinearSegmentedColormap.from_list("relprop", _ANCHORS, N=513)


def scale_of(heatmap: Floats, look: Look = PLAIN) -> Scale:
    """Return the scale of a map: symmetric around zero; of a map of one sign from its smallest to its largest value.

    With ``look.limit`` it begins at zero and ends there, for maps of one sign too.
    """
    low, high = float(heatmap.min()), float(heatmap.max())
    if low < 0 < high or low == high == 0:
        return Scale(0.0, look.limit or _end(heatmap, look))
    sign = 1 if high > 0 else -1
    white = 0.0 if look.limit is not None or low == high else low if sign > 0 else high
    size = look.limit or _end(heatmap - white, look)
    return Scale(white, size, below=sign < 0, above=sign > 0)


def _end(values: Floats, look: Look) -> float:
    """Return a percentile of the absolute values, the largest where that is zero; 1 for zeros."""
    magnitude = np.abs(values)
    return float(np.percentile(magnitude, look.percentile)) or float(magnitude.max()) or 1.0


def colorize(heatmap: Floats, look: Look = PLAIN) -> Bytes:
    """Return a map ``(H, W)`` in colors ``(H, W, 3)``."""
    shown = smoothed(heatmap, look.smooth)
    return _painted(scale_of(shown, look).unit(shown))


def colorize_rgba(heatmap: Floats, look: Look = PLAIN) -> Bytes:
    """Return a map ``(H, W)`` in colors with their opacity ``(H, W, 4)``, to be laid over a photo elsewhere."""
    shown = smoothed(heatmap, look.smooth)
    values = scale_of(shown, look).unit(shown)
    return np.concatenate([_painted(values), _bytes(_opacity(values, look))], axis=2)


def overlay(photo: Bytes, heatmap: Floats, look: Look = PLAIN) -> Bytes:
    """Lay the map's colors over a grayed photo ``(H, W, 3)``, the more opaque the stronger the relevance."""
    return laid_over(photo, colorize_rgba(heatmap, look))


def laid_over(photo: Bytes, colors: Bytes) -> Bytes:
    """Lay colors with their opacity ``(H, W, 4)`` over a grayed photo ``(H, W, 3)``."""
    opacity = colors[..., 3:] / 255.0
    return _bytes(grayed(photo) * (1 - opacity) + colors[..., :3] / 255.0 * opacity)


def grayed(photo: Bytes) -> Floats:
    """Return a photo ``(H, W, 3)`` in pale grays from 0.25 to 1, on which colors stand out."""
    gray = photo.astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255.0
    return np.repeat(0.25 + 0.75 * gray[..., None], 3, axis=2)


def _opacity(values: Floats, look: Look) -> Floats:
    return look.opacity * np.sqrt(np.abs(values))[..., None]


def _painted(values: Floats) -> Bytes:
    return np.asarray(colormap()((values + 1.0) / 2.0, bytes=True))[..., :3]


def _bytes(colors: Floats) -> Bytes:
    return np.round(colors * 255.0).astype(np.uint8)
