"""From the pixels of a file to 8-bit RGB: depth scaled by its meaning, transparency over white, in strips of bounded memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from relprop.errors import InputError

_STRIP_PIXELS = 1 << 21
_BITS_PER_SAMPLE, _PHOTOMETRIC, _LARGEST_SAMPLE = 258, 262, 281
_DEPTHS = (8, 10, 12)
"""Depths of cameras and scanners whose values stand in files of 16 bits as they are."""


@dataclass(frozen=True)
class Depth:
    """What the values of a file mean, read off its header.

    Attributes:
        bits: The bits of a value that are used, where the header says so.
        deep: Whether the file has 16 bits per channel, even where the decoder keeps 8.
        inverted: Whether zero is white.
    """

    bits: int | None = None
    deep: bool = False
    inverted: bool = False


def depth_of(image: Image.Image) -> Depth:
    """Read the depth off an image that is not decoded yet."""
    tiles = getattr(image, "tile", ())
    arguments = tiles[0][3] if tiles else ""
    raw = str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)
    tags = getattr(image, "tag_v2", {})
    bits = max(tags.get(_BITS_PER_SAMPLE, (0,)))
    largest = tags.get(_LARGEST_SAMPLE, 0)
    largest = max(largest) if isinstance(largest, tuple) else largest
    used = min(bits, int(largest).bit_length() or bits)
    return Depth(used if 8 <= used < 16 else None, ";16" in raw, tags.get(_PHOTOMETRIC) == 0)


def to_rgb(image: Image.Image, depth: Depth, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """Return an image in 8-bit RGB, and notes on what was done.

    Raises:
        InputError: The range of the values is unknown, or their colors cannot be converted.
    """
    notes: list[str] = []
    if image.mode.startswith(("I", "F")):
        convert, said = _deep(image, depth, name)
        notes += said
    elif image.has_transparency_data:
        convert = _opaque_or_not(_transparent_color(image, depth))
    else:
        convert = _plain(name)
    rgb, transparent = _in_strips(image, convert)
    if depth.deep and image.mode.startswith("RGB"):
        _refuse_dark(rgb, name)
    if transparent:
        notes.append(f"{name} has transparent parts; they are put on white")
    return rgb, tuple(notes)


Convert = Callable[[Image.Image], tuple[Image.Image, bool]]
"""Strip → the strip in RGB, and whether some of it is transparent."""


def _in_strips(image: Image.Image, convert: Convert) -> tuple[Image.Image, bool]:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image, False
    result, found = Image.new("RGB", image.size), False
    for top, strip in _strips(image):
        colors, transparent = convert(strip)
        result.paste(colors, (0, top))
        found = found or transparent
    return result, found


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _plain(name: str) -> Convert:
    def convert(strip: Image.Image) -> tuple[Image.Image, bool]:
        try:
            return strip.convert("RGB"), False
        except ValueError:
            raise InputError(
                f"The image {name} has {strip.mode} colors, which cannot be read; convert it to RGB first."
            ) from None

    return convert


def _opaque_or_not(color: int | tuple[int, ...] | bytes | None) -> Convert:
    def convert(strip: Image.Image) -> tuple[Image.Image, bool]:
        if color is not None:
            strip.info["transparency"] = color
        rgba = strip.convert("RGBA")
        if int(np.asarray(rgba.getchannel("A")).min()) == 255:
            return rgba.convert("RGB"), False
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"), True

    return convert


def _transparent_color(image: Image.Image, depth: Depth) -> int | tuple[int, ...] | bytes | None:
    """Return the color that a PNG declares transparent, in the 8 bits that its decoder keeps."""
    color = image.info.get("transparency")
    return tuple(value >> 8 for value in color) if depth.deep and isinstance(color, tuple) else color


def _deep(image: Image.Image, depth: Depth, name: str) -> tuple[Convert, list[str]]:
    """Scale gray values of more than 8 bits to 0..255: floats from 0..1, integers by the bits that they use."""
    top, notes = _top(image, depth, name)
    clear = image.info.get("transparency")

    def convert(strip: Image.Image) -> tuple[Image.Image, bool]:
        values = np.asarray(strip)
        scaled = np.round(values.astype(np.float64) * (255.0 / top)).clip(0, 255).astype(np.uint8)
        scaled = 255 - scaled if depth.inverted else scaled
        hidden = values == clear if isinstance(clear, int) else np.zeros(values.shape, dtype=bool)
        return Image.fromarray(np.where(hidden, np.uint8(255), scaled)).convert("RGB"), bool(hidden.any())

    return convert, notes


def _top(image: Image.Image, depth: Depth, name: str) -> tuple[float, list[str]]:
    """Return the value of white, and a note where it is told from the values alone."""
    low, high = _range(np.asarray(strip) for _, strip in _strips(image))
    full = 1.0 if image.mode == "F" else 65535.0
    if not (low >= 0 and high <= full):
        raise InputError(f"The image {name} has pixel values from {low:g} to {high:g}; the range 0 to {full:g} was expected.")
    if image.mode == "F":
        return full, []
    if depth.bits is not None and high < 2**depth.bits:
        return 2.0**depth.bits - 1, []
    used = next((bits for bits in _DEPTHS if 0 < high < 2**bits), None)
    if used is None:
        return full, []
    return 2.0**used - 1, [f"{name} has 16 bits but no value above {high:g}; its values are taken for {used} bits"]


def _range(parts: Iterator[NDArray[np.generic]]) -> tuple[float, float]:
    ends = np.array([(part.min(), part.max()) for part in parts], dtype=np.float64)
    return float(ends[:, 0].min()), float(ends[:, 1].max())


def _refuse_dark(rgb: Image.Image, name: str) -> None:
    """Refuse 12-bit values in colors of 16 bits: the decoder keeps the upper 8 bits, in which they are all but black."""
    high = max(int(high) for _, high in rgb.getextrema())  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
    if 0 < high < 16:
        raise InputError(
            f"The image {name} has 16 bits per channel but no value above 4095, as of 12 bits; scale it to 8 bits first."
        )
