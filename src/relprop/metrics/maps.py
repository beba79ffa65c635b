"""Heat maps, object masks and thresholds, shared by the localization metrics."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from relprop.errors import InputError, OptionError, suggestion

VOID = 255
"""The mask value of void pixels, which count neither as object nor as background."""


def heatmap(relevance: Tensor) -> Tensor:
    """Return the ``(B, H, W)`` heat map: ``(B, C, H, W)`` summed over channels, ``(B, H, W)`` unchanged.

    Raises:
        InputError: Another number of dimensions, or NaN or infinite relevance.
    """
    if relevance.ndim not in {3, 4}:
        raise InputError(f"Relevance must have shape (B, H, W) or (B, C, H, W), not {tuple(relevance.shape)}.")
    if not relevance.isfinite().all():
        raise InputError("The relevance has NaN or infinite values; the metric would be meaningless.")
    return relevance.sum(1) if relevance.ndim == 4 else relevance


def object_and_valid(heat: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return boolean ``(B, H, W)`` maps of the object (mask neither 0 nor 255) and of all pixels that are not void (255).

    Raises:
        InputError: The mask and the heat map differ in shape.
    """
    if mask.shape != heat.shape:
        raise InputError(f"The mask has shape {tuple(mask.shape)} but the heat map has {tuple(heat.shape)}; resize them alike.")
    mask = mask.to(heat.device)
    if mask.dtype == torch.bool:
        return mask, torch.ones_like(mask)
    valid = mask != VOID
    return (mask != 0) & valid, valid


def box_mask(boxes: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Return a ``(B, H, W)`` boolean mask of the pixels inside any box.

    Args:
        boxes: For each image ``(N, 4)`` boxes as x0, y0, x1, y1 in pixels, the far edges exclusive.
        size: Height and width.
    """
    rows, columns = torch.arange(size[0])[:, None] + 0.5, torch.arange(size[1]) + 0.5
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for index, image_boxes in enumerate(boxes):
        for x0, y0, x1, y1 in image_boxes.tolist():
            masks[index] |= (rows >= y0) & (rows < y1) & (columns >= x0) & (columns < x1)
    return masks


def wide(tensor: Tensor) -> Tensor:
    """Return the tensor in float64, or in float32 on a device without it (MPS)."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def _mean_positive(heat: Tensor) -> Tensor:
    return heat.relu().mean((1, 2))


def _mean(heat: Tensor) -> Tensor:
    return heat.mean((1, 2))


def _zero(heat: Tensor) -> Tensor:
    return heat.new_zeros(len(heat))


def percentile(heat: Tensor, percent: float) -> Tensor:
    """Return each map's percentile, interpolated linearly between the two nearest values; ``(B, H, W)`` → ``(B,)``."""
    ordered = heat.flatten(1).sort(1).values
    position = percent / 100 * (ordered.shape[1] - 1)
    low = int(position)
    return torch.lerp(ordered[:, low], ordered[:, min(low + 1, ordered.shape[1] - 1)], position - low)


def _median(heat: Tensor) -> Tensor:
    return percentile(heat, 50)


def otsu(heat: Tensor, bins: int = 256) -> Tensor:
    """Return each map's Otsu threshold (1979): maximize the between-class variance over a histogram; ``(B, H, W)`` → ``(B,)``."""
    flat = wide(heat.flatten(1))
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    width = (high - low) / bins
    index = ((flat - low) / width.where(width > 0, 1)).long().clamp(0, bins - 1)
    counts = flat.new_zeros(len(flat), bins).scatter_add_(1, index, torch.ones_like(flat))
    centers = low + (torch.arange(bins, device=flat.device) + 0.5) * width
    below, mass = counts.cumsum(1), (counts * centers).cumsum(1)
    above, mass_above = below[:, -1:] - below, mass[:, -1:] - mass
    variance = below * above * (mass / below.clamp(min=1) - mass_above / above.clamp(min=1)) ** 2
    best = variance[:, :-1].argmax(1, keepdim=True)
    return torch.where(width > 0, centers.gather(1, best), low)[:, 0].to(heat.dtype)


THRESHOLDS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean-positive": _mean_positive,
    "mean": _mean,
    "zero": _zero,
    "median": _median,
    "otsu": otsu,
}


def threshold_of(heat: Tensor, threshold: str) -> Tensor:
    """Return each map's threshold ``(B,)``; a pixel above it counts as object.

    Args:
        heat: ``(B, H, W)`` maps; void pixels count too, since the threshold does not use the mask.
        threshold: ``mean-positive`` (the mean over all pixels of the positive part), ``mean``, ``zero``, ``median``, ``otsu``, or
            ``percentile:Q``.

    Raises:
        OptionError: An unknown threshold, or a percentile outside 0 to 100.
    """
    if threshold in THRESHOLDS:
        return THRESHOLDS[threshold](heat)
    kind, _, number = threshold.partition(":")
    if kind != "percentile":
        known = [*THRESHOLDS, "percentile:Q"]
        raise OptionError(f"There is no threshold {threshold!r}; there are {', '.join(known)}.{suggestion(kind, known)}")
    try:
        percent = float(number)
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise OptionError(f"Threshold {threshold!r} must name a percentile from 0 to 100, such as 'percentile:90'.")
    return percentile(heat, percent)


def dilate(mask: Tensor, pixels: int) -> Tensor:
    """Return the boolean mask dilated by a disk of radius ``pixels``; ``(B, H, W)`` → ``(B, H, W)``."""
    if pixels == 0:
        return mask
    offsets = torch.arange(-pixels, pixels + 1, device=mask.device)
    disk = ((offsets[:, None] ** 2 + offsets**2) <= pixels**2).float()
    grown = F.conv2d(mask[:, None].float(), disk[None, None], padding=pixels)
    return grown[:, 0] > 0.5
