"""The journal of a run over many photos: a line of JSON for every photo when it is done, from which a run resumes and its index is made.

A line is written when the map is, so whatever ends the run, what is in the journal is finished; a half line at its end is dropped.
"""

import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from relprop.errors import InputError, OutputError
from relprop.explanation import Explanation
from relprop.files import atomic, make_folder, remove_empty
from relprop.text import class_name, storable

JOURNAL, INDEX, LOCK = "journal.jsonl", "index.parquet", ".lock"
FORMAT = 1
_ROWS_AT_ONCE = 4096

SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("target", pa.string()),
        pa.field("map", pa.int64()),
        pa.field("class", pa.int64()),
        pa.field("class_name", pa.string()),
        pa.field("logit", pa.float64()),
        pa.field("probability", pa.float64()),
        pa.field("absorbed", pa.float64()),
        pa.field("file", pa.string()),
        pa.field("notes", pa.list_(pa.string()), nullable=False),
        pa.field("error", pa.string()),
    ]
)
"""The columns of the index: a row for every map, and one for every photo that could not be explained."""

Entry = dict[str, Any]
"""What the journal knows of a photo."""


class Journal:
    """An open journal: entries stay on disk, and only their places are held.

    Args:
        folder: The folder of the run, which is there and locked.
        settings: What decides the maps; a journal of other settings is refused.

    Raises:
        InputError: The journal is of other settings, or of another version.
        OutputError: It cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._path = folder / JOURNAL
        self._places: dict[tuple[str, str], int] = {}
        try:
            self._file: IO[bytes] = self._path.open("a+b")
            self._read(dict(settings))
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror or error}.") from error

    def add(self, key: tuple[str, str], entry: Entry) -> None:
        """Add what is known of a photo; it goes before what was known.

        Raises:
            OutputError: The disk is full, or the file cannot be written.
        """
        self._places[key] = self._append({"key": list(key), **entry})

    def get(self, key: tuple[str, str]) -> Entry | None:
        """Return what is known of a photo, or None."""
        place = self._places.get(key)
        if place is None:
            return None
        self._file.seek(place)
        return json.loads(self._file.readline())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: Entry) -> int:
        try:
            place = self._file.seek(0, os.SEEK_END)
            self._file.write(json.dumps(line).encode() + b"\n")  # what is no Unicode becomes an escape
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror or error}.") from error
        return place

    def _read(self, settings: Entry) -> None:
        """Find the places of all entries, after the settings in the first line; drop a half line at the end."""
        self._file.seek(0)
        place, first = 0, True
        for line in self._file:
            found = _parsed(line)
            if first and line.endswith(b"\n"):
                self._check(found, settings)
                first = False
            elif found is not None and "key" in found:
                self._places[found["key"][0], found["key"][1]] = place
            if not line.endswith(b"\n"):
                break
            place += len(line)
        self._file.truncate(place)
        if first:
            self._append({"format": FORMAT, "settings": settings})

    def _check(self, found: Entry | None, settings: Entry) -> None:
        if found is None or found.get("format") != FORMAT or not isinstance(found.get("settings"), dict):
            raise InputError(f"{self._path} is no journal of this version of relprop; choose another folder.")
        stored = found["settings"]
        for name in {**stored, **settings}:
            ours, theirs = json.loads(json.dumps(settings.get(name))), stored.get(name)
            if ours != theirs:
                folder = self._path.parent
                raise InputError(
                    f"{folder} holds maps of another run: {name} was {theirs!r} and is {ours!r}; choose another folder."
                )


def write_index(folder: Path, keys: Iterable[tuple[str, str]], journal: Journal) -> None:
    """Write the index of the photos that the journal knows, in the order of ``keys``, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    with atomic(folder / INDEX) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        rows: list[Entry] = []
        for row in _rows(keys, journal):
            rows.append(row)
            if len(rows) == _ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, SCHEMA))


def _rows(keys: Iterable[tuple[str, str]], journal: Journal) -> Iterator[Entry]:
    for key in keys:
        entry = journal.get(key)
        if entry is not None:
            shared = {"path": storable(key[0]), "target": storable(key[1]) or None, "error": entry["error"]}
            shared |= {"file": entry["file"], "notes": entry["notes"]}
            yield from ({**shared, **one} for one in (entry["maps"] or [{}]))


def columns_of(explanation: Explanation, labels: Sequence[str] | None) -> list[Entry]:
    """The columns of the index that every map of a photo has of its own."""
    absorbed = explanation.absorbed[0].reshape(-1).tolist()
    if explanation.target is None:
        values = [] if explanation.value is None else explanation.value[0].reshape(-1).tolist()
        whats = [{"class_name": explanation.words[0], "logit": value} for value in values]
    else:
        logits, probabilities = explanation.logits[0], explanation.probabilities[0]
        whats = [
            {
                "class": index,
                "class_name": class_name(index, labels),
                "logit": float(logits[index]),
                "probability": float(probabilities[index]),
            }
            for index in explanation.target[0].reshape(-1).tolist()
        ]
    several = explanation.absorbed.dim() == 2
    found = zip(whats, absorbed, strict=True)
    return [{"map": number if several else None, **what, "absorbed": lost} for number, (what, lost) in enumerate(found)]


@contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Make and lock the folder of a run; one in which nothing was written is removed again.

    Raises:
        InputError: Another process writes to it.
        OutputError: It cannot be made or written to.
    """
    missing: Sequence[Path] = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"Another process is writing to {folder}; wait until it ends, or choose another folder.") from None
    except (OSError, NotImplementedError) as error:
        raise OutputError(f"{folder / LOCK} cannot be locked: {getattr(error, 'strerror', None) or error}.") from error
    try:
        yield
    finally:
        lock.release()
        if not (folder / JOURNAL).exists():
            (folder / LOCK).unlink(missing_ok=True)
            remove_empty(missing)


def _parsed(line: bytes) -> Entry | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
