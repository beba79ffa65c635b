"""Any folder of images, with optional class folders, mask PNGs and a JSON file of boxes."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from relprop.datasets.sample import VOID, Annotated, Box, Dataset, Problem, index_mask, problems_of, read_indices
from relprop.errors import InputError
from relprop.files import as_path
from relprop.images import open_photo

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def open_folder(
    images: Path | str,
    *,
    masks: Path | str | None = None,
    boxes: Path | str | None = None,
    classes: tuple[str, ...] | None = None,
    object_value: int | None = None,
) -> Dataset:
    """Open a folder of images; the name of a subfolder is the class of its images.

    Args:
        images: The folder.
        masks: Folder of palette or gray PNGs under the images' names (and subfolders): 0 background, 255 void, other values
            object.
        boxes: JSON ``{"sub/name.jpg": [{"box": [x0, y0, x1, y1], "label": "dog"}, …]}``, in pixels, the far edges exclusive;
            ``label`` may be left out.
        classes: The class names in the order of the model's classes; by default all names found, sorted.
        object_value: The mask value of the object, such as 255 in black-and-white masks, which then have no void.

    Raises:
        InputError: There are no images, the JSON file has another form, a class is not in ``classes``, or black-and-white masks are
            given without ``object_value``.
    """
    folder = as_path(images, "The folder of images")
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of images.")
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES}
    if not names:
        raise InputError(f"{folder} holds no images ({', '.join(SUFFIXES)}).")
    boxed = {} if boxes is None else _read_boxes(as_path(boxes, "Option boxes"))
    known = classes or tuple(sorted({*_folders(names), *(label for entries in boxed.values() for _, label in entries if label)}))
    _check_classes(known, names, boxed)
    mask_of = {} if masks is None else {name: as_path(masks, "Option masks") / Path(name).with_suffix(".png") for name in names}
    no_mask = [name for name, path in mask_of.items() if not path.is_file()]
    present = {name: path for name, path in mask_of.items() if name not in set(no_mask)}
    if object_value is None:
        _refuse_black_and_white(present)
    return Dataset(
        name="folder",
        classes=known,
        ids=tuple(name for name in names if name not in set(no_mask)),
        read=partial(_read, folder, known, present, boxed, object_value),
        problems=(*problems_of({"mask missing": no_mask}), *_extra(boxed, names)),
    )


def _folders(names: dict[str, Path]) -> set[str]:
    return {Path(name).parent.name for name in names if Path(name).parent.name}


def _check_classes(known: tuple[str, ...], names: dict[str, Path], boxed: dict[str, list[tuple[Box, str]]]) -> None:
    labels = {label for entries in boxed.values() for _, label in entries if label}
    unknown = sorted((_folders(names) | labels) - set(known))
    if unknown:
        raise InputError(f"The class {unknown[0]!r} of an image or box is not among the given classes.")


def _refuse_black_and_white(masks: dict[str, Path]) -> None:
    for path in list(masks.values())[:1]:
        if set(np.unique(read_indices(path)).tolist()) == {0, VOID}:
            raise InputError(f"The mask {path} has only 0 and 255, which means void; pass object_value=255 if it is the object.")


def _extra(boxed: dict[str, list[tuple[Box, str]]], names: dict[str, Path]) -> tuple[Problem, ...]:
    extra, bare = [name for name in boxed if name not in names], [name for name in names if boxed and name not in boxed]
    return (*problems_of({"image of a box missing": extra}), *problems_of({}, {"image without box": bare}))


def _read_boxes(path: Path) -> dict[str, list[tuple[Box, str]]]:
    try:
        entries: Any = json.loads(path.read_text("utf-8"))
        return {str(name): [_box(entry) for entry in found] for name, found in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f'{path} must hold {{"name.jpg": [{{"box": [x0, y0, x1, y1]}}]}}: {error}.') from error


def _box(entry: Any) -> tuple[Box, str]:  # noqa: ANN401 - read from JSON
    x0, y0, x1, y1 = (float(value) for value in entry["box"])
    return (x0, y0, x1, y1), str(entry.get("label", ""))


def _read(
    folder: Path,
    classes: tuple[str, ...],
    masks: dict[str, Path],
    boxed: dict[str, list[tuple[Box, str]]],
    value: int | None,
    name: str,
) -> Annotated:
    image = open_photo(folder / name).image
    own = classes.index(Path(name).parent.name) if Path(name).parent.name else None
    boxes = boxed.get(name, [])
    box_labels = tuple(classes.index(label) if label else own if own is not None else -1 for _, label in boxes)
    labels = tuple(dict.fromkeys(label for label in (own, *box_labels) if label is not None and label >= 0))
    mask = _mask(masks[name], value) if name in masks else None
    return Annotated(image, labels, tuple(box for box, _ in boxes), box_labels, mask)


def _mask(path: Path, value: int | None) -> Image.Image:
    values = read_indices(path)
    if value is not None:
        return Image.fromarray((values == value).astype(np.uint8))
    return index_mask(((values > 0) & (values < VOID)) + np.where(values == VOID, VOID, 0), (0,), lambda _: 1)
