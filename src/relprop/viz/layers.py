"""The figure of relevance layer by layer, from the output to the input."""

from collections.abc import Sequence
from math import isqrt
from typing import Unpack

from matplotlib.figure import Figure
from torch import Tensor

from relprop.errors import InputError
from relprop.viz.comparison import Row, draw_grid
from relprop.viz.drawable import Drawable
from relprop.viz.images import Images
from relprop.viz.look import Look, LookOptions
from relprop.viz.subjects import subjects_of
from relprop.viz.views import View


def plot_layers(
    explanation: Drawable,
    images: Images | None = None,
    labels: Sequence[str] | None = None,
    *,
    title: str | None = None,
    **look: Unpack[LookOptions],
) -> Figure:
    """Draw the relevance at the outputs of modules, in the order in which it passes them: from the output to the input.

    Each map is summed over channels and has its own scale. Of tokens, those after the class token are laid out as the square that they
    come from.

    Args:
        explanation: Made with ``layers=[…]``, in forward order.
        images: As in :func:`relprop.viz.plot_explanation`.
        labels: Class names.
        title: Stands above; the method's name where left out.
        **look: As in :func:`relprop.viz.plot_explanation`.

    Raises:
        InputError: The explanation has no layers, or images do not fit.
        OptionError: A value of the look is out of its range.
    """
    if not explanation.layers:
        raise InputError("There are no layers to draw; explain with layers=[…], paths of the model's modules.")
    chosen = Look(**look)
    rows: list[Row] = []
    for image, subject in enumerate(subjects_of(explanation, images, labels, chosen)):
        for index, view in enumerate(subject.views):
            maps = {path: layer_map(part, image, index, explanation) for path, part in reversed(list(explanation.layers.items()))}
            cells = {path: part if isinstance(part, str) else _view(part, view, chosen) for path, part in maps.items()}
            rows.append(Row({**cells, "input": view}, view.photo, subject.names[index].title if subject.names else ""))
    return draw_grid(rows, title=explanation.method if title is None else title, look=chosen, method=explanation.method)


def _view(values: Tensor, view: View, look: Look) -> View:
    return View(values.numpy(), None, look, view.meaning)


def layer_map(relevance: Tensor, image: int, index: int, explanation: Drawable) -> Tensor | str:
    """Return the map ``(h, w)`` of one image and target at one layer, or why there is none."""
    part = relevance[image].detach().float().cpu()
    part = part[index] if explanation.absorbed.dim() == 2 else part
    if part.dim() == 3:
        return part.sum(0)
    if part.dim() == 2:
        side = isqrt(len(part))
        return part[len(part) - side * side :].sum(1).view(side, side)
    return f"The output has the shape {tuple(part.shape)}, which is no picture; its relevance adds up to {float(part.sum()):.4g}."
