"""Relevance as colors: red for the class, blue against it, white is zero."""

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from relprop.errors import OptionError

Floats = NDArray[np.floating]
Bytes = NDArray[np.uint8]

COLORMAP = "seismic"
_NEARLY = 0.95
"""Share of the least value of a map of one sign that is taken off it: the least stays pale in the color of its sign."""


def scale_of(heatmap: Floats, percentile: float = 100.0) -> float:
    """Return the magnitude at which the colors saturate: a percentile of the map's absolute values; 1 for a map of zeros.

    Raises:
        OptionError: A percentile outside (0, 100].
    """
    if not 0 < percentile <= 100:
        raise OptionError(f"The percentile of the color scale is above 0 and at most 100, not {percentile:g}.")
    magnitude = np.abs(heatmap)
    return float(np.percentile(magnitude, percentile)) or float(magnitude.max()) or 1.0


def colorize(heatmap: Floats, percentile: float = 100.0) -> Bytes:
    """Return a map ``(H, W)`` in seismic colors ``(H, W, 3)``, symmetric around zero; of a map of one sign the least is pale."""
    return _bytes(_seismic(_unit(heatmap, percentile)))


def overlay(photo: Bytes, heatmap: Floats, percentile: float = 100.0, strength: float = 0.85) -> Bytes:
    """Lay the map's colors over a grayed photo ``(H, W, 3)``, the more opaque the stronger the relevance."""
    values = _unit(heatmap, percentile)
    gray = np.repeat(photo.astype(np.float64).mean(axis=2, keepdims=True), 3, axis=2) / 255.0
    pale = 0.25 + 0.75 * gray
    opacity = strength * np.sqrt(np.abs(values))[..., None]
    return _bytes(pale * (1 - opacity) + _seismic(values) * opacity)


def _unit(heatmap: Floats, percentile: float) -> Floats:
    values = heatmap - _NEARLY * _least(heatmap)
    scale = scale_of(values, percentile)
    return np.clip(values, -scale, scale) / scale


def _least(heatmap: Floats) -> float:
    """Return the value nearest to zero of a map of one sign, such as RISE's; zero for a map of both signs."""
    low, high = float(heatmap.min()), float(heatmap.max())
    return low if low > 0 else high if high < 0 else 0.0


def _seismic(values: Floats) -> Floats:
    return np.asarray(mpl.colormaps[COLORMAP]((values + 1.0) / 2.0))[..., :3]


def _bytes(colors: Floats) -> Bytes:
    return np.round(colors * 255.0).astype(np.uint8)
