"""The folder of results: `run.json` with the settings, and the rows in part files, each written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from relprop.errors import InputError, OutputError
from relprop.evaluation.rows import SCHEMA, Batch, Table
from relprop.output import atomic, make_folder
from relprop.paths import as_path

FORMAT = 1
RUN, PARTS, MAPS = "run.json", "parts", "maps"
ALL = "all"
_NAME = re.compile(r"(?P<pair>.+)-(?P<metrics>[0-9a-f]{8})-(?P<block>\d{6}|all)\.parquet")
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Part:
    """A part file by what its name says: the pair, the set of metrics, and the block or `all`."""

    path: Path
    pair: str
    metrics: str
    block: str


def file_key(*labels: str, key: str) -> str:
    """Return a text for file names: readable, and as unique as `key`."""
    readable = "--".join(re.sub(r"[^A-Za-z0-9.]+", "-", label)[-40:].strip("-.") for label in labels)
    return f"{readable}-{short_digest(key)}"


def short_digest(text: str) -> str:
    """Return eight digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read_settings(folder: Path | str) -> dict[str, Any]:
    """Return the content of `run.json`.

    Its keys: `format`; `content` (the settings that decide the rows); `images` (`count`, `digest`) and `blocks`; `models`, `methods` and
    `metrics`, everything that was ever asked for in this folder, as tables with their options; `metric_sets` (the metrics of a
    part file by the digest in its name); `fingerprints` (of the weights); `left_out` (`model`, `method`, `metric` or null, `reason`);
    `problems` of the data set; the versions `relprop` and `torch`.

    Raises:
        InputError: the folder holds no evaluation.
    """
    path = as_path(folder, "The folder of results") / RUN
    try:
        settings = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} holds no evaluation; there is no {RUN} in it.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise InputError(f"{path} is not of format {FORMAT}; it was written by another version of relprop.")
    return settings


def read_rows(folder: Path | str) -> Iterator[Batch]:
    """Yield the rows of a results folder, finished or not, in batches of `rows.SCHEMA`, in the order of the part files.

    Raises:
        InputError: the folder holds no evaluation, or a part of it is damaged.
    """
    sets = read_settings(folder)["metric_sets"]
    for part in valid_parts(Path(folder), sets)[0]:
        yield from _batches(part.path)


def read_maps(folder: Path | str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (file, image, `(H, W)` float32 heat map) of all maps that a run kept; the file's name begins with model and method.

    Raises:
        InputError: the folder holds no evaluation, or a file of it is damaged.
    """
    read_settings(folder)
    for path in sorted((Path(folder) / MAPS).glob("[!.]*.npz")):
        try:
            with np.load(path) as file:
                images, maps, scale = (file[name] for name in ("images", "maps", "scale"))
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} is damaged ({error}); delete it together with the parts of its name.") from error
        for image, values, largest in zip(images, maps, scale, strict=True):
            yield path.stem, str(image), values.astype(np.float32) * largest


def valid_parts(folder: Path, sets: Mapping[str, Iterable[str]]) -> tuple[list[Part], list[Part]]:
    """Return the part files by name, those that count and those that a file of the whole pair has made superfluous.

    Raises:
        InputError: a part whose metrics `run.json` does not know.
    """
    parts = [
        Part(path, *(str(match[name]) for name in ("pair", "metrics", "block")))
        for path in sorted((folder / PARTS).glob("[!.]*.parquet"))
        if (match := _NAME.fullmatch(path.name))
    ]
    for part in parts:
        if part.metrics not in sets:
            raise InputError(f"{part.path} is not of this evaluation; {RUN} does not know its metrics.")
    whole = [part for part in parts if part.block == ALL]
    superseded = {part for part in parts if any(_supersedes(other, part, sets) for other in whole)}
    return [part for part in parts if part not in superseded], sorted(superseded, key=lambda part: part.path)


def coverage(folder: Path, settings: Mapping[str, Any]) -> dict[tuple[str, int], set[str]]:
    """Return the keys of the metrics whose rows are stored, for each pair and block."""
    found: dict[tuple[str, int], set[str]] = {}
    for part in valid_parts(folder, settings["metric_sets"])[0]:
        for block in range(settings["blocks"]) if part.block == ALL else (int(part.block),):
            found.setdefault((part.pair, block), set()).update(settings["metric_sets"][part.metrics])
    return found


def _supersedes(whole: Part, part: Part, sets: Mapping[str, Iterable[str]]) -> bool:
    inside = whole.pair == part.pair and set(sets[part.metrics]) <= set(sets[whole.metrics])
    return inside and (part.block != ALL or part.metrics != whole.metrics)


def _batches(path: Path) -> Iterator[Batch]:
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(_ROWS_AT_ONCE)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} is damaged ({error}); delete it and start the run again.") from error


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Keep other processes from writing to the folder; the system takes the lock from a process that dies.

    Raises:
        InputError: another process holds it.
        OutputError: the folder cannot be made.
    """
    make_folder(folder / PARTS)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"Another process is writing to {folder}; wait until it ends, or choose another folder.") from None
    try:
        yield
    finally:
        lock.release()


