"""What one method scored on the images of one model and metric, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from relprop.evaluation.columns import MapArray, lists, numbers
from relprop.evaluation.rows import OK
from relprop.evaluation.statistics import Array

Rows = Any  # a pyarrow table, which has no types


@dataclass(frozen=True)
class Scored:
    """What one method scored on the images of one model and metric, sorted by image.

    Attributes:
        images: `(images,)` names.
        scores: per score `(images,)`, NaN where undefined.
        curves: per curve `(images, points)`.
        statistics: per name `(images, K)`, what adds up over images.
        failed: image and reason of every row that failed.
    """

    images: np.ndarray
    scores: Mapping[str, Array]
    curves: Mapping[str, Array]
    statistics: Mapping[str, Array]
    failed: tuple[tuple[str, str], ...]


def scored(table: Rows) -> Scored:
    """Return the rows of one model, metric and method as arrays."""
    good = table.filter(pc.field("status") == OK).combine_chunks()
    bad = table.filter(pc.field("status") != OK)
    images = np.array(good["image"].to_pylist(), dtype=np.str_)
    order = np.argsort(images, kind="stable")
    failed = zip(bad["image"].to_pylist(), [reason or "no reason given" for reason in bad["reason"].to_pylist()], strict=True)
    return Scored(
        images[order],
        {name: values[order] for name, values in numbers(_chunk(good, "scores")).items()},
        {name: values[order] for name, values in lists(_chunk(good, "curves")).items()},
        {name: values[order] for name, values in lists(_chunk(good, "statistics")).items()},
        tuple(sorted(failed)),
    )


def _chunk(table: Rows, name: str) -> MapArray:
    column = table[name]
    return column.chunk(0) if column.num_chunks else pa.array([], type=column.type)
