"""Upsample coarse maps to relevance shaped like an image."""

import torch
import torch.nn.functional as F
from torch import Tensor

from relprop.attribution import Attributed, Problem


def resized(maps: Tensor, like: Tensor) -> Tensor:
    """Resize maps ``(N, h, w)`` to the height and width of images, bilinearly."""
    if maps.shape[-2:] == like.shape[-2:]:
        return maps
    return F.interpolate(maps.unsqueeze(1), like.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)


def over_channels(maps: Tensor, image: Tensor) -> Tensor:
    """Spread maps ``(B, H, W)`` evenly over an image's channels: their sum, which a heat map shows, is the map."""
    channels = image.shape[1]
    return (maps / channels).unsqueeze(1).expand(-1, channels, -1, -1).contiguous()


def on_image(maps: Tensor, image: Tensor) -> Tensor:
    """Enlarge maps ``(B, h, w)`` to an image and spread them over its channels."""
    return over_channels(resized(maps, image), image)


def as_relevance(problem: Problem, maps: Tensor) -> Attributed:
    """Return maps ``(B, h, w)`` as the relevance of the image."""
    return Attributed([on_image(maps, problem.image)])


def spread(maps: Tensor, image: Tensor) -> Tensor:
    """Share every cell of maps ``(B, h, w)`` among the pixels that it covers, ``(B, H, W)``: sums stay."""
    rows, columns = (_covered(cells, pixels, maps) for cells, pixels in zip(maps.shape[1:], image.shape[2:], strict=True))
    return rows @ maps @ columns.T


def _covered(cells: int, pixels: int, like: Tensor) -> Tensor:
    """The share of every cell, along one side, that lies in each pixel, ``(pixels, cells)``."""
    size = pixels / cells
    edges = torch.arange(pixels + 1, dtype=torch.float64)
    starts = torch.arange(cells, dtype=torch.float64) * size
    inside = torch.minimum(edges[1:, None], starts + size) - torch.maximum(edges[:-1, None], starts)
    return (inside.clamp(min=0) / size).to(like)
