"""Samples, data sets, and the problems of either."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from relprop.errors import InputError
from relprop.images import read_stored

VOID = 255
"""The mask value of void pixels, which count neither as object nor as background."""

Box = tuple[float, float, float, float]


class Geometry(Protocol):
    """The part of a model's preprocessing that a data set uses; ``relprop.zoo.preprocessing.Preprocessing`` implements it."""

    def crop(self, image: Image.Image, *, nearest: bool = False) -> Image.Image:
        """Return the part of the image that the model sees, at its input size; ``nearest=True`` keeps the values of a mask."""
        ...

    def tensor(self, image: Image.Image) -> Tensor:
        """Crop and normalize: the model's ``(C, H, W)`` input."""
        ...


@dataclass(frozen=True)
class Annotated:
    """One image with its annotations as stored on disk.

    Attributes:
        image: RGB.
        labels: The classes in the image, as indices into the data set's ``classes``; the main one first.
        boxes: Corners x0, y0, x1, y1 in pixels, the far edges exclusive.
        box_labels: The class of each box.
        mask: Mode L, the image's size: 0 background, j the pixels of ``labels[j - 1]`` (of the object, if there are no labels),
            255 void.
        parts: Mode L, the image's size: the numbers of regions, from 1, such as the cells of a mosaic or the parts of an object; 0 for none.
        cell: For a mosaic, the cell whose class comes first, in reading order from 0.
        facts: What is known of the parts of an object; None where nothing is.
    """

    image: Image.Image
    labels: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()
    box_labels: tuple[int, ...] = ()
    mask: Image.Image | None = None
    parts: Image.Image | None = None
    cell: int = 0
    facts: "Facts | None" = None


@dataclass(frozen=True)
class Facts:
    """What is known of an image whose object is made of parts that can be taken away.

    Attributes:
        names: The name of each number in the map of parts, from 1; one name may have several numbers, as both wings have.
        object_parts: The names of the object's own parts; others belong to the background.
        sufficient: The minimal sets of parts that tell the class from every other.
        twins: Two other classes, each with the parts that it shares with the image's class, which are not those of the other; None where
            there are none.
        without: Names of parts → the image without them.
    """

    names: tuple[str, ...]
    object_parts: tuple[str, ...]
    sufficient: tuple[frozenset[str], ...]
    twins: tuple[tuple[int, frozenset[str]], tuple[int, frozenset[str]]] | None
    without: Callable[[frozenset[str]], Image.Image]


@dataclass(frozen=True)
class Sample:
    """One preprocessed image: ``image`` ``(C, H, W)``, and in its pixel coordinates ``boxes`` ``(N, 4)``, ``mask`` and ``parts`` ``(H, W)``, uint8.

    ``cell`` and ``facts`` are those of :class:`Annotated`; ``without`` gives the preprocessed ``(C, H, W)`` image without some parts.
    """

    id: str
    image: Tensor
    labels: tuple[int, ...]
    boxes: Tensor
    box_labels: tuple[int, ...]
    mask: Tensor | None
    parts: Tensor | None = None
    cell: int = 0
    facts: Facts | None = None
    without: Callable[[frozenset[str]], Tensor] | None = None

    def object_mask(self, label: int | None = None) -> Tensor:
        """Return the ``(H, W)`` uint8 mask of one class (None: of any class): 1 its pixels, 0 others, 255 void.

        Raises:
            InputError: The sample has no mask.
        """
        if self.mask is None:
            raise InputError(f"Sample {self.id!r} has no segmentation mask.")
        value = None if label is None else self.labels.index(label) + 1 if label in self.labels else -1
        chosen = self.mask.ne(0) if value is None else self.mask.eq(value)
        return torch.where(self.mask == VOID, self.mask, chosen.to(torch.uint8))

    def boxes_of(self, label: int | None = None) -> Tensor:
        """Return the ``(n, 4)`` boxes of one class, or all of them."""
        return self.boxes[[label is None or box_label == label for box_label in self.box_labels]]


@dataclass(frozen=True)
class Failure:
    """A sample that could not be read, with the reason in one sentence."""

    id: str
    reason: str


@dataclass(frozen=True)
class Problem:
    """Missing or inconsistent files of a data set: the problem, their names, and whether they are left out."""

    what: str
    names: tuple[str, ...]
    left_out: bool = True

    def __str__(self) -> str:
        shown = ", ".join(self.names[:5]) + (", …" if len(self.names) > 5 else "")
        return f"{len(self.names)} × {self.what}{' (left out)' if self.left_out else ''}: {shown}"


