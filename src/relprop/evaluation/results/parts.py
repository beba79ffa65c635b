"""The part files of a results folder: their names, and reading and crash-safe writing of their rows."""

import hashlib
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from relprop.errors import InputError, OutputError
from relprop.evaluation.results.checksum import BLANK, KEY, is_intact, stamp
from relprop.evaluation.results.rows import SCHEMA, Batch, Table
from relprop.evaluation.results.run_file import RUN
from relprop.files import atomic

PARTS, ALL = "parts", "all"
_NAME = re.compile(r"(?P<pair>.+)-(?P<metrics>[0-9a-f]{8})-(?P<block>\d{6}|all)\.parquet")
_ROWS_AT_ONCE = 4096


class DamagedError(InputError):
    """A file of the results that is damaged; ``reason`` says how."""

    def __init__(self, path: Path, reason: object) -> None:
        self.reason = (str(reason).strip().splitlines() or [type(reason).__name__])[0].rstrip(".")
        super().__init__(f"{path} is damaged ({self.reason}); delete it and start the run again.")


@dataclass(frozen=True)
class RowFile:
    """A part file and the fields of its name: the pair, the set of metrics, and the block or ``all``."""

    path: Path
    pair: str
    metrics: str
    block: str


def file_key(*labels: str, key: str) -> str:
    """Return a readable text for file names, as unique as ``key``."""
    readable = "--".join(re.sub(r"[^A-Za-z0-9.]+", "-", label)[-40:].strip("-.") for label in labels)
    return f"{readable}-{short_digest(key)}"


def short_digest(text: str) -> str:
    """Return a hash of a text, eight hexadecimal digits."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]


def part_files(folder: Path) -> list[Path]:
    """Return the part files of a results folder, sorted by name."""
    return sorted(path for path in (folder / PARTS).glob("[!.]*.parquet") if _NAME.fullmatch(path.name))


def valid_parts(
    folder: Path, sets: Mapping[str, Iterable[str]], without: Container[Path] = ()
) -> tuple[list[RowFile], list[RowFile]]:
    """Return the valid part files and those superseded by a file of the whole pair, both sorted by name.

    Args:
        folder: The folder of results.
        sets: The metrics of a part file by the digest in its name, from ``run.json``.
        without: Files that do not count.

    Raises:
        InputError: The metrics of a part are not in ``run.json``.
    """
    parts = [
        RowFile(path, *(str(match[name]) for name in ("pair", "metrics", "block")))
        for path in part_files(folder)
        if path not in without and (match := _NAME.fullmatch(path.name))
    ]
    for part in parts:
        if part.metrics not in sets:
            raise InputError(f"{part.path} is not of this evaluation; {RUN} does not know its metrics.")
    whole = [part for part in parts if part.block == ALL]
    superseded = {part for part in parts if any(_supersedes(other, part, sets) for other in whole)}
    return [part for part in parts if part not in superseded], sorted(superseded, key=lambda part: part.path)


Coverage = Mapping[tuple[str, int], set[str]]
"""Keys of metrics by (file key of the pair, number of the block)."""


def coverage(folder: Path, settings: Mapping[str, Any], without: Container[Path] = ()) -> dict[tuple[str, int], set[str]]:
    """Return the keys of the metrics whose rows are stored in files not in ``without``, for each pair and block."""
    found: dict[tuple[str, int], set[str]] = {}
    for part in valid_parts(folder, settings["metric_sets"], without)[0]:
        for block in range(settings["blocks"]) if part.block == ALL else (int(part.block),):
            found.setdefault((part.pair, block), set()).update(settings["metric_sets"][part.metrics])
    return found


def _supersedes(whole: RowFile, part: RowFile, sets: Mapping[str, Iterable[str]]) -> bool:
    inside = whole.pair == part.pair and set(sets[part.metrics]) <= set(sets[whole.metrics])
    return inside and (part.block != ALL or part.metrics != whole.metrics)


def read_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[Batch]:
    """Yield the rows of a file, or some of their columns, after its checksum is verified.

    Raises:
        DamagedError: The file is damaged.
        InputError: The file cannot be opened.
    """
    try:
        if not is_intact(path):
            raise DamagedError(path, "its checksum is missing or wrong")
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(SCHEMA):
                raise DamagedError(path, "it has other columns")
            yield from file.iter_batches(_ROWS_AT_ONCE, columns=columns)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None and not path.is_dir():
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error
        raise DamagedError(path, error) from error


def read_tables(parts: Iterable[RowFile]) -> Iterator[Table]:
    """Yield the rows of parts block by block, merged into tables of at least ``_ROWS_AT_ONCE`` rows (the last may be smaller)."""
    waiting: list[Batch] = []
    for part in sorted(parts, key=lambda part: (part.block, part.metrics)):
        for batch in read_batches(part.path):
            waiting.append(batch)
            if sum(map(len, waiting)) >= _ROWS_AT_ONCE:
                yield pa.Table.from_batches(waiting, SCHEMA).combine_chunks()
                waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting, SCHEMA).combine_chunks()


def write_tables(path: Path, tables: Iterable[Table]) -> None:
    """Write rows to a Parquet file, as crash-safe as ``write_whole``.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic(path) as temporary:
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table)
            writer.add_key_value_metadata({KEY: BLANK})
        stamp(temporary)
        _sync(temporary)
    _sync(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically and flush it to disk: a crash of the process or the machine leaves the old state or the new file.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
