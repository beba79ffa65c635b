"""The thresholded heat map as a segmentation: pixel accuracy, intersection over union, F1, and average precision."""

from dataclasses import replace

import torch
from torch import Tensor

from relprop.errors import OptionError
from relprop.metrics.base import MetricSpec, Need, Statistics, Value
from relprop.metrics.maps import heatmap, object_and_valid, threshold_of, total, wide


def average_precision(score: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """Return each row's average precision, Σ (recall_n − recall_{n−1}) · precision_n over its distinct scores.

    It is NaN for a row without positives.

    Args:
        score: ``(B, N)``; ties enter together.
        positive: ``(B, N)`` boolean.
        valid: ``(B, N)`` boolean; other pixels are excluded.
    """
    score, order = score.sort(1, descending=True)
    hits = wide((positive & valid).gather(1, order))
    seen = wide(valid.gather(1, order)).cumsum(1)
    places = torch.arange(score.shape[1], device=score.device).expand_as(score)
    last = torch.cat([score[:, 1:] != score[:, :-1], torch.ones_like(score[:, :1], dtype=torch.bool)], 1)
    group_end = places.where(last, score.shape[1] - 1).flip(1).cummin(1).values.flip(1)
    precision = (hits.cumsum(1) / seen.clamp(min=1)).gather(1, group_end)
    return (hits * precision).sum(1) / hits.sum(1)


def segmentation_update(relevance: Tensor, mask: Tensor, *, threshold: str = "mean-positive", ap: str = "object") -> Statistics:
    """Count each image's true and false positives and negatives, and compute its average precision.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``, or of signals or volumes, as the mask; any scale.
        mask: ``(B, H, W)``: 0 background, 255 void (excluded), anything else object; or boolean.
        threshold: See ``maps.threshold_of``.
        ap: ``object`` ranks the pixels for the object class; ``two-class`` ranks the min–max normalized map for the object and its
            complement for the background in one list, as the released code of the transformer papers does.

    Raises:
        InputError: Relevance and mask differ in shape, or the relevance has NaN or infinite values.
        OptionError: An unknown threshold or kind of average precision.
    """
    if ap not in {"object", "two-class"}:
        raise OptionError(f"Option ap must be 'object' or 'two-class', not {ap!r}.")
    heat = heatmap(relevance, mask.dim() - 1)
    truth, valid = object_and_valid(heat, mask)
    predicted = heat > threshold_of(heat, threshold).reshape(-1, *[1] * (heat.dim() - 1))
    counts = {
        "true_positive": predicted & truth,
        "false_positive": predicted & ~truth & valid,
        "false_negative": ~predicted & truth,
        "true_negative": ~predicted & ~truth & valid,
    }
    precision = _two_class(heat, truth, valid) if ap == "two-class" else _ranked(heat, truth, valid)
    some = ~precision.isnan()
    statistics = {name: wide(total(pixels)) for name, pixels in counts.items()}
    return {**statistics, "average_precision": precision.where(some, 0), "with_object": wide(some)}


def _ranked(heat: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    return average_precision(heat.flatten(1), truth.flatten(1), valid.flatten(1))


def _two_class(heat: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    places = tuple(range(1, heat.dim()))
    low, high = heat.amin(places, keepdim=True), heat.amax(places, keepdim=True)
    score = (heat - low) / (high - low).where(high > low, 1)
    return _ranked(torch.cat([1 - score, score], 1), torch.cat([~truth, truth], 1), torch.cat([valid, valid], 1))


def segmentation_compute(counts: Statistics) -> Statistics:
    """Return the scores of pixel counts; the mean IoU excludes a class of which neither map nor mask has a pixel."""
    hit, extra = counts["true_positive"], counts["false_positive"]
    missed, rejected = counts["false_negative"], counts["true_negative"]
    object_iou, background_iou = hit / (hit + extra + missed), rejected / (rejected + extra + missed)
    return {
        "pixel_accuracy": (hit + rejected) / (hit + rejected + extra + missed),
        "miou": torch.stack([object_iou, background_iou]).nanmean(0),
        "object_iou": object_iou,
        "f1": 2 * hit / (2 * hit + extra + missed),
        "average_precision": counts["average_precision"] / counts["with_object"],
    }


_VALUES = (
    Value("pixel_accuracy", "higher", 0, 1, "share of the pixels that are on the right side of the threshold"),
    Value("miou", "higher", 0, 1, "intersection over union, mean of object and background"),
    Value("object_iou", "higher", 0, 1, "intersection over union of the object"),
    Value("f1", "higher", 0, 1, "harmonic mean of the object pixels' precision and recall"),
    Value(
        "average_precision",
        "higher",
        0,
        1,
        "mean precision over the recall levels of the unthresholded map; over a set the mean of the images",
    ),
)

SEGMENTATION = MetricSpec(
    name="segmentation",
    values=_VALUES,
    needs=(Need.RELEVANCE, Need.MASK),
    update=segmentation_update,
    compute=segmentation_compute,
    over=("set", "images"),
    source="Nam et al., Relative Attributing Propagation, AAAI 2020, section 4 (pixel accuracy, mIoU)",
)

SEGMENTATION_TRANSFORMER = replace(
    SEGMENTATION,
    name="segmentation-transformer",
    source="Chefer et al., Transformer Interpretability Beyond Attention Visualization, CVPR 2021, section 4.1",
    options={"threshold": "mean", "ap": "two-class"},
)
