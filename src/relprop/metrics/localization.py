"""Localization of the object by relevance: pointing game, by class and over all images, energy, relevance mass and rank accuracy."""

from collections.abc import Callable

import torch
from torch import Tensor

from relprop.errors import OptionError
from relprop.metrics.base import MetricSpec, Need, Statistics, Value, identity
from relprop.metrics.maps import dilate, heatmap, object_and_valid, total, wide


def pointing_game_update(relevance: Tensor, mask: Tensor, *, tolerance: int = 15) -> Statistics:
    """Return whether the most relevant pixel lies on the object, or within ``tolerance`` pixels of it.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``, or of signals or volumes, as the mask; ties go to the first pixel in reading order.
        mask: ``(B, H, W)``: object, or box (``maps.box_mask``); void pixels are excluded.
        tolerance: Radius in pixels.

    Returns:
        ``pointing_game`` ``(B,)``: 0 or 1; NaN without an object.
    """
    heat = heatmap(relevance, mask.dim() - 1)
    truth, valid = object_and_valid(heat, mask)
    peak = heat.masked_fill(~valid, -torch.inf).flatten(1).argmax(1, keepdim=True)
    hit = dilate(truth, tolerance).flatten(1).gather(1, peak)[:, 0]
    return {"pointing_game": torch.where(truth.flatten(1).any(1), wide(hit), torch.nan)}


def class_pointing_update(relevance: Tensor, mask: Tensor, target: Tensor, logits: Tensor, *, tolerance: int = 15) -> Statistics:
    """Count the hits of the pointing game by class.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``, each of one class of its image.
        mask: ``(B, H, W)``, of that class.
        target: ``(B,)``, the classes.
        logits: ``(B, C)``, for the number of classes.
        tolerance: Radius in pixels.

    Returns:
        ``hits`` and ``images``, each ``(B, C)``: one number in the column of the class; zeros for an image without its object.
    """
    hit = pointing_game_update(relevance, mask, tolerance=tolerance)["pointing_game"]
    there = hit.isfinite()
    own = wide(torch.nn.functional.one_hot(target.to(hit.device), logits.shape[1]))
    return {"hits": own * hit.where(there, 0)[:, None], "images": own * there[:, None]}


def class_pointing_compute(counts: Statistics) -> Statistics:
    """Return the mean over classes of the hit rate, and the hit rate over all; classes without an image do not count."""
    hits, images = counts["hits"], counts["images"]
    return {"class_pointing": (hits / images).nanmean(-1), "all_pointing": hits.sum(-1) / images.sum(-1)}


POOLS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "positive": lambda relevance, positions: heatmap(relevance, positions).relu(),
    "absolute": lambda relevance, positions: heatmap(relevance, positions).abs(),
    "l2": lambda relevance, positions: heatmap(relevance**2, positions).sqrt(),
}
"""Poolings of signed relevance to nonnegative mass: the positive part of the heat map, its magnitude, or the L2 norm over channels.

The second argument is the number of dimensions of positions.
"""


def relevance_mass_update(relevance: Tensor, mask: Tensor, *, pool: str = "positive") -> Statistics:
    """Return the share of the relevance that lies on the object (or in the box: the energy-based pointing game).

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``, or of signals or volumes, as the mask.
        mask: ``(B, H, W)``; void pixels are excluded.
        pool: A key of ``POOLS``.

    Returns:
        ``relevance_mass`` ``(B,)``, ``Σ_object mass / Σ mass``; NaN without an object or without relevance.

    Raises:
        OptionError: An unknown pool.
    """
    mass, truth, valid = _pooled(relevance, mask, pool)
    share = total(mass * truth) / total(mass * valid)
    return {"relevance_mass": torch.where(truth.flatten(1).any(1), share, torch.nan)}


def relevance_rank_update(relevance: Tensor, mask: Tensor, *, pool: str = "positive") -> Statistics:
    """Return the share of the K most relevant pixels that lie on the object, where K is the object's size.

    Arguments and errors are those of ``relevance_mass_update``.

    Returns:
        ``relevance_rank`` ``(B,)``; NaN without an object. Ties are ranked in reading order.
    """
    mass, truth, valid = _pooled(relevance, mask, pool)
    order = mass.masked_fill(~valid, -torch.inf).flatten(1).sort(dim=1, descending=True, stable=True).indices
    size = truth.flatten(1).sum(1)
    chosen = torch.arange(order.shape[1], device=order.device) < size[:, None]
    hits = (truth.flatten(1).gather(1, order) & chosen).sum(1)
    return {"relevance_rank": wide(hits) / size}


def _pooled(relevance: Tensor, mask: Tensor, pool: str) -> tuple[Tensor, Tensor, Tensor]:
    if pool not in POOLS:
        raise OptionError(f"There is no pool {pool!r}; there are {', '.join(POOLS)}.")
    mass = wide(POOLS[pool](relevance, mask.dim() - 1))
    return mass, *object_and_valid(mass, mask)


def _spec(name: str, update: Callable[..., Statistics], meaning: str, source: str) -> MetricSpec:
    value = Value(name.replace("-", "_"), "higher", 0, 1, meaning)
    return MetricSpec(name, (value,), (Need.RELEVANCE, Need.MASK), update, identity, source)


POINTING_GAME = _spec(
    "pointing-game",
    pointing_game_update,
    "whether the most relevant pixel is on the object or near it",
    "Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018, section 4.2 (15 pixels of tolerance)",
)
CLASS_POINTING = MetricSpec(
    name="class-pointing",
    values=(
        Value("class_pointing", "higher", 0, 1, "hit rate of the most relevant pixel, averaged over classes"),
        Value("all_pointing", "higher", 0, 1, "hit rate over all pairs of an image and a class"),
    ),
    needs=(Need.RELEVANCE, Need.MASK, Need.TARGET, Need.LOGITS),
    update=class_pointing_update,
    compute=class_pointing_compute,
    over=("set",),
    source="Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018, section 4.2, as in TorchRay",
)
RELEVANCE_MASS = _spec(
    "relevance-mass",
    relevance_mass_update,
    "share of the relevance that is on the object",
    "Arras et al., CLEVR-XAI, Information Fusion 2022, Eq. 5; with boxes Score-CAM's energy-based pointing game",
)
RELEVANCE_RANK = _spec(
    "relevance-rank",
    relevance_rank_update,
    "share of the K most relevant pixels that are on the object of K pixels",
    "Arras et al., CLEVR-XAI, Information Fusion 2022, Eq. 6",
)
