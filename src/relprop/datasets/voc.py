"""Pascal VOC 2007 and 2012 in the official layout."""

from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from relprop.datasets.each_class import check_subset, expanded
from relprop.datasets.sample import VOID, Annotated, Box, Dataset, index_mask, listed, problems_of, read_indices
from relprop.errors import InputError, OptionError
from relprop.files import as_path
from relprop.images import read_rgb

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def open_voc(
    root: Path | str,
    *,
    year: int | None = None,
    split: str = "val",
    task: str = "segmentation",
    single_class: bool = False,
    each_class: bool = False,
    subset: str = "all",
) -> Dataset:
    """Open a Pascal VOC set.

    Args:
        root: The folder ``VOC2012``, the ``VOCdevkit`` that holds it, or the folder above.
        year: 2007 or 2012, if the folder holds both.
        split: A list of ``ImageSets``: ``train``, ``val``, ``trainval``, ``test``.
        task: ``segmentation`` (images with masks) or ``main`` (images with boxes).
        single_class: Keep only the images whose mask shows exactly one class (this reads every mask).
        each_class: One sample for each class in an image, which is then its first label; a class all of whose boxes are marked difficult
            has none. This reads every annotation.
        subset: With ``each_class``, ``all`` samples, or the ``difficult`` ones: see :data:`relprop.datasets.each_class.SUBSETS`.

    Raises:
        InputError: The folder is no VOC set, or has no such split.
        OptionError: An unknown task or subset, or a subset without ``each_class``.
    """
    check_subset(subset, each_class=each_class)
    if task not in {"segmentation", "main"}:
        raise OptionError(f"Option task must be 'segmentation' or 'main', not {task!r}.")
    folder = _find(as_path(root, "The folder of a data set"), year)
    names = _names(folder, split, task)
    images, masks, boxes = (listed(folder / part) for part in ("JPEGImages", "SegmentationClass", "Annotations"))
    needed = {f"{name}.png": name for name in names} if task == "segmentation" else {f"{name}.xml": name for name in names}
    no_image = [name for name in names if f"{name}.jpg" not in images]
    no_truth = [name for file, name in needed.items() if file not in (masks if task == "segmentation" else boxes)]
    gone = {*no_image, *no_truth}
    dataset = Dataset(
        name="voc",
        classes=VOC_CLASSES,
        ids=tuple(name for name in names if name not in gone),
        read=partial(_read, folder, task == "segmentation"),
        problems=problems_of({"image missing in JPEGImages": no_image, "annotation missing": no_truth}),
    )
    dataset = dataset.select(_single) if single_class else dataset
    areas = partial(_mask_areas, folder) if task == "segmentation" else partial(_box_areas, folder)
    return expanded(dataset, areas, subset) if each_class else dataset


def _mask_areas(folder: Path, name: str) -> tuple[dict[int, float], float]:
    """Return the pixels of each class in a mask, and of the image."""
    values = read_indices(folder / "SegmentationClass" / f"{name}.png")
    classes, counts = np.unique(values[(values > 0) & (values < VOID)], return_counts=True)
    return {int(value) - 1: float(count) for value, count in zip(classes, counts, strict=True)}, float(values.size)


def _box_areas(folder: Path, name: str) -> tuple[dict[int, float], float]:
    """Return the summed area of the boxes of each class, without classes all of whose boxes are difficult, and the image's (NaN: not said)."""
    path = folder / "Annotations" / f"{name}.xml"
    boxes, names = read_boxes(path)
    root = ET.parse(path).getroot()  # noqa: S314 - the data set is the user's own file
    easy = {entry.findtext("name") for entry in root.findall("object") if entry.findtext("difficult", "0").strip() != "1"}
    areas: dict[int, float] = {}
    for (x0, y0, x1, y1), label in zip(boxes, names, strict=True):
        if label in easy:
            areas[VOC_CLASSES.index(label)] = areas.get(VOC_CLASSES.index(label), 0.0) + (x1 - x0) * (y1 - y0)
    width, height = (float(root.findtext(f"size/{side}", "nan")) for side in ("width", "height"))
    return areas, width * height


def _single(raw: Annotated) -> bool:
    return len(raw.labels) == 1


def _find(root: Path, year: int | None) -> Path:
    candidates = [folder / sub for folder in (root, root / "VOCdevkit") for sub in (".", "VOC2012", "VOC2007")]
    found = [folder.resolve() for folder in candidates if (folder / "JPEGImages").is_dir() and (folder / "ImageSets").is_dir()]
    fitting = [folder for folder in found if year is None or str(year) in folder.name]
    if not fitting:
        raise InputError(
            f"{root} is no Pascal VOC{year or ''} folder: it needs JPEGImages and ImageSets (in it or in VOC{year or 2012})."
        )
    return fitting[0]


def _names(folder: Path, split: str, task: str) -> list[str]:
    lists = folder / "ImageSets" / task.capitalize()
    path = lists / f"{split}.txt"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in lists.glob("*.txt") if "_" not in file.stem)) or "none"
        raise InputError(f"There is no split {split!r} in {lists}; there are: {there}.")
    return list(dict.fromkeys(line.split()[0] for line in path.read_text().splitlines() if line.strip()))


def _read(folder: Path, with_mask: bool, name: str) -> Annotated:
    image = read_rgb(folder / "JPEGImages" / f"{name}.jpg")
    xml = folder / "Annotations" / f"{name}.xml"
    boxes, names = read_boxes(xml) if xml.is_file() else ((), ())
    box_labels = tuple(VOC_CLASSES.index(name) for name in names)
    if not with_mask:
        return Annotated(image, tuple(dict.fromkeys(box_labels)), boxes, box_labels)
    values = read_indices(folder / "SegmentationClass" / f"{name}.png")
    classes, areas = np.unique(values[(values > 0) & (values < VOID)], return_counts=True)
    labels = tuple(int(value) - 1 for value in classes[np.argsort(-areas, kind="stable")])
    return Annotated(image, labels, boxes, box_labels, index_mask(values, labels, lambda label: label + 1))


def read_boxes(path: Path, *, first_pixel: int = 1) -> tuple[tuple[Box, ...], tuple[str, ...]]:
    """Return the boxes and class names of an annotation file of VOC or ImageNet.

    Args:
        path: The XML file; the far edges in it are inclusive.
        first_pixel: The number of the first pixel, 1 in VOC and 0 in ImageNet.

    Raises:
        InputError: The file is not such an annotation.
    """
    try:
        objects = ET.parse(path).getroot().findall("object")  # noqa: S314 - the data set is the user's own file
        boxes = tuple(_box(entry, first_pixel) for entry in objects)
        return boxes, tuple(_text(entry, "name") for entry in objects)
    except (ET.ParseError, ValueError) as error:
        raise InputError(f"{path.name} is no VOC annotation: {error}.") from error


def _box(entry: ET.Element, first_pixel: int) -> Box:
    x0, y0, x1, y1 = (float(_text(entry, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    return max(x0 - first_pixel, 0.0), max(y0 - first_pixel, 0.0), x1 - first_pixel + 1, y1 - first_pixel + 1


def _text(entry: ET.Element, path: str) -> str:
    text = entry.findtext(path)
    if text is None:
        raise ValueError(f"an object has no {path}")
    return text
