"""What a run keeps for pictures: heat maps in half precision, the photos as the model saw them, and its answers; a file per pair and block."""

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from relprop.errors import InputError
from relprop.evaluation.results.parts import DamagedError, write_whole
from relprop.evaluation.results.run_file import read_settings
from relprop.files import make_folder

MAPS = "maps"
UNKNOWN = -1
"""The number of a class that is not known."""
_BYTES = np.dtype(object)
_SIZES, _DATA = "photo_sizes", "photo_data"
"""Photos are stored as their lengths and all their bytes one after the other: arrays of Python objects would be pickles."""


@dataclass(frozen=True)
class Kept:
    """What a run keeps of ``N`` explained images.

    Attributes:
        images: Their names, ``(N,)``.
        maps: Their heat maps, ``(N, H, W)``; stored in float16, each divided by its largest magnitude.
        photos: The part of each that the model saw, as JPEG files, ``(N,)`` bytes objects.
        target: The explained class, ``(N,)``; ``UNKNOWN`` for targets that name none.
        probability: Its probability, ``(N,)``; NaN where more than a class is explained.
        predicted: The predicted class, ``(N,)``; ``UNKNOWN`` where the output does not hold the logits of classes.
        label: The true class where the data set's classes are the model's, else ``UNKNOWN``, ``(N,)``; of several labels the predicted one
            if it is among them, else the first.
        names: What the explained, the predicted and the true class are called, ``(N, 3)``; first what is explained in words, where that is
            more than a class.
    """

    images: NDArray[np.str_]
    maps: NDArray[np.floating]
    photos: NDArray[Any]
    target: NDArray[np.int64]
    probability: NDArray[np.float64]
    predicted: NDArray[np.int64]
    label: NDArray[np.int64]
    names: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.images)

    def merged(self, other: "Kept") -> Self:
        """Return these and those of the other's images that are not among them."""
        rest = ~np.isin(other.images, self.images)
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)[rest]) for field in fields(self)}
        return replace(self, **{name: np.concatenate(both) for name, both in pairs.items()})


def read_maps(folder: Path | str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (file, image, ``(H, W)`` float32 heat map) of all maps that a run kept; the file's name begins with model and method.

    Raises:
        InputError: The folder holds no evaluation, or one of its files is damaged.
    """
    read_settings(folder)
    for path in map_files(Path(folder)):
        kept = load_kept(path)
        for image, values in zip(kept.images, kept.maps, strict=True):
            yield path.stem, str(image), values


def map_files(folder: Path, pair: str = "") -> list[Path]:
    """Return the files of maps of a results folder, of all pairs or one, sorted."""
    every = sorted((folder / MAPS).glob("[!.]*.npz"))
    return [path for path in every if path.stem.rpartition("-")[0] == pair] if pair else every


def load_kept(path: Path) -> Kept:
    """Return what a file holds, with maps in float32.

    Raises:
        DamagedError: The file is damaged.
        InputError: The file cannot be opened.
    """
    stored = _stored(path, (*_NAMES, "scale", _SIZES, _DATA))
    try:
        return _unpacked(stored)
    except ValueError as error:
        raise DamagedError(path, error) from error


def kept_images(path: Path) -> list[str]:
    """Return the names of the images whose maps a file holds.

    Raises:
        DamagedError: The file is damaged.
        InputError: The file cannot be opened.
    """
    return _stored(path, ("images",))["images"].tolist()


def _stored(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None and not path.is_dir():
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error
        raise DamagedError(path, error) from error


def write_kept(folder: Path, pair: str, block: int, kept: Kept) -> None:
    """Store what is kept of a block; what the file holds of other images stays.

    Raises:
        InputError: The stored file is damaged.
        OutputError: The disk is full, or the folder cannot be written to.
    """
    path = folder / MAPS / f"{pair}-{block:06d}.npz"
    whole = kept.merged(load_kept(path)) if path.exists() else kept
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **_packed(whole))
    make_folder(folder / MAPS)
    write_whole(path, buffer.getvalue())


_NAMES = tuple(field.name for field in fields(Kept) if field.name != "photos")


def _packed(kept: Kept) -> dict[str, np.ndarray]:
    scale = np.abs(kept.maps).max((1, 2)).astype(np.float64)
    normal = (kept.maps / np.where(scale > 0, scale, 1)[:, None, None]).astype(np.float16)
    data = np.frombuffer(b"".join(kept.photos), dtype=np.uint8)
    sizes = np.array([len(photo) for photo in kept.photos], dtype=np.int64)
    plain = {name: getattr(kept, name) for name in _NAMES}
    return {**plain, "maps": normal, "scale": scale, _SIZES: sizes, _DATA: data}


def _unpacked(stored: dict[str, np.ndarray]) -> Kept:
    maps, scale, sizes, data = (stored[name] for name in ("maps", "scale", _SIZES, _DATA))
    lengths = {len(stored[name]) for name in (*_NAMES, "scale", _SIZES)}
    if maps.dtype != np.float16 or maps.ndim != 3 or stored["names"].shape[1:] != (3,) or len(lengths) != 1:
        raise ValueError("it holds other arrays than maps")
    photos = np.empty(len(sizes), dtype=_BYTES)
    photos[:] = [part.tobytes() for part in np.split(data, np.cumsum(sizes)[:-1])] if len(sizes) else []
    values = maps.astype(np.float32) * scale[:, None, None]
    arrays: dict[str, Any] = {name: stored[name] for name in _NAMES}
    arrays |= {"maps": values.astype(np.float32), "photos": photos}
    return Kept(**arrays)
