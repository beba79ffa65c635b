"""The map columns of results as NumPy arrays, one per name."""

from typing import Any

import numpy as np

from relprop.evaluation.statistics import Array

MapArray = Any  # pyarrow has no types


def numbers(column: MapArray) -> dict[str, Array]:
    """Return a column `map<string, double>` as one `(rows,)` array per name, NaN where a row has no such name."""
    found: dict[str, Array] = {}
    for name, rows, places in _entries(column):
        found[name] = np.full(len(column), np.nan)
        found[name][rows] = _plain(column.items)[places]
    return found


def lists(column: MapArray) -> dict[str, Array]:
    """Return a column `map<string, list<double>>` as one `(rows, longest)` array per name; what a row lacks is NaN."""
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
    """Return for each name the rows that have it, and where in the column's flat entries they have it."""
    offsets = column.offsets.to_numpy()
    places = np.arange(offsets[0], offsets[-1])
    rows = np.repeat(np.arange(len(column)), np.diff(offsets))
    encoded = column.keys.dictionary_encode()
    codes = encoded.indices.to_numpy()[places]
    return [(name, rows[codes == code], places[codes == code]) for code, name in enumerate(encoded.dictionary.to_pylist())]


def _plain(values: MapArray) -> Array:
    return values.to_numpy(zero_copy_only=False).astype(np.float64)
