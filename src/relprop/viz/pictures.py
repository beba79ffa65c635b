"""One map over its photo as a PIL image, in the resolution of the photo."""

from typing import Unpack

from PIL import Image

from relprop.errors import InputError
from relprop.viz.colors import Bytes
from relprop.viz.drawable import Drawable, maps_of
from relprop.viz.frame import Framed
from relprop.viz.images import photos_of
from relprop.viz.look import Look, LookOptions
from relprop.viz.views import View

_ANY_SIZE = 1_000_000


def overlay_image(
    explanation: Drawable,
    photo: Image.Image | Bytes | Framed | None = None,
    *,
    image: int = 0,
    index: int = 0,
    **look: Unpack[LookOptions],
) -> Image.Image:
    """Return a map over its grayed photo, pixel by pixel, without any title or legend.

    Args:
        explanation: Of ``B`` images, with one or ``K`` maps each.
        photo: The cropped photo; or the whole one, see :class:`Framed`, whose own resolution the picture then has. Left out, the
            explained input itself.
        image: Which of the images.
        index: Which of its maps.
        **look: Fields of :class:`Look`.

    Raises:
        InputError: Maps are no pictures, there is no such map, or no photo to lay it over.
        OptionError: A value of the look is out of its range.
    """
    maps = maps_of(explanation)
    if not (0 <= image < maps.shape[0] and 0 <= index < maps.shape[1]):
        raise InputError(
            f"There is no map {index} of image {image}; there are {maps.shape[0]} images with {maps.shape[1]} maps each."
        )
    size = tuple(maps.shape[-2:])
    own = photo is None
    photos = photos_of(None, explanation, len(maps), size) if own else photos_of([photo], explanation, 1, size, _ANY_SIZE)
    shown = photos[image if own else 0]
    if shown is None:
        raise InputError("The explained inputs are no images of one or three channels; give the photo.")
    return Image.fromarray(View(maps[image, index].numpy(), shown, Look(**look)).overlaid())
