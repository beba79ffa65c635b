"""Maps of volumes and videos: three slices through the strongest voxel, or frames, each over the volume itself."""

from collections.abc import Callable, Sequence
from typing import Unpack

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from relprop.errors import InputError, OptionError
from relprop.viz.classes import explained_classes
from relprop.viz.colors import Bytes, Floats, scale_of
from relprop.viz.drawable import Drawable
from relprop.viz.look import Look, LookOptions
from relprop.viz.sheet import draw_sheet
from relprop.viz.subjects import foot_of
from relprop.viz.tiles import Cell, Strip
from relprop.viz.views import View

_AXES = ("depth", "height", "width")


def volumes_of(explanation: Drawable) -> Tensor:
    """Return the maps of volumes or videos, summed over channels, ``(B, K, D, H, W)``, on the CPU.

    Raises:
        InputError: They are no volumes, or hold NaN or infinite values.
    """
    maps = explanation.heatmap().detach().float().cpu()
    if maps.dim() != 3 + explanation.absorbed.dim():
        raise InputError(f"Slices need relevance of volumes, (B, C, D, H, W); these maps have shape {tuple(maps.shape)}.")
    if not bool(maps.isfinite().all()):
        raise InputError(f"The maps of method {explanation.method!r} hold NaN or infinite values and cannot be drawn.")
    return maps.unsqueeze(1) if maps.dim() == 4 else maps


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

    def cells(heatmap: Floats, volume: Bytes | None, chosen: Look) -> list[Cell]:
        place = _strongest(heatmap) if at is None else at
        if not all(0 <= index < size for index, size in zip(place, heatmap.shape, strict=True)):
            raise OptionError(f"The voxel at={place} lies outside of a volume of {'×'.join(map(str, heatmap.shape))}.")
        made: list[Cell] = []
        for axis, name in enumerate(_AXES):
            view = _view(explanation, np.asarray(heatmap.take(place[axis], axis)), _taken(volume, place[axis], axis), chosen)
            made += _shown(view, f"{name} {place[axis]}")
        return made

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

    def cells(heatmap: Floats, volume: Bytes | None, chosen: Look) -> list[Cell]:
        times = np.unique(np.linspace(0, len(heatmap) - 1, count).round().astype(int))
        views = [_view(explanation, heatmap[time], _taken(volume, int(time), 0), chosen) for time in times]
        return [_frame(view, f"frame {time}") for view, time in zip(views, times, strict=True)]

    return _drawn(explanation, labels, title, Look(**look), cells)


def _drawn(
    explanation: Drawable,
    labels: Sequence[str] | None,
    title: str | None,
    look: Look,
    cells: Callable[[Floats, Bytes | None, Look], list[Cell]],
) -> Figure:
    maps, volumes = volumes_of(explanation), _grays(explanation)
    strips: list[Strip] = []
    for sample in range(len(maps)):
        names = explained_classes(explanation, sample, labels)
        for index in range(maps.shape[1]):
            heatmap = maps[sample, index].numpy()
            scale = scale_of(heatmap.reshape(len(heatmap), -1), look)
            chosen = Look(limit=max(abs(end) for end in scale.ends), smooth=look.smooth, opacity=look.opacity)
            volume = None if volumes is None else volumes[sample]
            strips.append(Strip(cells(heatmap, volume, chosen), names[index].title if names else f"sample {sample}"))
    foot = [*foot_of([explanation.method], look), "All slices of a volume share one scale."]
    return draw_sheet(strips, title=explanation.method if title is None else title, foot=foot)


def _view(explanation: Drawable, heatmap: Floats, photo: Bytes | None, look: Look) -> View:
    return View(heatmap, photo, look, explanation.meaning)


def _shown(view: View, title: str) -> list[Cell]:
    """A slice of the volume, where it is shown, and its map."""
    return [view.colors(title)] if view.photo is None else [view.picture(title), view.overlay("relevance", legend=True)]


def _frame(view: View, title: str) -> Cell:
    return view.colors(title) if view.photo is None else view.overlay(title, legend=True)


def _strongest(heatmap: Floats) -> tuple[int, ...]:
    return tuple(int(index) for index in np.unravel_index(np.abs(heatmap).argmax(), heatmap.shape))


def _grays(explanation: Drawable) -> Sequence[Bytes] | None:
    """The explained volumes, ``(D, H, W, 3)`` each, from its least to its largest value; None where they are of other channels."""
    inputs = explanation.inputs
    if not isinstance(inputs, Tensor) or inputs.dim() != 5 or inputs.shape[1] not in {1, 3}:
        return None
    values = inputs.detach().float().cpu()
    low, high = values.flatten(1).amin(1), values.flatten(1).amax(1)
    spread = torch.where(high > low, high - low, 1.0).view(-1, 1, 1, 1, 1)
    shown = ((values - low.view(-1, 1, 1, 1, 1)) / spread * 255).round().byte().movedim(1, -1)
    return list(shown.expand(*shown.shape[:-1], 3).numpy())


def _taken(volume: Bytes | None, index: int, axis: int) -> Bytes | None:
    return None if volume is None else np.ascontiguousarray(volume.take(index, axis))
