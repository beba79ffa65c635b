"""The grid pointing game: how much of the relevance for one cell's class lies in that cell of a mosaic."""

import torch
from torch import Tensor

from relprop.errors import InputError
from relprop.metrics.base import MetricSpec, Need, Statistics, Value, identity
from relprop.metrics.maps import heatmap, object_and_valid, wide


def grid_pointing_update(relevance: Tensor, mask: Tensor, parts: Tensor) -> Statistics:
    """Score the maps of mosaics, each for the class of one of their cells.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``, of any scale.
        mask: ``(B, H, W)``, nonzero in the cell whose class is explained.
        parts: ``(B, H, W)``, the number of the cell at each pixel, from 1.

    Returns:
        Each ``(B,)``: ``share`` of the positive relevance in the cell, ``Σ_cell R⁺ / Σ R⁺``, 0 where there is none; ``wins``, whether no
        other cell has more; ``outside``, the share of all relevance that is not in the cell, ``Σ_others |R| / Σ |R|``, NaN without any.

    Raises:
        InputError: The shapes differ, or the relevance has NaN or infinite values.
    """
    heat = heatmap(relevance)
    if parts.shape != heat.shape:
        raise InputError(f"The cells have shape {tuple(parts.shape)} but the heat map has {tuple(heat.shape)}.")
    cell, _ = object_and_valid(heat, mask)
    heat = wide(heat)
    positive = heat.relu()
    numbers = parts.to(heat.device).long().flatten(1)
    sums = heat.new_zeros(len(heat), int(numbers.max()) + 1).scatter_add_(1, numbers, positive.flatten(1))
    own, total = (positive * cell).sum((1, 2)), positive.sum((1, 2))
    inside, every = (heat.abs() * cell).sum((1, 2)), heat.abs().sum((1, 2))
    outside = (heat.abs() * ~cell).sum((1, 2)) / every.where(every > 0, 1)
    most = sums.gather(1, numbers.gather(1, cell.flatten(1).long().argmax(1, keepdim=True)))[:, 0]
    return {
        "share": own / total.where(total > 0, 1),
        "wins": wide((most > 0) & (most >= sums.amax(1)) & (inside > 0)),
        "outside": outside.where(every > 0, torch.nan),
    }


GRID_POINTING = MetricSpec(
    name="grid-pointing",
    values=(
        Value("share", "higher", 0, 1, "share of the positive relevance that lies in the right cell of the mosaic"),
        Value("wins", "higher", 0, 1, "whether no other cell has more positive relevance"),
        Value("outside", "lower", 0, 1, "share of the relevance, of both signs, that lies in other cells"),
    ),
    needs=(Need.RELEVANCE, Need.MASK, Need.PARTS),
    update=grid_pointing_update,
    compute=identity,
    source="Böhle et al., Convolutional Dynamic Alignment Networks, CVPR 2021, section 4; Rao et al., CVPR 2022, section 3.1",
)
