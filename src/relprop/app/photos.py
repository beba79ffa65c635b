"""Photos of the app: uploads as bytes within limits, and samples that come with an installed package. Nothing touches the disk."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec

from PIL import Image

from relprop.errors import InputError, OptionError
from relprop.images import Photo, read_photo

_SAMPLES = {"a cup of coffee": "coffee.png", "a cat": "chelsea.png", "an astronaut": "astronaut.png", "a rocket": "rocket.jpg"}
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Limits:
    """What an upload may have.

    Attributes:
        megabytes: Of the file.
        megapixels: Of the image.

    Raises:
        OptionError: One of them is not above 0.
    """

    megabytes: float = 20.0
    megapixels: float = 40.0

    def __post_init__(self) -> None:
        for value, what in ((self.megabytes, "megabytes"), (self.megapixels, "million pixels")):
            if not 0 < value < float("inf"):
                raise OptionError(f"The limit of {what} must be above 0, not {value:g}.")

    @property
    def bytes(self) -> int:
        """The largest file."""
        return round(self.megabytes * 1e6)


@dataclass(frozen=True)
class Upload:
    """The file of a photo, as it came.

    Attributes:
        name: Its name, without any folder.
        content: Its bytes.
    """

    name: str
    content: bytes

    def photo(self, limits: Limits) -> Photo:
        """Decode it.

        Raises:
            InputError: No image that can be read, or one with too many pixels.
        """
        return read_photo(self.content, self.name, most_pixels=round(limits.megapixels * 1e6))


def received(name: object, data: object, limits: Limits) -> Upload:
    """Return the upload that a browser sent as Base64.

    Raises:
        InputError: It is too large, or no Base64.
    """
    text = data if isinstance(data, str) else ""
    shown = _plain_name(name)
    if len(text) * 3 / 4 > limits.bytes + 3:
        raise InputError(
            f"The file {shown} has {len(text) * 0.75e-6:.3g} MB, and {limits.megabytes:g} MB are accepted; make it smaller first."
        )
    try:
        return Upload(shown, base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise InputError(f"The file {shown} did not arrive whole; drop it again.") from None


def samples() -> Mapping[str, Upload]:
    """Return photos of the installed scikit-image by what they show; none where it is missing."""
    if find_spec("skimage") is None:
        return {}
    folder = files("skimage") / "data"
    found = {title: folder / name for title, name in _SAMPLES.items()}
    return {title: Upload(file.name, file.read_bytes()) for title, file in found.items() if file.is_file()}


def thumbnail(image: Image.Image, longest: int) -> Image.Image:
    """Return a photo with at most ``longest`` pixels on its longer side."""
    small = image.copy() if max(image.size) <= longest else image.reduce(max(1, max(image.size) // (2 * longest)))
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return small


def _plain_name(name: object) -> str:
    """Return the last part of a name, printable and short; it is a label and never opened."""
    last = str(name or "").replace("\\", "/").rpartition("/")[2]
    kept = "".join(mark for mark in last if mark.isprintable()).strip()
    return kept[-_LONGEST_NAME:] or "photo"
