"""The figure of one explanation."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from relprop.errors import InputError
from relprop.text import check_labels, class_name
from relprop.viz.colors import Bytes
from relprop.viz.drawable import Drawable
from relprop.viz.figure import Panel, draw, top_scores

Images = Sequence[Image.Image | Bytes] | Tensor


def plot_explanation(
    explanation: Drawable,
    images: Images | None = None,
    labels: Sequence[str] | None = None,
    *,
    title: str = "",
    percentile: float = 99.5,
) -> Figure:
    """Draw every map of an explanation, one row each.

    Args:
        explanation: Of ``B`` images, with one or ``K`` maps each.
        images: The ``B`` cropped photos: PIL images, arrays ``(H, W, 3)`` of bytes, or a tensor ``(B, C, H, W)``, which is
            shown between each image's own minimum and maximum. Left out, the explained inputs themselves are shown so.
        labels: Class names; synonyms after a comma are not shown.
        title: Stands above.
        percentile: Percentile of the absolute relevance at which the colors saturate.

    Raises:
        InputError: Maps are no pictures, or the images do not fit them.
    """
    maps = maps_of(explanation)
    photos = pixels_of(own_images(explanation) if images is None else images, len(maps), tuple(maps.shape[-2:]))
    panels = [
        _panel(explanation, image, index, maps[image, index].numpy(), photos[image], labels)
        for image in range(maps.shape[0])
        for index in range(maps.shape[1])
    ]
    return draw(panels, title=title, percentile=percentile)


def maps_of(explanation: Drawable) -> Tensor:
    """Return the heat maps ``(B, K, H, W)`` on the CPU.

    Raises:
        InputError: They are no pictures, or hold NaN or infinite values.
    """
    maps = explanation.heatmap().detach().float().cpu()
    if maps.dim() != 2 + explanation.absorbed.dim():
        raise InputError(f"Only explanations of images can be drawn; these maps have shape {tuple(maps.shape)}.")
    if not bool(maps.isfinite().all()):
        raise InputError(f"The maps of method {explanation.method!r} hold NaN or infinite values and cannot be drawn.")
    return maps.unsqueeze(1) if maps.dim() == 3 else maps


def _panel(
    explanation: Drawable, image: int, index: int, heatmap: np.ndarray, photo: Bytes | None, labels: Sequence[str] | None
) -> Panel:
    logits = explanation.logits[image].detach().float().cpu()
    if explanation.target is None or logits.dim() != 1:
        return Panel(heatmap, photo)
    check_labels(labels, len(logits))
    target = int(explanation.target.reshape(len(explanation.logits), -1)[image, index])
    names = [class_name(number, labels) for number in range(len(logits))]
    shown = explanation.probabilities[image].detach().float().cpu().tolist()
    title = f"{names[target]}  ·  " * (labels is not None) + f"class {target}  ·  logit {logits[target]:.2f}"
    return Panel(heatmap, photo, title, top_scores(shown, names, target))


def own_images(explanation: Drawable) -> Tensor | None:
    """Return the explained inputs where they are images of one or three channels."""
    inputs = explanation.inputs
    return inputs if isinstance(inputs, Tensor) and inputs.dim() == 4 and inputs.shape[1] in {1, 3} else None


def pixels_of(images: Images | None, count: int, size: tuple[int, ...]) -> Sequence[Bytes | None]:
    """Return the pixels ``(H, W, 3)`` of each image, None for each where there are no images.

    Raises:
        InputError: They are not ``count`` images of ``size``.
    """
    if images is None:
        return [None] * count
    photos = [_tensor_photo(image) if isinstance(image, Tensor) else _photo(image) for image in images]
    if len(photos) != count or any(photo.shape[:2] != size for photo in photos):
        shapes = ", ".join(sorted({"×".join(map(str, photo.shape[:2])) for photo in photos}))
        raise InputError(f"{count} images of {size[0]}×{size[1]} pixels were expected, not {len(photos)} of {shapes}.")
    return photos


def _photo(image: Image.Image | Bytes) -> Bytes:
    return np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else image


def _tensor_photo(image: Tensor) -> Bytes:
    values = image.detach().float().cpu().expand(3, -1, -1) if image.shape[0] == 1 else image[:3].detach().float().cpu()
    low, high = values.min(), values.max()
    values = (values - low) / (high - low) if high > low else torch.full_like(values, 0.5)  # of one color, in a scale unknown
    return (values * 255).round().byte().permute(1, 2, 0).numpy()
