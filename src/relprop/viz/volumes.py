"""Figures of volumes and videos: three slices through the strongest voxel, or frames, each over the volume itself."""

from collections.abc import Callable, Sequence
from typing import Unpack

import numpy as np
from matplotlib.figure import Figure

from relprop.errors import OptionError
from relprop.viz.drawable import Drawable
from relprop.viz.look import Look, LookOptions
from relprop.viz.sheet import draw_sheet
from relprop.viz.stacks import AXES, Stack, stacks_of
from relprop.viz.subjects import foot_of
from relprop.viz.tiles import Cell, Strip
from relprop.viz.views import View


def plot_slices(
    explanation: Drawable,
    labels: Sequence[str] | None = None,
    *,
    at: tuple[int, int, int] | None = None,
    title: str | None = None,
    **look: Unpack[LookOptions],
) -> Figure:
    """Draw three orthogonal slices of every volume, each beside its map, in one scale per volume.

    Args:
        explanation: Of ``B`` volumes ``(C, D, H, W)``, with one or ``K`` maps each.
        labels: Class names.
        at: The voxel through which the slices run, as depth, height, width; that of the largest absolute relevance where left out.
        title: Stands above; the method's name where left out.
        **look: Fields of :class:`Look`: ``percentile``, ``limit``, ``smooth``, ``opacity``.

    Raises:
        InputError: The maps are no volumes.
        OptionError: The voxel lies outside, or a value of the look is out of its range.
    """

    def cells(stack: Stack) -> list[Cell]:
        place, shape = stack.strongest if at is None else at, stack.heatmap.shape
        if not all(0 <= index < size for index, size in zip(place, shape, strict=True)):
            raise OptionError(f"The voxel at={place} lies outside of a volume of {'×'.join(map(str, shape))}.")
        slices = [(stack.slice(axis, place[axis]), f"{name} {place[axis]}") for axis, name in enumerate(AXES)]
        return [cell for view, name in slices for cell in _shown(view, name)]

    return _drawn(explanation, labels, title, Look(**look), cells)


def plot_frames(
    explanation: Drawable,
    labels: Sequence[str] | None = None,
    *,
    count: int = 6,
    title: str | None = None,
    **look: Unpack[LookOptions],
) -> Figure:
    """Draw frames of every video with the map over each, evenly spread in time, in one scale per video.

    Args:
        explanation: Of ``B`` videos ``(C, T, H, W)``, with one or ``K`` maps each.
        labels: Class names.
        count: How many frames.
        title: Stands above; the method's name where left out.
        **look: Fields of :class:`Look`.

    Raises:
        InputError: The maps are no videos.
        OptionError: ``count`` is below one, or a value of the look is out of its range.
    """
    if count < 1:
        raise OptionError(f"The number of frames, count={count}, must be at least one.")

    def cells(stack: Stack) -> list[Cell]:
        times = np.unique(np.linspace(0, len(stack.heatmap) - 1, count).round().astype(int))
        return [_frame(stack.slice(0, int(time)), f"frame {time}") for time in times]

    return _drawn(explanation, labels, title, Look(**look), cells)


def _drawn(
    explanation: Drawable, labels: Sequence[str] | None, title: str | None, look: Look, cells: Callable[[Stack], list[Cell]]
) -> Figure:
    strips = [Strip(cells(stack), stack.title) for stack in stacks_of(explanation, labels, look)]
    foot = [*foot_of([explanation.method], look), "All slices of a volume share one scale."]
    return draw_sheet(strips, title=explanation.method if title is None else title, foot=foot)


def _shown(view: View, title: str) -> list[Cell]:
    """A slice of the volume, where it is shown, and its map."""
    return [view.colors(title)] if view.photo is None else [view.picture(title), view.overlay("relevance", legend=True)]


def _frame(view: View, title: str) -> Cell:
    return view.colors(title) if view.photo is None else view.overlay(title, legend=True)