class Store:
    """What a run knows of its folder; to be made while it is `locked`, by one process.

    Args:
        folder: of the results.
        settings: the content of `run.json`, which is written at once.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        for place in (PARTS, MAPS):
            for leftover in (folder / place).glob(".*"):
                leftover.unlink(missing_ok=True)
        self.save()
        for part in valid_parts(folder, settings["metric_sets"])[1]:
            part.path.unlink(missing_ok=True)
        self._done = coverage(folder, settings)

    def save(self) -> None:
        """Write `run.json`."""
        write_whole(self.folder / RUN, (json.dumps(self.settings, indent=2, ensure_ascii=False) + "\n").encode())

    def done(self, pair: str, block: int) -> set[str]:
        """Return the keys of the metrics whose rows of a block are stored."""
        return self._done.get((pair, block), set())

    def write(self, pair: str, block: int, metrics: Iterable[str], table: Table) -> None:
        """Store the rows of a block.

        Raises:
            OutputError: the disk is full, or the folder cannot be written to.
        """
        keys = list(metrics)
        write_whole(self._path(pair, keys, f"{block:06d}"), _parquet(table))
        self._done.setdefault((pair, block), set()).update(keys)

    def write_maps(self, pair: str, block: int, images: Iterable[str], maps: np.ndarray) -> None:
        """Store the `(N, H, W)` heat maps of a block in half precision, each over its largest magnitude.

        Raises:
            OutputError: the disk is full, or the folder cannot be written to.
        """
        scale = np.abs(maps).max((1, 2)).astype(np.float64)
        normal = (maps / np.where(scale > 0, scale, 1)[:, None, None]).astype(np.float16)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=np.array(list(images)), maps=normal, scale=scale)
        make_folder(self.folder / MAPS)
        write_whole(self.folder / MAPS / f"{pair}-{block:06d}.npz", buffer.getvalue())

    def compact(self, pair: str) -> None:
        """Put the parts of a pair into one file, if every block has the same metrics; killed at any instant, no row is lost or twice.

        The new file makes the others superfluous by its name, before they are deleted.
        """
        parts = [part for part in valid_parts(self.folder, self.settings["metric_sets"])[0] if part.pair == pair]
        covered = [self.done(pair, block) for block in range(self.settings["blocks"])]
        if len(parts) < 2 or any(keys != covered[0] for keys in covered):
            return
        path = self._path(pair, sorted(covered[0]), ALL)
        with atomic(path) as temporary:
            with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
                for table in _tables(parts):
                    writer.write_table(table)
            _sync(temporary)
        _sync(path.parent)
        for part in parts:
            part.path.unlink(missing_ok=True)

    def leave_out(self, model: str, method: str, metric: str | None, reason: str) -> None:
        """Note in `run.json` that a pair, or one metric of it, cannot be computed."""
        entry = {"model": model, "method": method, "metric": metric, "reason": reason}
        if entry not in self.settings["left_out"]:
            self.settings["left_out"].append(entry)
            self.save()

    def _path(self, pair: str, keys: list[str], block: str) -> Path:
        name = short_digest("\n".join(sorted(keys)))
        if name not in self.settings["metric_sets"]:
            self.settings["metric_sets"][name] = sorted(keys)
            self.save()
        return self.folder / PARTS / f"{pair}-{name}-{block}.parquet"


def _parquet(table: Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _tables(parts: Iterable[Part]) -> Iterator[Table]:
    """Yield the rows block by block, in tables large enough to be stored well."""
    waiting: list[Batch] = []
    for part in sorted(parts, key=lambda part: (part.block, part.metrics)):
        for batch in _batches(part.path):
            waiting.append(batch)
            if sum(map(len, waiting)) >= _ROWS_AT_ONCE:
                yield pa.Table.from_batches(waiting, SCHEMA).combine_chunks()
                waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting, SCHEMA).combine_chunks()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that after a crash, of the process or of the machine, it is there whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Let the system write a file, or the names in a folder, to the disk."""
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
