"""The folder of results: ``run.json`` with the settings, and the rows in part files, each written atomically."""

import contextlib
import io
import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout

from relprop.errors import InputError
from relprop.evaluation.results.parts import (
    ALL,
    PARTS,
    RUN,
    Coverage,
    RowFile,
    coverage,
    read_batches,
    read_tables,
    short_digest,
    valid_parts,
    write_tables,
    write_whole,
)
from relprop.evaluation.results.redo import metric_keys, replace_failed
from relprop.evaluation.results.rows import Batch, Table
from relprop.files import as_path, make_folder

FORMAT = 1
MAPS = "maps"


def read_settings(folder: Path | str) -> dict[str, Any]:
    """Return the content of ``run.json``.

    Its keys: ``format``; ``content`` (the settings that decide the rows); ``images`` (``count``, ``digest``) and ``blocks``; ``models``, ``methods``
    and ``metrics``, everything ever requested in this folder, as tables with their options; ``metric_sets`` (the metrics of a
    part file by the digest in its name); ``fingerprints`` (of the weights); ``left_out`` (``model``, ``method``, ``metric`` or null, ``reason``);
    ``problems`` of the data set; the versions ``relprop`` and ``torch``.

    Raises:
        InputError: The folder holds no evaluation.
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
    """Yield the rows of a results folder, finished or not, in batches of ``rows.SCHEMA``, in the order of the part files.

    Raises:
        InputError: The folder holds no evaluation, or a part of it is damaged.
    """
    sets = read_settings(folder)["metric_sets"]
    for part in valid_parts(Path(folder), sets)[0]:
        yield from read_batches(part.path)


def read_maps(folder: Path | str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (file, image, ``(H, W)`` float32 heat map) of all maps that a run kept; the file's name begins with model and method.

    Raises:
        InputError: The folder holds no evaluation, or one of its files is damaged.
    """
    read_settings(folder)
    for path in sorted((Path(folder) / MAPS).glob("[!.]*.npz")):
        for image, values, largest in zip(*_load_maps(path), strict=True):
            yield path.stem, str(image), values.astype(np.float32) * largest


def _load_maps(path: Path) -> list[np.ndarray]:
    """Return the names of the images, their maps in half precision and the largest magnitude of each."""
    try:
        with np.load(path) as file:
            return [file[name] for name in ("images", "maps", "scale")]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it together with the parts of its name.") from error


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Lock the folder against writes of other processes; the system releases the lock of a process that dies.

    Raises:
        InputError: Another process holds the lock.
        OutputError: The folder cannot be created.
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
    """The results folder of a run; create it only while holding the lock (``locked``).

    Args:
        folder: The folder of results.
        settings: The content of ``run.json``, which is written at once.
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
        """Write ``run.json``."""
        write_whole(self.folder / RUN, (json.dumps(self.settings, indent=2, ensure_ascii=False) + "\n").encode())

    @property
    def done(self) -> Coverage:
        """The keys of the metrics whose rows are stored, for each pair and block."""
        return self._done

    def add_fingerprints(self, fingerprints: Mapping[str, str]) -> None:
        """Write the fingerprints of the weights into ``run.json``."""
        self.settings["fingerprints"].update(fingerprints)
        self.save()

    def write(self, pair: str, block: int, metrics: Iterable[str], table: Table) -> Table:
        """Store the rows of a block; rows of metrics that are already stored only replace failed ones. Return the stored rows.

        Raises:
            OutputError: The disk is full, or the folder cannot be written to.
        """
        there = self._done.get((pair, block), set[str]())
        keys = [key for key in metrics if key not in there]
        again = pa.array([key in there for key in metric_keys(table)], pa.bool_())
        new, known = table.filter(pc.invert(again)), table.filter(again)  # pyright: ignore[reportAttributeAccessIssue]
        if keys:
            write_tables(self._path(pair, keys, f"{block:06d}"), [new])
            self._done.setdefault((pair, block), set()).update(keys)
        parts = [part for part in self._parts(pair) if part.block in {ALL, f"{block:06d}"}] if len(known) else []
        return pa.concat_tables([new, replace_failed(parts, known)])

    def write_maps(self, pair: str, block: int, images: Iterable[str], maps: np.ndarray) -> None:
        """Store the ``(N, H, W)`` heat maps of a block in float16, each divided by its largest magnitude; maps of other images stay.

        Raises:
            InputError: The stored maps are damaged.
            OutputError: The disk is full, or the folder cannot be written to.
        """
        scale = np.abs(maps).max((1, 2)).astype(np.float64)
        normal = (maps / np.where(scale > 0, scale, 1)[:, None, None]).astype(np.float16)
        stored = [np.array(list(images)), normal, scale]
        path = self.folder / MAPS / f"{pair}-{block:06d}.npz"
        if path.exists():
            there = _load_maps(path)
            others = ~np.isin(there[0], stored[0])
            stored = [np.concatenate([new, old[others]]) for new, old in zip(stored, there, strict=True)]
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **dict(zip(("images", "maps", "scale"), stored, strict=True)))
        make_folder(self.folder / MAPS)
        write_whole(path, buffer.getvalue())

    def compact(self, pair: str) -> None:
        """Merge the parts of a pair into one file if all blocks have the same metrics; a crash neither loses nor duplicates rows.

        The name of the new file supersedes the other parts before they are deleted.
        """
        parts = self._parts(pair)
        covered = [self._done.get((pair, block), set[str]()) for block in range(self.settings["blocks"])]
        if len(parts) < 2 or any(keys != covered[0] for keys in covered):
            return
        path = self._path(pair, sorted(covered[0]), ALL)
        write_tables(path, read_tables(parts))
        for part in parts:
            part.path.unlink(missing_ok=True)

    def leave_out(self, model: str, method: str, metric: str | None, reason: str) -> None:
        """Record in ``run.json`` that a pair, or one metric of it, cannot be computed."""
        entry = {"model": model, "method": method, "metric": metric, "reason": reason}
        if entry not in self.settings["left_out"]:
            self.settings["left_out"].append(entry)
            self.save()

    def _parts(self, pair: str) -> list[RowFile]:
        return [part for part in valid_parts(self.folder, self.settings["metric_sets"])[0] if part.pair == pair]

    def _path(self, pair: str, keys: list[str], block: str) -> Path:
        name = short_digest("\n".join(sorted(keys)))
        if name not in self.settings["metric_sets"]:
            self.settings["metric_sets"][name] = sorted(keys)
            self.save()
        return self.folder / PARTS / f"{pair}-{name}-{block}.parquet"
