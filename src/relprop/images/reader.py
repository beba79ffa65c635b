"""The one way from bytes to pixels: formats on a list, and a header within bounds before anything is decoded."""

import io
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from relprop.errors import InputError
from relprop.images.pixels import depth_of

# Decoders that run in this process alone; Pillow would hand others (EPS, WMF) to outside programs.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "DIB", "JPEG2000", "PPM", "TGA", "PCX", "SGI")

# Per format: million pixels, and megabytes of the file, that its decoder holds within 1 GiB and about 5 seconds.
_DEFAULT = (89, 1000)
_LIMITS = {"WEBP": (50, 128), "AVIF": (50, 128), "GIF": (50, 1000), "TIFF": (70, 1000), "JPEG2000": (20, 16)}
_INFLATED, _INFLATED_BYTES = frozenset({"PNG", "TIFF"}), 270_000_000
"""Formats whose pixels are unpacked byte by byte, and the bytes that this takes no more than about 5 seconds for."""
_SLOW_PIXELS = 1_000_000
"""Pixels that a decoder written in Python may have to go through."""
_SCANNED_PIXELS = 1_000_000_000
"""Pixels times scans of a progressive JPEG, which goes through all pixels in every scan."""
_HEADER_READS, _ALL_READS = 20_000, 200_000
_TILE_WIDTH, _TILE_LENGTH = 322, 323


@dataclass(frozen=True)
class Source:
    """A file, or the bytes of one, and the name of it in messages."""

    content: Path | bytes
    name: str

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def open(self) -> IO[bytes]:
        """Open for reading."""
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")


class _Counted:
    """A file that counts its reads: a header of millions of parts would keep the parser busy for minutes."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name, self.left = file, name, _HEADER_READS

    def read(self, size: int = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise InputError(f"The image {self._name} is made of so many parts that reading it would take minutes; save it anew.")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a file has
        return getattr(self._file, name)


@contextmanager
def opened(source: Source) -> Generator[Image.Image, None, None]:
    """Open an image whose header is within bounds; what its decoder raises becomes one sentence.

    Raises:
        InputError: Missing, a folder, empty, in no known format, too large, corrupt, or truncated.
    """
    _check_file(source)
    Image.init()
    try:
        with source.open() as file:
            counted = _Counted(file, source.name)
            with _identified(cast("IO[bytes]", counted)) as image:
                _check_header(image, source)
                counted.left = _ALL_READS
                yield image
    except UnidentifiedImageError:
        raise InputError(_unknown(source)) from None
    except Image.DecompressionBombError:  # of a part, such as a tile
        raise InputError(_too_large(source.name, f"parts of more than {_DEFAULT[0]} million pixels, more")) from None
    except (InputError, MemoryError):
        raise
    except PermissionError:
        raise InputError(f"The image {source.name} cannot be read: permission denied.") from None
    except Exception as error:  # decoders raise almost anything on broken data
        raise InputError(f"The image {source.name} is corrupt or truncated and cannot be decoded ({_reason(error)}).") from error


def _identified(file: IO[bytes]) -> Image.Image:
    """Read the header by the first format that fits, as Pillow does, but without its warning about large images: ours are refused.

    Raises:
        UnidentifiedImageError: No format fits.
    """
    prefix = file.read(16)
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        with suppress(SyntaxError, IndexError, TypeError, struct.error):
            if factory is not None and (accept is None or accept(prefix) is True):
                file.seek(0)
                return factory(file, "")
    raise UnidentifiedImageError


def _check_file(source: Source) -> None:
    path = source.content
    if isinstance(path, Path):
        if path.is_dir():
            raise InputError(f"{path} is a folder; give the photos themselves, for example {path}/*.jpg.")
        if not path.exists():
            raise InputError(f"There is no file {path}.")
        if not path.is_file():
            raise InputError(f"{path} is not a regular file.")
    if source.size == 0:
        raise InputError(f"The file {source.name} is empty.")


def _check_header(image: Image.Image, source: Source) -> None:
    kind = image.format or ""
    pixels = image.width * image.height
    most, megabytes = _LIMITS.get(kind, _DEFAULT)
    if max(pixels, _tile_pixels(image)) > most * 10**6:
        raise InputError(_too_large(source.name, f"{pixels / 1e6:.0f} million pixels, more than the {most} million of a {kind}"))
    unpacked = pixels * _bytes_per_pixel(image)
    if kind in _INFLATED and unpacked > _INFLATED_BYTES:
        most_bytes = f"{_INFLATED_BYTES // 10**6} MB of a {kind}"
        raise InputError(_too_large(source.name, f"{unpacked / 1e6:.0f} MB of pixels, more than the {most_bytes}"))
    if source.size > megabytes * 10**6:
        raise InputError(_too_large(source.name, f"{source.size / 1e6:.0f} MB, more than the {megabytes} of a {kind}"))
    if pixels > _SLOW_PIXELS and any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ())):
        raise InputError(f"The image {source.name} is a {kind} of a rare kind, slow to decode at this size; save it as PNG.")
    if image.info.get("progressive") and pixels * _scans(source, _SCANNED_PIXELS // pixels) > _SCANNED_PIXELS:
        raise InputError(f"The JPEG {source.name} has so many scans that decoding it would take minutes; save it anew.")


def _bytes_per_pixel(image: Image.Image) -> int:
    """Return the bytes of a pixel before it is scaled to 8 bits."""
    wide = 4 if image.mode in {"I", "F"} else 2 if depth_of(image).deep else 1
    return len(image.getbands()) * wide


def _tile_pixels(image: Image.Image) -> int:
    tags = getattr(image, "tag_v2", {})
    width, length = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)
    return width * length if isinstance(width, int) and isinstance(length, int) else 0


def _scans(source: Source, enough: int) -> int:
    """Count the scans of a JPEG, no further than ``enough + 1``; its compressed data never holds their marker."""
    count = 0
    with source.open() as file:
        last = b""
        while count <= enough and (block := file.read(1 << 20)):
            count += (last + block).count(b"\xff\xda")
            last = block[-1:]
    return count


def _too_large(name: str, what: str) -> str:
    return f"The image {name} has {what} that are read; make it smaller first."


def _unknown(source: Source) -> str:
    """Say why a file is no image; for a TIFF, of what its pixels are made."""
    with source.open() as file:
        start = file.read(8)
        if start[:4] in {b"II*\0", b"MM\0*"}:
            try:
                return _unknown_tiff(source.name, start, file)
            except Exception:  # noqa: S110 - a damaged header raises almost anything
                pass
    return f"The file {source.name} is no image in a known format ({', '.join(FORMATS[:6])}, …)."


def _unknown_tiff(name: str, start: bytes, file: IO[bytes]) -> str:
    tags = TiffImagePlugin.ImageFileDirectory_v2(start)
    file.seek(tags.next)
    tags.load(file)
    bits, kinds = tags.get(258, (1,)), tags.get(339, (1,))
    what = {1: "integers", 2: "signed integers", 3: "floating-point numbers"}.get(kinds[0], "numbers")
    channels = tags.get(277, 1)
    values = f"{channels} channel{'s' * (channels != 1)} of {'/'.join(map(str, dict.fromkeys(bits)))}-bit {what}"
    return f"The TIFF {name} holds {values}, which cannot be read; save it as RGB or gray with 8 or 16 bits."


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
