"""ILSVRC 2012 validation images: in one folder or in class folders, with labels in any of the official forms and boxes as XML."""

import csv
import re
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from relprop.datasets.sample import Annotated, Dataset, listed, problems_of
from relprop.datasets.voc import read_boxes
from relprop.errors import InputError
from relprop.files import as_path
from relprop.images import read_rgb
from relprop.zoo.labels import imagenet_classes

IMAGE_FOLDERS = ("val", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val", "validation", ".")
BOX_FOLDERS = ("bbox/val", "bbox", "ILSVRC/Annotations/CLS-LOC/val", "Annotations/CLS-LOC/val", "Annotations", "val")
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
LABEL_FILES = (
    *("val_labels.csv", "LOC_val_solution.csv", "val_labels.txt", "val.txt"),
    *(f"{folder}{TRUTH}" for folder in ("", "data/", "ILSVRC2012_devkit_t12/data/")),
)
_SUFFIXES = (".jpeg", ".jpg", ".png")


@cache
def synsets() -> MappingProxyType[str, int]:
    """Return the class index, 0 to 999, of each WordNet id of ILSVRC 2012."""
    names = files("relprop.datasets").joinpath("imagenet_synsets.txt").read_text("ascii").split()
    return MappingProxyType({name: index for index, name in enumerate(names)})


def open_imagenet(
    root: Path | str, *, images: Path | str | None = None, labels: Path | str | None = None, boxes: Path | str | None = None
) -> Dataset:
    """Open the validation set of ILSVRC 2012.

    Args:
        root: The folder that holds images, labels and boxes under one of their usual names.
        images: Folder of the images, flat or in folders named by WordNet id.
        labels: CSV (``file,label`` or ``file,wnid``, or Kaggle's ``ImageId,PredictionString``), TXT (``file label`` on each line), or
            the devkit's ground truth with its ``meta.mat`` beside it. Class folders need none.
        boxes: Folder of the XML files of boxes.

    Raises:
        InputError: There are no images or no labels, or a file has none of these forms.
    """
    root = as_path(root, "The folder of a data set")
    folder = as_path(images, "Option images") if images else _first_with_images(root)
    found = _images(folder)
    truth = _labels(as_path(labels, "Option labels") if labels else _find_labels(root), found)
    box_folder = as_path(boxes, "Option boxes") if boxes else _first(root, BOX_FOLDERS, ".xml")
    with_boxes = {} if box_folder is None else {path.stem: path for path in sorted(box_folder.rglob("*.xml"))}
    unlabeled = [name for name in found if name not in truth]
    paths = {name: (path, truth[name], with_boxes.get(name)) for name, path in found.items() if name in truth}
    return Dataset(
        name="imagenet",
        classes=imagenet_classes(),
        ids=tuple(paths),
        read=partial(_read, paths),
        problems=problems_of(
            {"image without label": unlabeled, "labeled image missing": [name for name in truth if name not in found]},
            {"image without box file": [name for name in paths if with_boxes and name not in with_boxes]},
        ),
    )


def _read(paths: dict[str, tuple[Path, int, Path | None]], name: str) -> Annotated:
    path, label, xml = paths[name]
    image = read_rgb(path)
    boxes, wnids = read_boxes(xml, first_pixel=0) if xml else ((), ())
    inside = tuple((x0, y0, min(x1, image.width), min(y1, image.height)) for x0, y0, x1, y1 in boxes)
    return Annotated(image, (label,), inside, tuple(_index(wnid, str(xml)) for wnid in wnids))


def _first(root: Path, folders: tuple[str, ...], suffix: str) -> Path | None:
    return next((root / folder for folder in folders if any((root / folder).glob(f"*{suffix}"))), None)


def _first_with_images(root: Path) -> Path:
    for folder in (root / name for name in IMAGE_FOLDERS):
        names = listed(folder)
        if any(name.lower().endswith(_SUFFIXES) or (name in synsets() and (folder / name).is_dir()) for name in names):
            return folder
    raise InputError(f"{root} holds no ImageNet images: they were looked for in {', '.join(IMAGE_FOLDERS)}.")


def _images(folder: Path) -> dict[str, Path]:
    paths = [path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES]
    for sub in folder.iterdir():
        if sub.name in synsets() and sub.is_dir():
            paths += [path for path in sub.iterdir() if path.suffix.lower() in _SUFFIXES]
    return {path.stem: path for path in sorted(paths, key=lambda path: path.name)}


def _find_labels(root: Path) -> Path | None:
    return next((root / name for name in LABEL_FILES if (root / name).is_file()), None)


def _labels(path: Path | None, images: dict[str, Path]) -> dict[str, int]:
    if path is None:
        truth = {name: synsets()[image.parent.name] for name, image in images.items() if image.parent.name in synsets()}
        if not truth:
            raise InputError(f"The ImageNet images have no labels: put one of {', '.join(LABEL_FILES[:4])}, {TRUTH} beside them.")
        return truth
    if path.suffix == ".mat":
        path = path.parent / TRUTH
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The ImageNet labels {path} cannot be read: {error}.") from error
    if path.suffix == ".csv":
        return _from_csv(text, path)
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if lines and all(len(line) == 1 and line[0].isdigit() for line in lines):
        return _from_devkit([int(line[0]) for line in lines], path)
    return dict(_entry(line[0], line[1] if len(line) > 1 else "", path) for line in lines)


def _from_csv(text: str, path: Path) -> dict[str, int]:
    rows = list(csv.DictReader(text.splitlines()))
    columns = list(rows[0]) if rows else []
    name = next((column for column in ("file", "filename", "image", "ImageId") if column in columns), None)
    label = next((column for column in ("label", "wnid", "PredictionString") if column in columns), None)
    if name is None or label is None:
        raise InputError(
            f"The ImageNet labels {path} need the columns file and label (or wnid), not {', '.join(columns) or 'none'}."
        )
    return dict(_entry(row[name], row[label].split()[0] if row[label].split() else "", path) for row in rows)


def _entry(name: str, label: str, path: Path) -> tuple[str, int]:
    return re.sub(r"\.(JPEG|jpe?g|png)$", "", Path(name).name), _index(label, str(path))


def _index(label: str, where: str) -> int:
    if label in synsets():
        return synsets()[label]
    if label.isdigit() and int(label) < len(synsets()):
        return int(label)
    raise InputError(f"{where} has the label {label!r}; a label is a number from 0 to 999 or a WordNet id of ILSVRC 2012.")


def _from_devkit(numbers: list[int], path: Path) -> dict[str, int]:
    """Map the devkit's class numbers (1 to 1000, in another order) to class indices by its ``meta.mat``."""
    wnids = _devkit_classes(path.parent / "meta.mat")
    unknown = sorted(set(numbers) - set(wnids))
    if unknown:
        raise InputError(f"{path} has the class number {unknown[0]}, which meta.mat beside it does not know.")
    return {f"ILSVRC2012_val_{place:08d}": synsets()[wnids[number]] for place, number in enumerate(numbers, start=1)}


def _devkit_classes(path: Path) -> dict[int, str]:
    if not path.is_file():
        raise InputError(f"The devkit's labels count classes in their own order; {path} is needed to translate them.")
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise InputError("Reading the devkit's meta.mat needs SciPy; install it with `pip install relprop[data]`.") from error
    try:
        entries: Any = loadmat(path, squeeze_me=True)["synsets"]
        pairs = [(int(entry["ILSVRC2012_ID"]), str(entry["WNID"])) for entry in entries.reshape(-1)]
    except Exception as error:  # SciPy raises anything on a damaged file
        raise InputError(f"{path} is no ILSVRC 2012 meta.mat: {error}.") from error
    return {number: wnid for number, wnid in pairs if wnid in synsets()}
