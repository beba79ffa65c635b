"""The checksum of a Parquet file, kept in its own footer, so that any reader of Parquet still reads it.

The footer holds ``relprop-sha256:`` and the hexadecimal digest of the whole file, computed with zeros in the place of the digest.
"""

import hashlib
import struct
from pathlib import Path

_MARK = b"relprop-sha256:"
_DIGITS = 64
KEY, BLANK = "checksum", _MARK.decode() + "0" * _DIGITS
"""What a writer puts into the metadata of the footer, for ``stamp``."""
_CHUNK = 2**20


def stamp(path: Path) -> None:
    """Put the checksum of a file in the place of its blank."""
    place = _place(path)
    if place is not None:
        digest = _digest(path, place)
        with path.open("r+b") as file:
            file.seek(place)
            file.write(digest)


def is_intact(path: Path) -> bool:
    """Return whether a file has a checksum, and it is right."""
    place = _place(path)
    if place is None:
        return False
    with path.open("rb") as file:
        file.seek(place)
        return file.read(_DIGITS) == _digest(path, place)


def _place(path: Path) -> int | None:
    """Return where the digest begins; None without one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        end = file.read()
        length = struct.unpack("<I", end[:4])[0] + 8 if len(end) == 8 else size
        start = max(0, size - length)
        file.seek(start)
        found = file.read().rfind(_MARK)
    return None if found < 0 or start + found + len(_MARK) + _DIGITS > size else start + found + len(_MARK)


def _digest(path: Path, place: int) -> bytes:
    total = hashlib.sha256()
    with path.open("rb") as file:
        left = place
        while left:
            chunk = file.read(min(_CHUNK, left))
            total.update(chunk)
            left -= len(chunk)
        file.seek(place + _DIGITS)
        total.update(b"0" * _DIGITS)
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest().encode()
