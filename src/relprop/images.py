"""Photos from files of any kind, as plain RGB, or one sentence that says why not."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from relprop.errors import InputError
from relprop.files import as_path

# Decoders that run in this process alone; Pillow would hand others (EPS, WMF) to outside programs.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "DIB", "JPEG2000", "PPM", "TGA", "ICO", "PCX", "SGI")


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
    with _opened(path) as image:
        return _decode(image, path)


def check_photo(path: str | Path) -> None:
    """Raise ``InputError`` for what a file's header already tells: missing, a folder, no image, or too large."""
    with _opened(as_path(path, "The path of a photo")):
        pass


@contextmanager
def _opened(path: Path) -> Generator[Image.Image, None, None]:
    _check_file(path)
    Image.init()
    try:
        with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            yield image
    except UnidentifiedImageError:
        raise InputError(f"The file {path} is no image in a known format ({', '.join(FORMATS[:6])}, …).") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise InputError(f"The image {path} has more than {limit} million pixels; make it smaller first.") from None
    except InputError:
        raise
    except PermissionError:
        raise InputError(f"The image {path} cannot be read: permission denied.") from None
    except Exception as error:  # decoders raise almost anything on broken data
        raise InputError(f"The image {path} is corrupt or truncated and cannot be decoded ({_reason(error)}).") from error


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the photos themselves, for example {path}/*.jpg.")
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    if not path.is_file():
        raise InputError(f"{path} is not a regular file.")
    if path.stat().st_size == 0:
        raise InputError(f"The file {path} is empty.")


def _decode(image: Image.Image, path: Path) -> Photo:
    notes: list[str] = []
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1:
        image.seek(0)
        notes.append(f"{path.name} has {frames} frames; the first one is explained")
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        notes.append(f"{path.name} has transparent parts; they are put on white")
    return Photo(_rgb(upright, path), path, tuple(notes))


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bit(np.asarray(image), path)).convert("RGB")
    return image.convert("RGB")


def _eight_bit(values: np.ndarray, path: Path) -> np.ndarray:
    """Scale deep gray values to 0..255: integers by the range of their 16 bits, floats from 0..1."""
    low, high = float(values.min()), float(values.max())
    floating = values.dtype.kind == "f"
    top = 1.0 if floating else 65535.0
    if not (low >= 0 and high <= top):
        raise InputError(f"The image {path} has pixel values from {low:g} to {high:g}; the range 0 to {top:g} was expected.")
    return np.round(values.astype(np.float64) * (255.0 / top)).astype(np.uint8)


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
