"""Which picture suits an explanation: that of images, signals, volumes, videos or rows, by its inputs."""

from collections.abc import Callable

from matplotlib.figure import Figure
from torch import Tensor
from torch.utils._pytree import tree_leaves

from relprop.errors import InputError
from relprop.viz.drawable import Drawable
from relprop.viz.features import plot_features
from relprop.viz.plot import plot_explanation
from relprop.viz.signals import parts_of, plot_signals
from relprop.viz.volumes import plot_frames, plot_slices

_COLORS = 3
"""Channels of a video; a volume has another number."""


def picture_for(explanation: Drawable) -> Callable[..., Figure]:
    """Return the function that draws an explanation.

    Images ``(B, C, H, W)``, also one among several inputs, signals ``(B, C, T)``, volumes ``(B, C, D, H, W)``, videos of three channels, and
    rows ``(B, F)`` of one or several inputs have one.

    Raises:
        InputError: The inputs are texts, or of another shape.
    """
    inputs = [part for part in tree_leaves(explanation.inputs) if isinstance(part, Tensor)]
    if sum(part.dim() == 4 for part in inputs) == 1:
        return plot_explanation
    if len(inputs) == 1 and inputs[0].dim() == 3:
        return plot_signals
    if len(inputs) == 1 and inputs[0].dim() == 5:
        return plot_frames if inputs[0].shape[1] == _COLORS else plot_slices
    if inputs and all(part.dim() == 2 for part in inputs):
        dims = {part.dim() for part in parts_of(explanation)}
        if dims == {3} or (dims == {3, 4} and any(part.is_floating_point() for part in inputs)):
            return plot_features
        raise InputError(
            "These inputs are numbers that the model looks up: relprop.viz.color_words draws texts, with their tokens, and "
            "relprop.viz.plot_features tables."
        )
    shapes = " and ".join(str(tuple(part.shape)) for part in inputs)
    raise InputError(
        f"Images, signals, volumes and rows can be drawn, and these inputs have shape {shapes}; draw .relevance yourself, "
        "or a part of it by the functions of relprop.viz."
    )
