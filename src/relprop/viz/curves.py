"""Curves of methods, such as those of perturbation, with their intervals as bands."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from relprop.errors import InputError
from relprop.viz.lettering import AS_IT_IS, printable
from relprop.viz.page import Picture

COLORS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
"""Told apart by people with color deficiencies (Petroff 2021, matplotlib's petroff10)."""
_STYLES = ("-", "--", ":")
_BANDS = 10
"""The most methods whose intervals are drawn: of more, the bands cover each other."""


def plot_curves(
    panels: Mapping[str, Mapping[str, ArrayLike]], *, title: str = "", xlabel: str = "step", columns: int = 3
) -> Figure:
    """Draw one panel per curve, with a line per method, and its interval as a band for up to ten methods.

    Args:
        panels: By the title of the panel, and by method: a curve ``(N,)``, or with its interval ``(N, 3)``, the value and both ends.
        title: Stands above.
        xlabel: What the points are.
        columns: The most panels side by side.

    Raises:
        InputError: There is no curve, or one of another shape.
    """
    if not any(panels.values()):
        raise InputError("There is no curve to draw.")
    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    figure = Picture(figsize=(4.0 * across, 3.0 * down + 1.1), facecolor="white", layout="constrained")
    if title:
        figure.suptitle(printable(title), fontsize=10, **AS_IT_IS)
    looks = _looks([method for curves in panels.values() for method in curves])
    for place, (name, curves) in enumerate(panels.items(), start=1):
        _draw(figure.add_subplot(down, across, place), name, curves, looks, xlabel)
    handles = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    legend = figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=5, fontsize=7)
    for text in legend.get_texts():
        text.set(**AS_IT_IS)
    return figure


def _draw(axes: Axes, name: str, curves: Mapping[str, ArrayLike], looks: Mapping[str, Mapping[str, Any]], xlabel: str) -> None:
    for method, given in curves.items():
        curve = np.asarray(given, dtype=np.float64)
        if curve.ndim not in {1, 2} or (curve.ndim == 2 and curve.shape[1] != 3):
            raise InputError(f"The curve of {method!r} has shape {curve.shape}; (N,), or (N, 3) with its interval, is drawn.")
        values, *ends = curve[:, None].T if curve.ndim == 1 else curve.T
        axes.plot(values, label=printable(method), **looks[method])
        if ends and len(curves) <= _BANDS:
            axes.fill_between(range(len(values)), *ends, color=looks[method]["color"], alpha=0.15, linewidth=0)
    axes.set_title(printable(name), fontsize=9, **AS_IT_IS)
    axes.set_xlabel(printable(xlabel), fontsize=8, **AS_IT_IS)
    axes.tick_params(labelsize=7)


def _looks(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return a color and line style for each method; they repeat after thirty."""
    return {
        method: {
            "color": COLORS[place % len(COLORS)],
            "linestyle": _STYLES[place // len(COLORS) % len(_STYLES)],
            "lw": 1.4,
        }
        for place, method in enumerate(dict.fromkeys(methods))
    }
