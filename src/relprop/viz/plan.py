"""The figure of a plan: which rule shares the relevance of which op."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from relprop.errors import InputError
from relprop.viz.lettering import AS_IT_IS, printable
from relprop.viz.page import EXPLAINED, PALE, Picture
from relprop.viz.trace import name_ops

_LANE = 0.26
"""The height of a lane, in inches."""


def plot_plan(ops: Sequence[str], rules: Sequence[str], *, title: str = "") -> Figure:
    """Draw one lane per rule, with a mark for every op that it is for.

    Args:
        ops: The names of the ops, from the input to the output.
        rules: The rule of each; empty where no relevance arrives.
        title: Stands above.

    Raises:
        InputError: There is no op, or not one rule per op.
    """
    lanes = list(dict.fromkeys(rule for rule in rules if rule))
    if len(ops) != len(rules) or not lanes:
        raise InputError(f"A plan has one rule per op, and there are {len(ops)} ops and {len(rules)} rules.")
    figure = Picture(
        figsize=(max(6.0, min(14.0, 2.0 + 0.22 * len(ops))), 1.9 + _LANE * len(lanes)), facecolor="white", layout="constrained"
    )
    axes = figure.add_subplot()
    for lane, rule in enumerate(lanes):
        places = [place for place, found in enumerate(rules) if found == rule]
        axes.axhline(lane, color=PALE, lw=5, zorder=1)
        axes.scatter(places, [lane] * len(places), marker="s", s=14, color=EXPLAINED, zorder=2)
    axes.set_yticks(range(len(lanes)), [printable(rule) for rule in lanes], fontsize=7, **AS_IT_IS)
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.set_xlim(-0.8, len(ops) - 0.2)
    name_ops(axes, ops)
    axes.set_title(printable(title), fontsize=9, loc="left", **AS_IT_IS)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure
