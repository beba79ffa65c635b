"""A Gaussian blur of maps, for display alone."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def smoothed(heatmap: Floats, sigma: float) -> Floats:
    """Return a map ``(H, W)`` under a Gaussian blur of standard deviation ``sigma`` pixels, mirrored at its edges; itself for 0."""
    if sigma <= 0:
        return heatmap
    return _along(_along(heatmap.astype(np.float64), sigma).T, sigma).T


def _along(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Blur along the last axis, as one matrix product: the mirrored ends are part of the matrix."""
    size = values.shape[-1]
    reach = max(1, round(4 * sigma))
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    folded = (np.arange(size)[:, None] + steps) % (2 * size)
    sources = np.where(folded < size, folded, 2 * size - 1 - folded)  # … 1 0 | 0 1 2 | 2 1 …
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], sources), weights / weights.sum())
    return values @ matrix.T