@dataclass(frozen=True)
class Dataset:
    """A lazy list of annotated images; it can be pickled and sent to workers.

    Attributes:
        name: The kind of data set, such as ``voc``.
        classes: The name of every class; labels are indices into it.
        ids: A unique name for each image, in the order of the official list.
        read: Id → ``Annotated``; raises an error for a file that cannot be read.
        problems: Missing or inconsistent files found when the data set was opened.
        grid: For mosaics, the number of cells per side; 1 for photos.
    """

    name: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    read: Callable[[str], Annotated]
    problems: tuple[Problem, ...] = ()
    grid: int = 1

    def __len__(self) -> int:
        return len(self.ids)

    def samples(self, geometry: Geometry, ids: Iterable[str] | None = None) -> Iterator[Sample | Failure]:
        """Yield the preprocessed samples (of the given ids, else all); one that cannot be read comes as a ``Failure``."""
        for name in self.ids if ids is None else ids:
            yield load(self, name, geometry)

    def select(self, keep: Callable[[Annotated], bool]) -> "Dataset":
        """Return the data set of the images for which ``keep`` holds; reads every image once, and keeps those that cannot be read."""

        def kept(name: str) -> bool:
            try:
                return keep(self.read(name))
            except Exception:
                return True

        return replace(self, ids=tuple(name for name in self.ids if kept(name)))


def load(dataset: Dataset, name: str, geometry: Geometry) -> Sample | Failure:
    """Read and prepare one sample; a damaged file gives a ``Failure``, never an exception."""
    try:
        return prepare(name, dataset.read(name), geometry)
    except MemoryError:
        raise
    except InputError as error:
        return Failure(name, str(error))
    except Exception as error:
        return Failure(name, f"The files of {name} cannot be read: {error or type(error).__name__}.")


def prepare(name: str, raw: Annotated, geometry: Geometry) -> Sample:
    """Apply the same geometry to image, boxes, mask and parts; a box that is cropped away is dropped.

    Raises:
        InputError: The mask or the map of parts has another size than the image.
    """
    for what, regions in (("mask", raw.mask), ("map of parts", raw.parts)):
        if regions is not None and regions.size != raw.image.size:
            raise InputError(f"The {what} of {name} is {_by(regions)} pixels but its image is {_by(raw.image)}.")
    moved = [_move_box(box, raw.image.size, geometry) for box in raw.boxes]
    left = [index for index, box in enumerate(moved) if box is not None]
    return Sample(
        id=name,
        image=geometry.tensor(raw.image),
        labels=raw.labels,
        boxes=torch.tensor([moved[index] for index in left], dtype=torch.float32).reshape(-1, 4),
        box_labels=tuple(raw.box_labels[index] for index in left),
        mask=_move_regions(raw.mask, geometry),
        parts=_move_regions(raw.parts, geometry),
        cell=raw.cell,
        facts=raw.facts,
        without=None if raw.facts is None else partial(_without, raw.facts, geometry),
    )


def _move_regions(regions: Image.Image | None, geometry: Geometry) -> Tensor | None:
    return None if regions is None else torch.from_numpy(np.array(geometry.crop(regions, nearest=True), dtype=np.uint8))


def _without(facts: Facts, geometry: Geometry, parts: frozenset[str]) -> Tensor:
    return geometry.tensor(facts.without(parts))


def _by(image: Image.Image) -> str:
    return f"{image.width} × {image.height}"


def _move_box(box: Box, size: tuple[int, int], geometry: Geometry) -> Box | None:
    """Transform a box by drawing it as a mask, so that boxes and masks stay consistent."""
    canvas = Image.new("L", size)
    x0, y0, x1, y1 = box
    if x1 - x0 >= 1 and y1 - y0 >= 1:
        ImageDraw.Draw(canvas).rectangle((round(x0), round(y0), round(x1) - 1, round(y1) - 1), fill=1)
    bounds = geometry.crop(canvas, nearest=True).getbbox()
    return None if bounds is None else (float(bounds[0]), float(bounds[1]), float(bounds[2]), float(bounds[3]))


def read_indices(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Return the ``(H, W)`` values of a palette or gray PNG mask.

    Raises:
        InputError: The file holds colors instead of class indices.
    """
    image = read_stored(path)
    if image.mode not in {"P", "L", "1"}:
        raise InputError(f"Mask {path.name} has mode {image.mode}; a mask must be a palette or gray image of class indices.")
    return np.array(image, dtype=np.uint8)


def index_mask(values: np.ndarray, labels: Sequence[int], value_of: Callable[[int], int], void: int = VOID) -> Image.Image:
    """Return the mode-L mask whose value j stands for ``labels[j - 1]``, from an array in which ``value_of(label)`` does."""
    mask = np.zeros(values.shape, dtype=np.uint8)
    for place, label in enumerate(labels, start=1):
        mask[values == value_of(label)] = place
    mask[values == void] = VOID
    return Image.fromarray(mask)


def listed(folder: Path) -> frozenset[str]:
    """Return the names in a folder; empty if it does not exist."""
    return frozenset(entry.name for entry in folder.iterdir()) if folder.is_dir() else frozenset()


def problems_of(left_out: dict[str, list[str]], kept: dict[str, list[str]] | None = None) -> tuple[Problem, ...]:
    """Return a ``Problem`` for each kind that has names: first those left out of the data set, then those kept in it."""
    out = (Problem(what, tuple(names)) for what, names in left_out.items() if names)
    stay = (Problem(what, tuple(names), left_out=False) for what, names in (kept or {}).items() if names)
    return (*out, *stay)
