"""Photos from files of any kind, as plain RGB, or one sentence that says why not."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from relprop.errors import InputError
from relprop.files import as_path
from relprop.images.frames import count_frames
from relprop.images.pixels import depth_of, to_rgb
from relprop.images.reader import Source, opened

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn an image upright, by its EXIF flag."""


@dataclass(frozen=True)
class Photo:
    """An opened photo: ``image`` in 8-bit RGB and upright, where it came from, and what was done to get there."""

    image: Image.Image
    path: Path
    notes: tuple[str, ...] = ()


def open_photo(path: str | Path) -> Photo:
    """Open a photo safely: upright by its EXIF flag, first frame of an animation, transparency over white, 8-bit RGB.

    Raises:
        InputError: A missing, unreadable, corrupt, truncated or overly large file, a folder, or a file that is no image.
    """
    path = as_path(path, "The path of a photo")
    return _upright(Source(path, str(path)), path)


def read_photo(content: bytes, name: str, *, most_pixels: int | None = None) -> Photo:
    """Read a photo from the bytes of a file, as :func:`open_photo` does.

    Args:
        content: The bytes.
        name: What messages call it; becomes the photo's path.
        most_pixels: Of a larger photo nothing is decoded.

    Raises:
        InputError: As :func:`open_photo`, or more pixels than ``most_pixels``.
    """
    return _upright(Source(content, name), Path(name), most_pixels)


def _upright(source: Source, path: Path, most_pixels: int | None = None) -> Photo:
    notes: list[str] = []
    with opened(source) as image:
        if most_pixels is not None and image.width * image.height > most_pixels:
            size, most = image.width * image.height / 1e6, most_pixels / 1e6
            raise InputError(
                f"The image {source.name} has {size:.3g} million pixels, and {most:.3g} million are accepted; make it smaller first."
            )
        frames = count_frames(image)
        if frames != "1":
            notes.append(f"{path.name} has {frames} frames; the first one is explained")
        rgb, done = _decoded(image, path.name)
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    del image  # a large photo is not held twice while it is turned
    return Photo(rgb if turn is None else rgb.transpose(turn), path, (*notes, *done))


def check_photo(path: str | Path) -> None:
    """Raise ``InputError`` for what a file's header already tells: missing, a folder, no image, or too large."""
    path = as_path(path, "The path of a photo")
    with opened(Source(path, str(path))):
        pass


def read_rgb(source: Path | bytes, name: str | None = None) -> Image.Image:
    """Return an image in 8-bit RGB, its pixels where they are stored: annotations ignore the EXIF flag.

    Args:
        source: A file, or the bytes of one.
        name: What messages call it; by default its path.

    Raises:
        InputError: As :func:`open_photo`.
    """
    label = name or str(source)
    with opened(Source(source, label)) as image:
        return _decoded(image, label)[0]


def read_stored(source: Path | bytes, name: str | None = None) -> Image.Image:
    """Return an image with its values as they are stored, for masks; arguments and errors are those of :func:`read_rgb`."""
    with opened(Source(source, name or str(source))) as image:
        image.load()
        return image.copy()


def _decoded(image: Image.Image, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    depth = depth_of(image)
    image.load()
    return to_rgb(image, depth, name)
