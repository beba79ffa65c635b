"""The heat maps that a run keeps: one file per pair and block, in half precision."""

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from relprop.errors import InputError
from relprop.evaluation.results.parts import DamagedError, write_whole
from relprop.evaluation.results.run_file import read_settings
from relprop.files import make_folder

MAPS = "maps"
_NAMES = ("images", "maps", "scale")


def read_maps(folder: Path | str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (file, image, ``(H, W)`` float32 heat map) of all maps that a run kept; the file's name begins with model and method.

    Raises:
        InputError: The folder holds no evaluation, or one of its files is damaged.
    """
    read_settings(folder)
    for path in map_files(Path(folder)):
        for image, values, largest in zip(*load_maps(path), strict=True):
            yield path.stem, str(image), values.astype(np.float32) * largest


def map_files(folder: Path) -> list[Path]:
    """Return the files of maps of a results folder, sorted."""
    return sorted((folder / MAPS).glob("[!.]*.npz"))


def load_maps(path: Path) -> list[np.ndarray]:
    """Return the names of the images, their maps in half precision and the largest magnitude of each.

    Raises:
        DamagedError: The file is damaged.
        InputError: The file cannot be opened.
    """
    try:
        with np.load(path) as file:
            names, maps, scale = (file[name] for name in _NAMES)
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None and not path.is_dir():
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error
        raise DamagedError(path, error) from error
    if maps.dtype != np.float16 or maps.ndim != 3 or not len(names) == len(maps) == len(scale):
        raise DamagedError(path, "it holds other arrays than maps")
    return [names, maps, scale]


def write_maps(folder: Path, pair: str, block: int, images: Iterable[str], maps: np.ndarray) -> None:
    """Store the ``(N, H, W)`` heat maps of a block in float16, each divided by its largest magnitude; maps of other images stay.

    Raises:
        InputError: The stored maps are damaged.
        OutputError: The disk is full, or the folder cannot be written to.
    """
    scale = np.abs(maps).max((1, 2)).astype(np.float64)
    normal = (maps / np.where(scale > 0, scale, 1)[:, None, None]).astype(np.float16)
    stored = [np.array(list(images)), normal, scale]
    path = folder / MAPS / f"{pair}-{block:06d}.npz"
    if path.exists():
        there = load_maps(path)
        others = ~np.isin(there[0], stored[0])
        stored = [np.concatenate([new, old[others]]) for new, old in zip(stored, there, strict=True)]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(zip(_NAMES, stored, strict=True)))
    make_folder(folder / MAPS)
    write_whole(path, buffer.getvalue())
