"""Mosaics of photos that models recognize, in a file that names them: for the grid pointing game, DiFull and DiPart."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from relprop.datasets.each_class import led_by
from relprop.datasets.registry import open_dataset
from relprop.datasets.sample import Annotated, Dataset
from relprop.errors import InputError, OptionError
from relprop.files import as_path, write_text
from relprop.zoo.preprocessing import Preprocessing

CELLS = ("all", "corners", "one")
"""Which cells are explained: all; the first and the last alone, as DiFull and DiPart are scored by their authors; or one, in turn."""


@dataclass(frozen=True)
class Mosaics:
    """A list of mosaics.

    Attributes:
        source: The data set of the photos, ``KIND:PATH``.
        options: Its options.
        grid: Number of cells per side.
        size: Height and width of a cell.
        resize: As that of :class:`relprop.zoo.Preprocessing`: how a photo becomes a cell.
        interpolation: Likewise.
        classes: The names of the models' classes.
        cells: For each mosaic the photos in reading order, each with the class that was recognized, all different.
        models: The models that recognized them.
        confidence: The least probability that they gave.
    """

    source: str
    options: Mapping[str, Any]
    grid: int
    size: tuple[int, int]
    resize: int | tuple[int, int]
    interpolation: str
    classes: tuple[str, ...]
    cells: tuple[tuple[tuple[str, int], ...], ...]
    models: tuple[str, ...] = ()
    confidence: float = 0.0


def write_mosaics(mosaics: Mosaics, path: Path) -> None:
    """Write mosaics as JSON.

    Raises:
        OutputError: The file cannot be written.
    """
    write_text(path, json.dumps(asdict(mosaics), indent=1, default=str, ensure_ascii=False) + "\n")


def read_mosaics(path: Path | str) -> Mosaics:
    """Read a file that :func:`write_mosaics` wrote.

    Raises:
        InputError: The file cannot be read, or is none of mosaics.
    """
    path = as_path(path, "The file of mosaics")
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        cells = tuple(tuple((str(name), int(label)) for name, label in mosaic) for mosaic in found.pop("cells"))
        resize = found.pop("resize")
        mosaics = Mosaics(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()},  # pyright: ignore[reportArgumentType]
            resize=tuple(resize) if isinstance(resize, list) else resize,  # pyright: ignore[reportArgumentType]
            cells=cells,
        )
    except OSError as error:
        raise InputError(f"The mosaics {path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is no file of mosaics, which `relprop mosaics` writes: {error}.") from error
    wrong = next((m for m in cells if len(m) != mosaics.grid**2 or len({label for _, label in m}) != len(m)), None)
    if wrong is not None or not cells:
        raise InputError(f"{path} must list mosaics of {mosaics.grid**2} photos of different classes.")
    return mosaics


def open_mosaic(path: Path | str, *, cells: str = "all") -> Dataset:
    """Open a file of mosaics; a sample is a mosaic and one of its cells, whose class is the first label and whose pixels are its mask.

    Args:
        path: The file, see :func:`read_mosaics`.
        cells: One of ``CELLS``.

    Raises:
        InputError: The file or the data set of its photos cannot be used.
        OptionError: An unknown choice of cells.
    """
    if cells not in CELLS:
        raise OptionError(f"Option cells must be one of {', '.join(CELLS)}, not {cells!r}.")
    mosaics = read_mosaics(path)
    source = open_dataset(mosaics.source, **mosaics.options)
    last = mosaics.grid**2 - 1
    return Dataset(
        name="mosaic",
        classes=mosaics.classes,
        ids=tuple(f"{number:05d}#{cell}" for number in range(len(mosaics.cells)) for cell in _chosen(cells, number, last)),
        read=partial(_read, source, mosaics),
        problems=source.problems,
        grid=mosaics.grid,
    )


def _chosen(cells: str, number: int, last: int) -> Sequence[int]:
    """Return the cells of a mosaic that are explained."""
    return {"all": range(last + 1), "corners": (0, last), "one": (number % (last + 1),)}[cells]


def _read(source: Dataset, mosaics: Mosaics, name: str) -> Annotated:
    number, cell = (int(part) for part in name.split("#"))
    photos = mosaics.cells[number]
    geometry = Preprocessing(mosaics.size, mosaics.resize, mosaics.interpolation)
    image = tiled([geometry.crop(source.read(photo).image) for photo, _ in photos], mosaics.grid)
    numbers = Image.fromarray(cell_numbers(mosaics.size, mosaics.grid))
    labels = tuple(label for _, label in photos)
    whole = Annotated(image, labels, mask=numbers, parts=numbers, cell=cell)
    return led_by(whole, labels[cell])


def tiled(photos: list[Image.Image], grid: int) -> Image.Image:
    """Return one image of ``grid × grid`` photos of one size, in reading order."""
    width, height = photos[0].size
    image = Image.new("RGB", (grid * width, grid * height))
    for place, photo in enumerate(photos):
        image.paste(photo, (place % grid * width, place // grid * height))
    return image


def cell_numbers(size: tuple[int, int], grid: int) -> np.ndarray:
    """Return the number of the cell, from 1 in reading order, of each pixel of a mosaic with cells of ``size``."""
    numbers = np.arange(1, grid**2 + 1, dtype=np.uint8).reshape(grid, grid)
    return numbers.repeat(size[0], 0).repeat(size[1], 1)
