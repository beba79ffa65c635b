"""What tests look at in figures."""

import numpy as np


def pictures_of(figure):
    """The pixels of every picture in color, in the order of the axes."""
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    return [pixels for pixels in shown if pixels.ndim == 3]
