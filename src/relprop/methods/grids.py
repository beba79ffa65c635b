"""Upsample coarse maps to relevance shaped like a signal, an image or a volume."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from relprop.attribution import Attributed, Problem
from relprop.graph.grids import misplaced_channels
from relprop.graph.model import CapturedModel

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resized(maps: Tensor, like: Tensor) -> Tensor:
    """Resize maps ``(N, …)`` to the positions of inputs ``(B, channels, …)``: linearly, bilinearly or trilinearly."""
    return maps if maps.shape[1:] == like.shape[2:] else enlarged(maps, like.shape[2:])


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate maps ``(N, …)`` to other sizes."""
    return F.interpolate(maps.unsqueeze(1), tuple(size), mode=_MODES[len(size)], align_corners=False).squeeze(1)


def over_channels(maps: Tensor, image: Tensor) -> Tensor:
    """Spread maps ``(B, …)`` evenly over an input's channels: their sum, which a heat map shows, is the map."""
    channels = image.shape[1]
    return (maps / channels).unsqueeze(1).repeat_interleave(channels, 1)


def on_image(maps: Tensor, image: Tensor) -> Tensor:
    """Enlarge maps ``(B, …)`` to an input and spread them over its channels."""
    return over_channels(resized(maps, image), image)


def note_channels(model: CapturedModel) -> tuple[str, ...]:
    """Say where a model reads channels in another dimension than the one that is taken for them."""
    dim = misplaced_channels(model)
    note = (
        f"The second dimension of the input is taken for its channels, all hidden at once, and the model reads them in dimension {dim}; "
        "permute the input in a module around the model where that is meant."
    )
    return () if dim is None else (note,)


def as_relevance(problem: Problem, maps: Tensor) -> Attributed:
    """Return maps ``(B, …)`` as the relevance of the input."""
    return Attributed([on_image(maps, problem.image)])


def spread(maps: Tensor, image: Tensor) -> Tensor:
    """Share every cell of maps ``(B, …)`` among the positions that it covers, ``(B, …)``: sums stay."""
    for dim, positions in enumerate(image.shape[2:], 1):
        maps = (maps.movedim(dim, -1) @ _covered(maps.shape[dim], positions, maps).T).movedim(-1, dim)
    return maps


def _covered(cells: int, pixels: int, like: Tensor) -> Tensor:
    """The share of every cell, along one side, that lies in each pixel, ``(pixels, cells)``."""
    size = pixels / cells
    edges = torch.arange(pixels + 1, dtype=torch.float64)
    starts = torch.arange(cells, dtype=torch.float64) * size
    inside = torch.minimum(edges[1:, None], starts + size) - torch.maximum(edges[:-1, None], starts)
    return (inside.clamp(min=0) / size).to(like)
