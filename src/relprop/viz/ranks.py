"""The chart of mean ranks: methods on one line, joined where they do not differ."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from relprop.errors import InputError
from relprop.viz.lettering import width_of
from relprop.viz.page import EXPLAINED, INK, MUTED, Place, blank_page

_LINE, _SIDE, _WIDTH, _SIZE = 0.22, 0.25, 4.6, 8.5
"""In inches: height of a name, the margin, width of the axis; size of the names in points."""


def plot_ranks(ranks: Mapping[str, float], difference: float, *, title: str = "") -> Figure:
    """Draw the mean ranks of methods, the best at the left; a bar joins methods whose ranks lie within the critical difference.

    Args:
        ranks: The mean rank of each method, from 1.
        difference: How far two ranks must be apart to differ.
        title: Stands above.

    Raises:
        InputError: There are fewer than two methods, or a rank is not finite.
    """
    if len(ranks) < 2 or not np.isfinite(list(ranks.values())).all():
        raise InputError("A chart of ranks needs two methods or more, with finite ranks.")
    names = sorted(ranks, key=lambda name: ranks[name])
    groups = _groups([ranks[name] for name in names], difference)
    room = max(width_of(f"{name}  00.00", _SIZE) for name in names) + 0.3
    half = -(-len(names) // 2)
    low, high = 1.0, float(max(len(names), 2))
    top = 0.5 + 0.45 * bool(title)
    bars = 0.14 + 0.1 * len(groups)
    height = top + bars + half * _LINE + _SIDE
    page = blank_page(2 * (_SIDE + room) + _WIDTH, height)
    left, axis = _SIDE + room, height - top

    def across(rank: float) -> float:
        return left + (rank - low) / (high - low) * _WIDTH

    if title:
        page.line(Place(_SIDE, height - 0.4, page.width - 2 * _SIDE, 0.35), title, 11, "bold")
    page.box(Place(left, axis - 0.006, _WIDTH, 0.012), color=INK)
    for tick in np.unique(np.linspace(low, high, min(len(names), 9)).round()):
        page.box(Place(across(tick) - 0.005, axis, 0.01, 0.06), color=INK)
        page.label(across(tick), axis + 0.1, f"{tick:g}", ha="center", size=7, color=MUTED)
    page.box(Place(left, axis + 0.29, min(_WIDTH, difference / (high - low) * _WIDTH), 0.02), color=MUTED)
    page.label(left, axis + 0.34, f"critical difference {difference:.2f}", size=7, color=MUTED)
    for number, (first, last) in enumerate(groups):
        bar = Place(across(ranks[names[first]]) - 0.04, axis - 0.14 - 0.1 * number, 0.08, 0.05)
        page.box(Place(bar.left, bar.bottom, across(ranks[names[last]]) + 0.04 - bar.left, bar.height), color=EXPLAINED)
    for place, name in enumerate(names):
        leftward = place < half
        line = place if leftward else len(names) - 1 - place
        at, end = axis - bars - (line + 0.5) * _LINE, left - 0.1 if leftward else left + _WIDTH + 0.1
        page.axes.plot([across(ranks[name])] * 2 + [end], [axis, at, at], color=MUTED, lw=0.8, zorder=1)
        text = f"{name}  {ranks[name]:.2f}" if leftward else f"{ranks[name]:.2f}  {name}"
        page.label(end + (-0.06 if leftward else 0.06), at, text, ha="right" if leftward else "left", va="center", size=_SIZE)
    return page.figure


def _groups(ranks: list[float], difference: float) -> list[tuple[int, int]]:
    """The longest runs of sorted ranks within the difference, as first and last index; none of a single one."""
    runs = [
        (first, max(last for last in range(first, len(ranks)) if ranks[last] - ranks[first] < difference or last == first))
        for first in range(len(ranks))
    ]
    return [run for place, run in enumerate(runs) if run[1] > run[0] and (place == 0 or run[1] > runs[place - 1][1])]
