"""COCO: instance masks and boxes, read by pycocotools."""

import contextlib
import io
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from relprop.datasets.each_class import check_subset, expanded
from relprop.datasets.sample import VOID, Annotated, Dataset, listed, problems_of
from relprop.errors import InputError
from relprop.files import as_path
from relprop.images import read_rgb


def open_coco(
    root: Path | str,
    *,
    split: str = "val2017",
    annotations: Path | str | None = None,
    each_class: bool = False,
    subset: str = "all",
) -> Dataset:
    """Open a COCO detection set; labels are the indices, 0 to 79, of its categories in the order of their ids.

    Args:
        root: The folder that holds the image folder ``split`` and ``annotations``.
        split: The image folder's name.
        annotations: The JSON file; by default ``annotations/instances_SPLIT.json``.
        each_class: One sample for each class in an image, which is then its first label.
        subset: With ``each_class``, ``all`` samples, or the ``difficult`` ones: see :data:`relprop.datasets.each_class.SUBSETS`.

    Raises:
        InputError: The files do not exist, or the package pycocotools is not installed.
        OptionError: An unknown subset, or one without ``each_class``.
    """
    check_subset(subset, each_class=each_class)
    root = as_path(root, "The folder of a data set")
    folder = root / split
    path = as_path(annotations, "Option annotations") if annotations else root / "annotations" / f"instances_{split}.json"
    if not folder.is_dir() or not path.is_file():
        raise InputError(f"{root} is no COCO folder: it needs {split} and {path}.")
    api = _api(path)
    files = listed(folder)
    names = {Path(entry["file_name"]).stem: key for key, entry in sorted(api.imgs.items())}
    missing = [name for name, key in names.items() if api.imgs[key]["file_name"] not in files]
    bare = [name for name, key in names.items() if not api.imgToAnns[key] and name not in set(missing)]
    kept = {name: key for name, key in names.items() if name not in {*missing, *bare}}
    dataset = Dataset(
        name="coco",
        classes=tuple(entry["name"] for _, entry in sorted(api.cats.items())),
        ids=tuple(kept),
        read=partial(_read, folder, path, kept),
        problems=problems_of({f"image missing in {split}": missing, "image without annotation": bare}),
    )
    return expanded(dataset, partial(_areas, path, kept), subset) if each_class else dataset


def _areas(path: Path, keys: dict[str, int], name: str) -> tuple[dict[int, float], float]:
    """Return the summed area of the objects of each class, and the image's."""
    api = _api(path)
    categories, image = sorted(api.cats), api.imgs[keys[name]]
    areas: dict[int, float] = {}
    for entry in api.imgToAnns[keys[name]]:
        if not entry.get("iscrowd"):
            label = categories.index(entry["category_id"])
            areas[label] = areas.get(label, 0.0) + entry["area"]
    return areas, float(image["width"] * image["height"])


@cache
def _api(path: Path) -> Any:  # noqa: ANN401 - pycocotools has no types
    """Read the annotations, cached per process; the prints of pycocotools are suppressed."""
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise InputError("Reading COCO needs pycocotools; install it with `pip install relprop[data]`.") from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return COCO(path)
    except (ValueError, KeyError, AssertionError) as error:
        raise InputError(f"{path} is no COCO annotation file: {error}.") from error


def _read(folder: Path, path: Path, keys: dict[str, int], name: str) -> Annotated:
    api = _api(path)
    image = read_rgb(folder / api.imgs[keys[name]]["file_name"])
    categories = sorted(api.cats)
    entries = sorted(api.imgToAnns[keys[name]], key=lambda entry: -entry["area"])
    single = [entry for entry in entries if not entry.get("iscrowd")]
    areas: dict[int, float] = {}
    for entry in single:
        areas[entry["category_id"]] = areas.get(entry["category_id"], 0.0) + entry["area"]
    labels = sorted(areas, key=lambda category: (-areas[category], category))
    mask = np.zeros((image.height, image.width), dtype=np.uint8)
    for entry in [*(entry for entry in entries if entry.get("iscrowd")), *single]:
        value = VOID if entry.get("iscrowd") else labels.index(entry["category_id"]) + 1
        mask[_pixels(api, entry, name, mask.shape)] = value
    return Annotated(
        image=image,
        labels=tuple(categories.index(category) for category in labels),
        boxes=tuple((x, y, x + width, y + height) for x, y, width, height in (entry["bbox"] for entry in single)),
        box_labels=tuple(categories.index(entry["category_id"]) for entry in single),
        mask=Image.fromarray(mask),
    )


def _pixels(api: Any, entry: dict[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:  # noqa: ANN401
    pixels = np.asarray(api.annToMask(entry), dtype=bool)
    if pixels.shape != shape:
        raise InputError(
            f"The masks of {name} are {pixels.shape[1]} × {pixels.shape[0]} pixels but its image is {shape[1]} × {shape[0]}."
        )
    return pixels
