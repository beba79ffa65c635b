"""Find failed rows, and replace them with new ones."""

from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from relprop.evaluation.results.parts import Coverage, RowFile, read_batches, read_tables, valid_parts, write_tables
from relprop.evaluation.results.rows import FAILED, Batch, Table

_IDENTITY = ("metric", "metric_options", "image")
_Identity = tuple[str, str, str]


def failed_metrics(
    folder: Path, settings: Mapping[str, Any], blocks: Sequence[Sequence[str]], without: Container[Path] = ()
) -> Coverage:
    """Return the keys of the metrics that have failed rows, for each pair and block.

    Args:
        folder: The folder of results.
        settings: The content of its ``run.json``.
        blocks: The names of the images of each block.
        without: Files that do not count.

    Raises:
        InputError: A part of the results is damaged.
    """
    block_of = {image: block for block, images in enumerate(blocks) for image in images}
    found: dict[tuple[str, int], set[str]] = {}
    for part in valid_parts(folder, settings["metric_sets"], without)[0]:
        for metric, options, image in _failed(part):
            found.setdefault((part.pair, block_of[image]), set()).add(f"{metric} {options}")
    return found


def metric_keys(table: Table) -> list[str]:
    """Return the key of each row's metric, equal to ``Choice.key``."""
    return [f"{metric} {options}" for metric, options, _ in _identities(table)]


def replace_failed(parts: Iterable[RowFile], table: Table) -> Table:
    """Replace failed rows with the new rows of the same metric and image, file by file; return the new rows that were used.

    Raises:
        InputError: A part is damaged.
        OutputError: A part cannot be written; replacements in other parts are kept.
    """
    places = {identity: number for number, identity in enumerate(_identities(table))}
    put: set[int] = set()
    for part in parts:
        here = {places[identity] for identity in _failed(part) if identity in places}
        if here:
            write_tables(part.path, (_renewed(chunk, table, places) for chunk in read_tables([part])))
            put |= here
    return table.take(pa.array(sorted(put), pa.int64()))


def _failed(part: RowFile) -> Iterable[_Identity]:
    for batch in read_batches(part.path, (*_IDENTITY, "status")):
        yield from _identities(batch.filter(_is_failed(batch)))


def _renewed(chunk: Table, table: Table, places: Mapping[_Identity, int]) -> Table:
    rows = zip(_identities(chunk), _is_failed(chunk).to_pylist(), strict=True)
    picked = [
        len(chunk) + places[identity] if failed and identity in places else number
        for number, (identity, failed) in enumerate(rows)
    ]
    return pa.concat_tables([chunk, table]).combine_chunks().take(picked)


def _is_failed(rows: Table | Batch) -> Any:  # noqa: ANN401 - an array of booleans; pyarrow has no types
    return pc.equal(rows["status"], FAILED)  # pyright: ignore[reportAttributeAccessIssue]


def _identities(rows: Table | Batch) -> list[_Identity]:
    return list(zip(*(rows[name].to_pylist() for name in _IDENTITY), strict=True))
