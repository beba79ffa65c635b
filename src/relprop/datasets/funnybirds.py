"""FunnyBirds: rendered birds with maps of their parts, and images from which any of the parts is taken away."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from relprop.datasets.sample import Annotated, Dataset, Facts, problems_of
from relprop.errors import InputError
from relprop.files import as_path
from relprop.images import read_rgb

COLORS = {
    (255, 255, 253): "eye",
    (255, 255, 254): "eye",
    (255, 255, 0): "beak",
    (255, 0, 1): "foot",
    (255, 0, 2): "foot",
    (0, 255, 1): "wing",
    (0, 255, 2): "wing",
    (0, 0, 255): "tail",
}
"""The color of each part in the maps of parts; the two eyes, feet and wings have colors of their own."""
BACKGROUND_COLOR = (204, 204, 204)
"""The color of the first object in the background; the blue of each further one is higher by one."""
BACKGROUND_OBJECTS = 50
"""The most objects in a background that maps of parts tell apart."""
NAMES = (*COLORS.values(), *(f"bg_{number:03d}" for number in range(BACKGROUND_OBJECTS)))
_ALL_COLORS = (*COLORS, *((*BACKGROUND_COLOR[:2], BACKGROUND_COLOR[2] + number) for number in range(BACKGROUND_OBJECTS)))

Parts = Mapping[str, int]
"""The shape of each part of a class."""


def open_funnybirds(root: Path | str, *, split: str = "test") -> Dataset:
    """Open FunnyBirds (Hesse et al., ICCV 2023) as it is distributed; a sample is a bird with its map of parts.

    Args:
        root: The folder ``FunnyBirds``, or the one above it, with ``classes.json``, ``parts.json``, ``dataset_SPLIT.json`` and the folders
            ``SPLIT``, ``SPLIT_part_map`` and ``SPLIT_interventions``.
        split: ``test``; ``train`` has no interventions, so that nothing can be taken away there.

    Raises:
        InputError: A file is missing or has another form.
    """
    root = as_path(root, "The folder of a data set")
    base = next((folder for folder in (root, root / "FunnyBirds") if (folder / "classes.json").is_file()), None)
    if base is None:
        raise InputError(f"{root} is no FunnyBirds folder: it needs classes.json, parts.json and dataset_{split}.json.")
    classes: list[Any] = _json(base / "classes.json")
    birds: list[Any] = _json(base / f"dataset_{split}.json")
    parts = tuple(_json(base / "parts.json"))
    try:
        shapes = {int(entry["class_idx"]): {part: int(entry["parts"][part]) for part in parts} for entry in classes}
        owners = {f"{number:06d}": int(bird["class_idx"]) for number, bird in enumerate(birds)}
        objects = {f"{number:06d}": len(re.findall(r"\d+", str(bird["bg_objects"]))) for number, bird in enumerate(birds)}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{base} is no FunnyBirds folder: an entry of its JSON files lacks {error}.") from error
    there = [name for name, owner in owners.items() if (base / split / str(owner) / f"{name}.png").is_file()]
    missing = sorted(set(owners) - set(there))
    return Dataset(
        name="funnybirds",
        classes=tuple(f"bird {number}" for number in range(len(shapes))),
        ids=tuple(there),
        read=partial(_read, base, split, shapes, owners, objects, parts),
        problems=problems_of({f"image missing in {split}": missing}),
    )


def _json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}.") from error


def _read(
    base: Path,
    split: str,
    shapes: Mapping[int, Parts],
    owners: Mapping[str, int],
    objects: Mapping[str, int],
    parts: tuple[str, ...],
    name: str,
) -> Annotated:
    owner = owners[name]
    image = read_rgb(base / split / str(owner) / f"{name}.png")
    numbers = part_numbers(np.asarray(read_rgb(base / f"{split}_part_map" / str(owner) / f"{name}.png")))
    names = (*COLORS.values(), *NAMES[len(COLORS) : len(COLORS) + objects[name]])
    facts = Facts(
        names=names,
        object_parts=parts,
        sufficient=sufficient_parts(shapes, owner),
        twins=twin_classes(shapes, owner),
        without=partial(_without, base / f"{split}_interventions" / str(owner) / name, parts),
    )
    bird = Image.fromarray(((numbers > 0) & (numbers <= len(COLORS))).astype(np.uint8))
    return Annotated(image, (owner,), mask=bird, parts=Image.fromarray(numbers), facts=facts)


def _without(folder: Path, parts: tuple[str, ...], removed: frozenset[str]) -> Image.Image:
    """Return the bird without some of its parts, or the scene without one object of the background.

    Raises:
        InputError: There is no such image.
    """
    behind = [name for name in removed if name not in parts]
    if len(behind) > 1 or (behind and len(removed) > 1):
        raise InputError(
            f"FunnyBirds has no image without {', '.join(sorted(removed))}: of the background, one object at a time is gone."
        )
    if behind:
        return read_rgb(folder / "background_interventions" / f"{int(behind[0].removeprefix('bg_'))}.png")
    return read_rgb(folder / f"{'_'.join(['body', *sorted(set(parts) - removed)]) if set(parts) - removed else 'body_'}.png")


def part_numbers(colors: np.ndarray) -> np.ndarray:
    """Return the number of the part, its place in ``NAMES`` from 1, at each pixel of a map of parts ``(H, W, 3)``; 0 for none."""
    codes = colors.astype(np.int64) @ np.array([65536, 256, 1])
    numbers = np.zeros(codes.shape, dtype=np.uint8)
    for number, (red, green, blue) in enumerate(_ALL_COLORS, start=1):
        numbers[codes == 65536 * red + 256 * green + blue] = number
    return numbers


def sufficient_parts(shapes: Mapping[int, Parts], own: int) -> tuple[frozenset[str], ...]:
    """Return the minimal sets of parts whose shapes no other class has together."""
    mine, found = shapes[own], list[frozenset[str]]()
    others = [shape for label, shape in shapes.items() if label != own]
    for size in range(1, len(mine) + 1):
        for chosen in map(frozenset, itertools.combinations(mine, size)):
            alone = not any(all(shape[part] == mine[part] for part in chosen) for shape in others)
            if alone and not any(smaller <= chosen for smaller in found):
                found.append(chosen)
    return tuple(found)


def twin_classes(shapes: Mapping[int, Parts], own: int) -> tuple[tuple[int, frozenset[str]], tuple[int, frozenset[str]]] | None:
    """Return the first two classes that differ from a class in all but two parts, and share different ones with it."""
    mine = shapes[own]
    shared = {
        label: frozenset(part for part in mine if shape[part] == mine[part]) for label, shape in shapes.items() if label != own
    }
    near: Sequence[tuple[int, frozenset[str]]] = [(label, parts) for label, parts in shared.items() if len(parts) == 2]
    return next(((one, other) for one, other in itertools.combinations(near, 2) if not one[1] & other[1]), None)
