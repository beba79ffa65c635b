"""Every map of a volume or video with what it lies over, cut into slices or frames that share one scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relprop.meaning import Meaning
from relprop.viz.classes import explained_classes
from relprop.viz.colors import Bytes, Floats, scale_of
from relprop.viz.drawable import Drawable, maps_over
from relprop.viz.look import Look
from relprop.viz.tiles import Legend
from relprop.viz.views import View

AXES = ("depth", "height", "width")


@dataclass(frozen=True)
class Stack:
    """One map ``(D, H, W)``.

    Attributes:
        heatmap: The map.
        volume: What it lies over, ``(D, H, W, 3)``; None where that is no picture.
        look: How all its slices are shown.
        legend: The scale that they share.
        title: Which sample, or what was explained.
    """

    heatmap: Floats
    volume: Bytes | None
    look: Look
    legend: Legend
    title: str

    @property
    def strongest(self) -> tuple[int, ...]:
        """The voxel of the largest absolute relevance: depth, height, width."""
        return tuple(int(index) for index in np.unravel_index(np.abs(self.heatmap).argmax(), self.heatmap.shape))

    def slice(self, axis: int, place: int) -> View:
        """Return the slice at a place of an axis, 0 for depth or time."""
        photo = None if self.volume is None else np.ascontiguousarray(self.volume.take(place, axis))
        return View(np.asarray(self.heatmap.take(place, axis)), photo, self.look, self.legend.meaning)


def stacks_of(explanation: Drawable, labels: Sequence[str] | None, look: Look) -> list[Stack]:
    """Return the maps of volumes or videos, summed over channels, one sample after the other.

    Raises:
        InputError: They are no volumes, or hold NaN or infinite values; or class names do not fit.
    """
    maps, volumes = maps_over(explanation, 3, "Slices need relevance of volumes, (B, C, D, H, W)"), _grays(explanation)
    stacks: list[Stack] = []
    for sample in range(len(maps)):
        names = explained_classes(explanation, sample, labels)
        titles = [named.title for named in names] or [f"sample {sample}"] * maps.shape[1]
        volume = None if volumes is None else volumes[sample]
        stacks += [
            _stack(heatmap.numpy(), volume, look, explanation.meaning, title)
            for heatmap, title in zip(maps[sample], titles, strict=True)
        ]
    return stacks


def _stack(heatmap: Floats, volume: Bytes | None, look: Look, meaning: Meaning, title: str) -> Stack:
    scale = scale_of(heatmap, look)
    chosen = Look(limit=max(abs(end) for end in scale.ends), smooth=look.smooth, opacity=look.opacity)
    return Stack(heatmap, volume, chosen, Legend(scale_of(heatmap, chosen), meaning), title)


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
