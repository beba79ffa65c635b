"""The figure of a trace: where relevance goes on its way from the output to the input."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from relprop.viz.lettering import AS_IT_IS, printable
from relprop.viz.page import EXPLAINED, INK, MUTED, Picture

_NAMED = 40
"""Ops of which all are named; of more, about so many are."""


def plot_trace(ops: Sequence[str], received: Sequence[float], absorbed: Sequence[float], *, title: str = "") -> Figure:
    """Draw the relevance that every op received, and what has been absorbed up to there; in a conserving run both add up to what the start gives.

    Args:
        ops: The names of the ops, from the output to the input.
        received: The sum of relevance at each.
        absorbed: The relevance that each absorbed.
        title: Stands above.
    """
    figure = Picture(figsize=(max(6.0, min(14.0, 0.22 * len(ops))), 3.9), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    gone = [sum(absorbed[: place + 1]) for place in range(len(ops))]
    axes.plot(received, color=EXPLAINED, lw=1.6, label="relevance that arrives")
    axes.fill_between(range(len(ops)), gone, color="#9db8d2", step="post", label="absorbed so far")
    axes.axhline(0, color=INK, lw=0.6)
    name_ops(axes, ops)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.tick_params(axis="y", labelsize=7, colors=MUTED)
    axes.set_title(printable(title), fontsize=9, loc="left", **AS_IT_IS)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.legend(fontsize=7, frameon=False)
    return figure


def name_ops(axes: Axes, ops: Sequence[str]) -> None:
    """Write the names of ops, or of some of many, along the horizontal axis."""
    step = max(1, -(-len(ops) // _NAMED))
    names = [printable(_short(name)) for name in ops[::step]]
    axes.set_xticks(range(0, len(ops), step), names, rotation=90, fontsize=6, **AS_IT_IS)


def _short(name: str, longest: int = 26) -> str:
    return name if len(name) <= longest else f"…{name[1 - longest :]}"
