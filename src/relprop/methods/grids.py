"""Upsample coarse maps to relevance shaped like an image."""

import torch.nn.functional as F
from torch import Tensor


def resized(maps: Tensor, like: Tensor) -> Tensor:
    """Resize maps ``(N, h, w)`` to the height and width of images, bilinearly."""
    if maps.shape[-2:] == like.shape[-2:]:
        return maps
    return F.interpolate(maps.unsqueeze(1), like.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)


def over_channels(maps: Tensor, image: Tensor) -> Tensor:
    """Spread maps ``(B, H, W)`` evenly over an image's channels: their sum, which a heat map shows, is the map."""
    channels = image.shape[1]
    return (maps / channels).unsqueeze(1).expand(-1, channels, -1, -1).contiguous()
