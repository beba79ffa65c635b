"""Maps of tables: the relevance of named features as bars."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils._pytree import tree_leaves

from relprop.errors import InputError, OptionError
from relprop.viz.classes import explained_classes
from relprop.viz.colors import Floats, colormap
from relprop.viz.drawable import Drawable
from relprop.viz.lettering import width_of
from relprop.viz.numbers import sums_of, written
from relprop.viz.page import BAR, INK, MUTED, Place, blank_page
from relprop.viz.signals import parts_of

_LINE, _BARS, _SIZE, _HEAD = 0.22, 4.2, 8.5, 0.75
"""In inches: height of a bar's line, width of the bars, and the room above them; size of the names in points."""


def plot_features(
    explanation: Drawable,
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    *,
    count: int = 20,
    sample: int = 0,
    index: int = 0,
    title: str | None = None,
) -> Figure:
    """Draw the features of one sample with the largest absolute relevance as bars, the largest above, with their values.

    Args:
        explanation: Of ``B`` rows ``(F,)``, with one or ``K`` maps each; relevance of embedded features ``(F, D)`` is summed over ``D``, and
            the columns of several inputs follow each other in the order of the inputs.
        names: The names of the features.
        labels: Class names.
        count: The most features that are drawn; the others are added up in one bar.
        sample: Which of the rows.
        index: Which of its maps.
        title: Stands above; method, class and, of several, the sample where left out.

    Raises:
        InputError: The relevance is of no rows, there is no such sample or map, or there are names of another number than the features.
        OptionError: ``count`` is below one.
    """
    relevance = _of_columns(explanation)
    if not (0 <= sample < relevance.shape[0] and 0 <= index < relevance.shape[1]):
        raise InputError(
            f"There is no map {index} of sample {sample}; there are {relevance.shape[0]} with {relevance.shape[1]} each."
        )
    if count < 1:
        raise OptionError(f"The number of features, count={count}, must be at least one.")
    values = relevance[sample, index].double().numpy()
    named = [f"feature {number}" for number in range(len(values))] if names is None else list(names)
    if len(named) != len(values):
        raise InputError(f"There are {len(named)} names of features, and {len(values)} features.")
    shown = [f"{name}{value}" for name, value in zip(named, _values(explanation, sample, len(named)), strict=True)]
    rows = _rows(values, shown, count)
    classes = explained_classes(explanation, sample, labels)
    heading = f"{explanation.method}  ·  {classes[index].title}" if classes else explanation.method
    heading += f"  ·  sample {sample}" * (relevance.shape[0] > 1)
    absorbed = float(explanation.absorbed.detach().reshape(relevance.shape[:2])[sample, index])
    return _bars(rows, heading if title is None else title, "  ·  ".join(sums_of(values, absorbed).parts))


def _of_columns(explanation: Drawable) -> Tensor:
    """The relevance of every column, ``(B, K, F)``, the columns of several inputs one after another.

    Raises:
        InputError: An input is no rows.
    """
    parts = [part.sum(3) if part.dim() == 4 else part for part in parts_of(explanation)]
    if not parts or any(part.dim() != 3 for part in parts):
        said = " and ".join(str(tuple(part.shape)) for part in parts)
        raise InputError(f"Bars need relevance of rows, (B, F); here it is {said} with the explained outputs second.")
    return torch.cat(parts, 2)


def _values(explanation: Drawable, sample: int, count: int) -> list[str]:
    """What every feature was, where the inputs are rows."""
    inputs = [part for part in tree_leaves(explanation.inputs) if isinstance(part, Tensor)]
    if any(part.dim() != 2 for part in inputs):
        return [""] * count
    return [f" = {float(value):.4g}" for part in inputs for value in part[sample]]


def _rows(values: Floats, names: Sequence[str], count: int) -> list[tuple[str, float]]:
    order = np.argsort(-np.abs(values), kind="stable")
    rows = [(names[int(place)], float(values[place])) for place in order[:count]]
    rest = order[count:]
    return [*rows, (f"{len(rest)} other features", float(values[rest].sum()))] if len(rest) else rows


def _bars(rows: Sequence[tuple[str, float]], title: str, numbers: str) -> Figure:
    room = min(max(width_of(name, _SIZE) for name, _ in rows) + 0.4, 4.0)
    height, width = _HEAD + len(rows) * _LINE + 0.2, room + _BARS + 1.0
    page = blank_page(width, height)
    page.line(Place(0.2, height - 0.42, width - 0.4, 0.4), title, 11, "bold")
    page.label(0.2, height - 0.56, numbers, size=7, color=MUTED)
    largest = max(abs(value) for _, value in rows) or 1.0
    low, high = min(0.0, *(value for _, value in rows), 0.0), max(0.0, *(value for _, value in rows), 0.0)
    zero = room + (-low / ((high - low) or 1.0)) * _BARS
    for number, (name, value) in enumerate(rows):
        bottom = height - _HEAD - (number + 1) * _LINE
        page.line(Place(0.2, bottom, room - 0.3, _LINE), name, _SIZE)
        length = abs(value) / ((high - low) or 1.0) * _BARS
        color = colormap()(0.5 + 0.5 * value / largest)
        page.box(Place(zero if value >= 0 else zero - length, bottom + 0.04, length, _LINE - 0.08), color=color)
        page.label(room + _BARS + 0.12, bottom + _LINE / 2, written(value), size=7, color=INK, va="center")
    page.box(Place(zero - 0.004, 0.2, 0.008, len(rows) * _LINE), color=BAR)
    return page.figure
