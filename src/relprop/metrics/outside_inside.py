"""The outside–inside relevance ratio: mean relevance of the background over mean relevance of the object."""

import torch
from torch import Tensor

from relprop.metrics.base import MetricSpec, Need, Statistics, Value
from relprop.metrics.maps import heatmap, object_and_valid, total, wide


def outside_inside_update(relevance: Tensor, mask: Tensor) -> Statistics:
    """Return each image's mean relevance on and off the object, by sign; zeros for an image without object or background.

    Void pixels are excluded.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``, or of signals or volumes, as the mask; any scale; summed over channels first.
        mask: ``(B, H, W)``: 0 outside, 255 void, anything else inside; or boolean (boxes: ``maps.box_mask``).

    Raises:
        InputError: Relevance and mask differ in shape, or the relevance has NaN or infinite values.
    """
    heat = heatmap(relevance, mask.dim() - 1)
    truth, valid = object_and_valid(heat, mask)
    heat, regions = wide(heat), {"inside": truth, "outside": valid & ~truth}
    both = truth.flatten(1).any(1) & regions["outside"].flatten(1).any(1)
    return {
        f"{sign}_{place}": both * total(part * pixels) / total(pixels).clamp(min=1)
        for sign, part in (("positive", heat.relu()), ("negative", (-heat).relu()))
        for place, pixels in regions.items()
    }


def outside_inside_compute(means: Statistics) -> Statistics:
    """Return the three ratios; NaN where the denominator is zero, as for an image without object or background."""
    positive_in, positive_out = means["positive_inside"], means["positive_outside"]
    negative_in, negative_out = means["negative_inside"], means["negative_outside"]
    return {
        "all": _ratio(positive_out + negative_in, positive_in + negative_out),
        "pos": _ratio(positive_out, positive_in),
        "signed": _ratio(positive_out - negative_out, positive_in - negative_in),
    }


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below == 0, torch.nan, above / below)


_INF = float("inf")

OUTSIDE_INSIDE = MetricSpec(
    name="outside-inside",
    values=(
        Value(
            "all",
            "lower",
            0,
            _INF,
            "(mean R⁺ outside + mean |R⁻| inside) / (mean R⁺ inside + mean |R⁻| outside)",
            ratio=True,
        ),
        Value("pos", "lower", 0, _INF, "mean R⁺ outside / mean R⁺ inside", ratio=True),
        Value("signed", "none", -_INF, _INF, "mean R outside / mean R inside; unstable where the latter cancels", ratio=True),
    ),
    needs=(Need.RELEVANCE, Need.MASK),
    update=outside_inside_update,
    compute=outside_inside_compute,
    over=("images", "set"),
    source="Nam et al., Relative Attributing Propagation, AAAI 2020, Eq. 11, after Lapuschkin et al., CVPR 2016 workshops, Eq. 3",
)
