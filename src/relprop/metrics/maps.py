"""Heat maps, object masks and thresholds, shared by the localization metrics."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from relprop.errors import InputError, OptionError, suggestion

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
"""By the number of dimensions of positions."""

VOID = 255
"""The mask value of void pixels, which count neither as object nor as background."""


_POSITIONS = {1: "T", 2: "H, W", 3: "D, H, W"}


def heatmap(relevance: Tensor, positions: int = 2) -> Tensor:
    """Return the ``(B, H, W)`` heat map: ``(B, C, H, W)`` summed over channels, ``(B, H, W)`` unchanged.

    Args:
        relevance: Of images; or of signals ``(B, C, T)`` or volumes ``(B, C, D, H, W)``, with or without channels.
        positions: Dimensions behind the channels: 1 for signals, 2 for images, 3 for volumes and videos.

    Raises:
        InputError: Another number of dimensions, or NaN or infinite relevance.
    """
    sizes = _POSITIONS.get(positions)
    if sizes is None:
        raise InputError(
            "This metric judges maps of signals, images and volumes, which have one to three dimensions of positions."
        )
    if relevance.ndim - positions not in {1, 2}:
        raise InputError(f"Relevance must have shape (B, {sizes}) or (B, C, {sizes}), not {tuple(relevance.shape)}.")
    if not relevance.isfinite().all():
        raise InputError("The relevance has NaN or infinite values; the metric would be meaningless.")
    return relevance.sum(1) if relevance.ndim - positions == 2 else relevance


def total(maps: Tensor) -> Tensor:
    """Sum maps ``(B, …)`` over their positions, ``(B,)``."""
    return maps.flatten(1).sum(1)


def object_and_valid(heat: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return boolean maps, shaped like the heat map, of the object (mask neither 0 nor 255) and of all pixels that are not void (255).

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
    return heat.relu().flatten(1).mean(1)


def _mean(heat: Tensor) -> Tensor:
    return heat.flatten(1).mean(1)


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
    """Return the boolean mask ``(B, …)`` dilated by a disk, or a ball, of radius ``pixels``."""
    if pixels == 0:
        return mask
    squares = torch.arange(-pixels, pixels + 1, device=mask.device) ** 2
    distance = torch.stack(torch.meshgrid(*[squares] * (mask.dim() - 1), indexing="ij")).sum(0)
    grown = CONVOLUTIONS[mask.dim() - 1](mask[:, None].float(), (distance <= pixels**2).float()[None, None], padding=pixels)
    return grown[:, 0] > 0.5
