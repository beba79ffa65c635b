"""Explanations to draw, and what tests look at in figures."""

import numpy as np
import torch
from matplotlib.transforms import Bbox

from relprop.explanation import Explanation


def explanation(targets=None):
    """Two images of 12 × 16 pixels and 5 classes; with ``targets`` that many maps each."""
    torch.manual_seed(0)
    shape = (2, 3, 12, 16) if targets is None else (2, targets, 3, 12, 16)
    target = torch.tensor([1, 4]) if targets is None else torch.arange(targets).expand(2, -1)
    return Explanation(
        torch.randn(shape), torch.randn(2, 5), target, torch.zeros(target.shape), torch.rand(2, 3, 12, 16), method="rap"
    )


def pictures_of(figure):
    """The pixels of every picture, the color scales left out, in the order in which they were drawn."""
    shown = [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]
    return [pixels for pixels in shown if pixels.shape[0] > 1]


def texts_of(figure):
    """Every text of a figure."""
    return [text.get_text() for text in figure.texts] + [text.get_text() for axes in figure.axes for text in axes.texts]


def boxes_of(figure):
    """Where every picture lies, the color scale included, in fractions of the figure."""
    boxes = []
    for axes in figure.axes:
        for image in axes.images:
            left, right, bottom, top = image.get_extent()
            boxes.append(Bbox([[left, bottom], [right, top]]).transformed(axes.transData - figure.transFigure))
    return boxes
