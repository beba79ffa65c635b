"""Maps whose right answer is known: which pixels speak for the class and which against it."""

import torch
from torch import Tensor

from relprop.errors import InputError
from relprop.metrics.base import MetricSpec, Need, Statistics, Value, identity
from relprop.metrics.maps import heatmap, wide
from relprop.metrics.segmentation import average_precision
from relprop.metrics.similarity import cosine

FOR, AGAINST = 1, 2
"""The numbers in the map of parts: pixels that speak for the class, and pixels that speak against it."""


def known_map_update(relevance: Tensor, parts: Tensor) -> Statistics:
    """Compare maps with the right ones.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``, of any scale.
        parts: ``(B, H, W)``: 1 where a pixel speaks for the class, 2 where it speaks against it, else 0.

    Returns:
        Each ``(B,)``, NaN without relevance: ``cosine`` of the map with +1, −1 and 0 at these pixels; ``outside``, the share of the
        relevance where nothing speaks; ``wrong_sign``, the share of the relevance on the other pixels whose sign is the other one; and
        ``average_precision`` of the pixels that matter, ranked by magnitude.

    Raises:
        InputError: The shapes differ, or the relevance has NaN or infinite values.
    """
    heat = heatmap(relevance)
    if parts.shape != heat.shape:
        raise InputError(f"The right maps have shape {tuple(parts.shape)} but the heat maps have {tuple(heat.shape)}.")
    heat, parts = wide(heat), parts.to(heat.device)
    right = wide(parts == FOR) - wide(parts == AGAINST)
    matters, size = right != 0, heat.abs()
    total, inside = size.sum((1, 2)), (size * matters).sum((1, 2))
    wrong = (size * (heat * right < 0)).sum((1, 2))
    every = torch.ones_like(matters).flatten(1)
    return {
        "cosine": cosine(heat, right),
        "outside": _ratio((size * ~matters).sum((1, 2)), total),
        "wrong_sign": _ratio(wrong, inside),
        "average_precision": torch.where(total > 0, average_precision(size.flatten(1), matters.flatten(1), every), torch.nan),
    }


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below, torch.nan)


KNOWN_MAP = MetricSpec(
    name="known-map",
    values=(
        Value("cosine", "higher", -1, 1, "cosine of the map with the right one, +1 for, −1 against, 0 elsewhere"),
        Value("outside", "lower", 0, 1, "share of the relevance where nothing speaks for or against the class"),
        Value("wrong_sign", "lower", 0, 1, "share of the relevance on pixels that matter whose sign is wrong"),
        Value("average_precision", "higher", 0, 1, "mean precision of the magnitude in finding the pixels that matter"),
    ),
    needs=(Need.RELEVANCE, Need.PARTS),
    update=known_map_update,
    compute=identity,
    source="in the manner of Zhang et al., AttributionLab: Faithfulness of Feature Attribution Under Controllable Environments, 2023",
)
