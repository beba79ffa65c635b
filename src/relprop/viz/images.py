"""The photos that go with an explanation, as pixels."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from relprop.errors import InputError
from relprop.viz.colors import Bytes
from relprop.viz.drawable import Drawable
from relprop.viz.frame import Framed

Photo = Bytes | Framed | None
"""The part of a photo that the model saw, ``(H, W, 3)``; the whole photo; or nothing."""
Images = Sequence[Image.Image | Bytes | Framed] | Tensor
LONGEST = 1600
"""The longer side in pixels to which figures reduce whole photos."""


def photos_of(
    images: Images | None, explanation: Drawable, count: int, size: tuple[int, ...], longest: int = LONGEST
) -> Sequence[Photo]:
    """Return the photo of each of ``count`` images; by default the explained inputs, where they are images.

    Whole photos are reduced to ``longest`` pixels on their longer side.

    Raises:
        InputError: They are not ``count`` images of ``size``, or whole photos with their windows.
    """
    images = own_images(explanation) if images is None else images
    if images is None:
        return [None] * count
    photos = [_photo(image, longest) for image in images]
    if len(photos) != count or any(not isinstance(photo, Framed) and photo.shape[:2] != size for photo in photos):
        shapes = ", ".join(sorted({_shape(photo) for photo in photos}))
        raise InputError(f"{count} images of {size[0]}×{size[1]} pixels were expected, not {len(photos)} of {shapes}.")
    return photos


def shown_pixels(photo: Bytes | Framed) -> Bytes:
    """Return the pixels ``(H, W, 3)`` of a photo; what the model did not see of a whole one is pale."""
    if not isinstance(photo, Framed):
        return photo
    pixels = photo.pixels
    faded = np.round(0.45 * pixels + 0.55 * 255.0).astype(np.uint8)
    rows, columns = photo.inside
    faded[rows, columns] = pixels[rows, columns]
    return faded


def own_images(explanation: Drawable) -> Tensor | None:
    """Return the explained inputs where they are images of one or three channels."""
    inputs = explanation.inputs
    return inputs if isinstance(inputs, Tensor) and inputs.dim() == 4 and inputs.shape[1] in {1, 3} else None


def _photo(image: Image.Image | Bytes | Framed | Tensor, longest: int) -> Bytes | Framed:
    if isinstance(image, Tensor):
        return _tensor_photo(image)
    if isinstance(image, Framed):
        return image.reduced(longest)
    return np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else image


def _tensor_photo(image: Tensor) -> Bytes:
    values = image.detach().float().cpu().expand(3, -1, -1) if image.shape[0] == 1 else image[:3].detach().float().cpu()
    low, high = values.min(), values.max()
    values = (values - low) / (high - low) if high > low else torch.full_like(values, 0.5)  # of one color, in a scale unknown
    return (values * 255).round().byte().permute(1, 2, 0).numpy()


def _shape(photo: Bytes | Framed) -> str:
    return "a whole photo" if isinstance(photo, Framed) else "×".join(map(str, photo.shape[:2]))
