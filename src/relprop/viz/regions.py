"""The region where a map is positive: its outline, and the photo cut out along it."""

import numpy as np
from numpy.typing import NDArray

from relprop.viz.colors import Bytes, Floats, grayed
from relprop.viz.smoothing import smoothed

Mask = NDArray[np.bool_]

BLUR = 0.02
"""Standard deviation of the blur before the region is read off, over the shorter side: single pixels make no region."""


def positive_region(heatmap: Floats) -> Mask:
    """Return where a map ``(H, W)``, blurred, is above zero; of a map of one sign, where it is above its mean."""
    return region_field(heatmap) > 0.5


def region_field(heatmap: Floats) -> Floats:
    """Return values in [0, 1] that are above 0.5 in the positive region: a field whose contour is smooth."""
    blurred = smoothed(heatmap, BLUR * min(heatmap.shape))
    one_sign = float(heatmap.min()) >= 0 or float(heatmap.max()) <= 0
    height = blurred - (float(blurred.mean()) if one_sign else 0.0)
    return 0.5 + 0.5 * height / (float(np.abs(height).max()) or 1.0)


def cut_out(photo: Bytes, region: Mask, fade: float = 0.85) -> Bytes:
    """Return the photo ``(H, W, 3)`` in its colors inside of a region ``(H, W)``, gray and pale outside."""
    outside = (1 - fade) * photo / 255.0 + fade * (0.35 + 0.65 * grayed(photo))
    return np.where(region[..., None], photo, np.round(outside * 255.0)).astype(np.uint8)
