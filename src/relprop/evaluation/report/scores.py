"""The scores of one method for one model and metric, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from relprop.evaluation.report.statistics import Array
from relprop.evaluation.results.rows import OK

MapArray = Any  # pyarrow has no types
Rows = Any  # a pyarrow table, which has no types


@dataclass(frozen=True)
class Scored:
    """The scores of one method for one model and metric, sorted by image.

    Attributes:
        images: ``(images,)`` names.
        scores: Per score ``(images,)``, NaN where undefined.
        curves: Per curve ``(images, points)``.
        statistics: Per name ``(images, K)`` summable numbers.
        failed: Image and reason of every row that failed.
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


def numbers(column: MapArray) -> dict[str, Array]:
    """Return a column ``map<string, double>`` as one ``(rows,)`` array per name, NaN where a row has no such name."""
    found: dict[str, Array] = {}
    for name, rows, places in _entries(column):
        found[name] = np.full(len(column), np.nan)
        found[name][rows] = _plain(column.items)[places]
    return found


def lists(column: MapArray) -> dict[str, Array]:
    """Return a column ``map<string, list<double>>`` as one ``(rows, longest)`` array per name, padded with NaN."""
    starts, values = column.items.offsets.to_numpy(), _plain(column.items.values)
    found: dict[str, Array] = {}
    for name, rows, places in _entries(column):
        lengths = starts[places + 1] - starts[places]
        steps = np.arange(lengths.max(initial=0))
        there = steps < lengths[:, None]
        found[name] = np.full((len(column), len(steps)), np.nan)
        found[name][rows] = np.where(there, values[np.where(there, starts[places, None] + steps, 0)], np.nan) if len(steps) else 0
    return found


def _entries(column: MapArray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return for each name the rows that have it, and the positions of its entries in the flat column."""
    offsets = column.offsets.to_numpy()
    places = np.arange(offsets[0], offsets[-1])
    rows = np.repeat(np.arange(len(column)), np.diff(offsets))
    encoded = column.keys.dictionary_encode()
    codes = encoded.indices.to_numpy()[places]
    return [(name, rows[codes == code], places[codes == code]) for code, name in enumerate(encoded.dictionary.to_pylist())]


def _plain(values: MapArray) -> Array:
    return values.to_numpy(zero_copy_only=False).astype(np.float64)
