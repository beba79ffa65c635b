"""The folder of results: its settings, its parts, and reading them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa


def read_rows(folder: Path | str) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a results folder, finished or not, in batches of `rows.SCHEMA`, in the order of the part files.

    Raises:
        InputError: the folder holds no evaluation, or a part of it is damaged.
    """
    raise NotImplementedError


def read_settings(folder: Path | str) -> dict[str, object]:
    """Return the content of `run.json`: the settings of the run and what was left out.

    Raises:
        InputError: the folder holds no evaluation.
    """
    raise NotImplementedError
