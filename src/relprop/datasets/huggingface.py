"""Hugging Face data sets with an image column, and optionally labels, masks and boxes."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from relprop.datasets.sample import VOID, Annotated, Box, Dataset, index_mask
from relprop.errors import InputError, OptionError
from relprop.images import read_rgb, read_stored

BOX_FORMATS = ("xywh", "xyxy")


def open_huggingface(
    source: Any,  # noqa: ANN401 - a datasets.Dataset, which is an optional library's
    *,
    split: str = "validation",
    image: str = "image",
    label: str | None = "label",
    mask: str | None = None,
    objects: str | None = None,
    box_format: str = "xywh",
) -> Dataset:
    """Open a data set of the ``datasets`` library.

    Args:
        source: A ``datasets.Dataset``, a folder that ``save_to_disk`` wrote, or a name for ``load_dataset``.
        split: The split, if the source has several.
        image: The column of images.
        label: The column of class indices (or lists of them), if there is one.
        mask: The column of mask images, if there is one: 0 background, 255 void; j the class j − 1 for an image with several labels,
            else any value the object.
        objects: The column of objects, with ``bbox`` and ``category``, if there is one.
        box_format: ``xywh`` (COCO) or ``xyxy``.

    Raises:
        InputError: The data set or a column does not exist, or the library is not installed.
        OptionError: An unknown box format.
    """
    if box_format not in BOX_FORMATS:
        raise OptionError(f"Option box_format must be one of {', '.join(BOX_FORMATS)}, not {box_format!r}.")
    table = _load(source, split) if isinstance(source, str | Path) else source
    for column in (image, mask, objects):
        if column is not None and column not in table.column_names:
            raise InputError(f"The data set has no column {column!r}; it has {', '.join(table.column_names)}.")
    for column in (image, mask):
        if column is not None:
            table = _undecoded(table, column)
    label = label if label in table.column_names else None
    return Dataset(
        name="huggingface",
        classes=_class_names(table, label),
        ids=tuple(f"{row:08d}" for row in range(len(table))),
        read=partial(_read, table, _Columns(image, label, mask, objects, box_format)),
    )


def _load(source: str | Path, split: str) -> Any:  # noqa: ANN401
    try:
        import datasets
    except ImportError as error:
        raise InputError("Reading Hugging Face data sets needs the datasets library; `pip install relprop[data]`.") from error
    try:
        loaded: Any = datasets.load_from_disk(str(source)) if Path(source).is_dir() else datasets.load_dataset(str(source))  # pyright: ignore[reportAttributeAccessIssue]
    except Exception as error:  # the library raises many kinds, among them those of the network
        raise InputError(f"The Hugging Face data set {source} cannot be loaded: {error}.") from error
    if not isinstance(loaded, datasets.DatasetDict):  # pyright: ignore[reportAttributeAccessIssue]
        return loaded
    if split not in loaded:
        raise InputError(f"The data set {source} has no split {split!r}; it has {', '.join(map(str, loaded))}.")
    return loaded[split]


def _undecoded(table: Any, column: str) -> Any:  # noqa: ANN401
    """Return the table whose images come as the bytes of their files, which the library would open in any format."""
    import datasets

    feature = table.features[column]
    if not isinstance(feature, datasets.Image):  # pyright: ignore[reportAttributeAccessIssue]
        raise InputError(f"The column {column!r} of the data set holds no images.")
    return table.cast_column(column, datasets.Image(decode=False))  # pyright: ignore[reportAttributeAccessIssue]


def _class_names(table: Any, label: str | None) -> tuple[str, ...]:  # noqa: ANN401
    feature = table.features[label] if label is not None else None
    feature = getattr(feature, "feature", feature)
    return tuple(getattr(feature, "names", None) or ())


@dataclass(frozen=True)
class _Columns:
    image: str
    label: str | None
    mask: str | None
    objects: str | None
    box_format: str


def _read(table: Any, columns: _Columns, name: str) -> Annotated:  # noqa: ANN401
    row = table[int(name)]
    own = row[columns.label] if columns.label is not None else []
    found = row[columns.objects] if columns.objects is not None else {"bbox": [], "category": []}
    box_labels = tuple(int(category) for category in found.get("category", [-1] * len(found["bbox"])))
    labels = tuple(dict.fromkeys([*(own if isinstance(own, list) else [own]), *(value for value in box_labels if value >= 0)]))
    return Annotated(
        image=read_rgb(*_stored(row[columns.image], name)),
        labels=labels,
        boxes=tuple(_box(box, columns.box_format) for box in found["bbox"]),
        box_labels=box_labels,
        mask=None if columns.mask is None else _mask(read_stored(*_stored(row[columns.mask], name)), labels),
    )


def _stored(cell: Any, name: str) -> tuple[Path | bytes, str]:  # noqa: ANN401
    """Return the bytes or the path of an image, and what messages call it."""
    if cell is None:
        raise InputError(f"Row {name} of the data set has no image.")
    return (Path(cell["path"]), str(cell["path"])) if cell["bytes"] is None else (cell["bytes"], f"of row {name}")


def _box(box: Any, box_format: str) -> Box:  # noqa: ANN401
    x, y, right, low = (float(value) for value in box)
    return (x, y, x + right, y + low) if box_format == "xywh" else (x, y, right, low)


def _mask(image: Image.Image, labels: tuple[int, ...]) -> Image.Image:
    values = np.asarray(image if image.mode in {"L", "P"} else image.convert("L"))
    if len(labels) > 1:
        return index_mask(values, labels, lambda label: label + 1)
    return index_mask(((values > 0) & (values < VOID)) + np.where(values == VOID, VOID, 0), (0,), lambda _: 1)
