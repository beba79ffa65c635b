"""The folder of results: ``run.json`` with the settings, and the rows in part files, each written atomically."""

import contextlib
import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout

from relprop.errors import InputError, OutputError
from relprop.evaluation.results.damage import lost_maps, set_aside
from relprop.evaluation.results.maps import MAPS
from relprop.evaluation.results.parts import (
    ALL,
    PARTS,
    Coverage,
    RowFile,
    coverage,
    part_files,
    read_batches,
    read_tables,
    short_digest,
    valid_parts,
    write_tables,
    write_whole,
)
from relprop.evaluation.results.redo import metric_keys, replace_failed
from relprop.evaluation.results.rows import OK, Batch, Table
from relprop.evaluation.results.run_file import RUN, read_settings
from relprop.files import make_folder, remove, remove_empty


def read_rows(folder: Path | str) -> Iterator[Batch]:
    """Yield the rows of a results folder, finished or not, in batches of ``rows.SCHEMA``, in the order of the part files.

    Raises:
        InputError: The folder holds no evaluation, or a part of it is damaged.
    """
    sets = read_settings(folder)["metric_sets"]
    for part in valid_parts(Path(folder), sets)[0]:
        yield from read_batches(part.path)


LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Lock the folder against writes of other processes; the system releases the lock of a process that dies.

    A new folder into which nothing was stored before an error is deleted.

    Raises:
        InputError: Another process holds the lock.
        OutputError: The folder cannot be created or written to.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder / PARTS)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"Another process is writing to {folder}; wait until it ends, or choose another folder.") from None
    except (OSError, NotImplementedError) as error:
        raise OutputError(f"{folder / LOCK} cannot be locked: {getattr(error, 'strerror', None) or error}.") from error
    try:
        yield
    except BaseException:
        if missing and not part_files(folder):
            (folder / RUN).unlink(missing_ok=True)
            remove_empty([folder / PARTS, folder / MAPS])
        raise
    finally:
        lock.release()
        if missing and not (folder / RUN).exists():
            (folder / LOCK).unlink(missing_ok=True)
            remove_empty(missing)


class Store:
    """The results folder of a run; create it only while holding the lock (``locked``).

    Args:
        folder: The folder of results.
        settings: The content of ``run.json``, which is written at once.

    Attributes:
        told: A sentence on each damaged file that was set aside.
        lost: Pairs and blocks whose maps were damaged and are to be computed again.

    Raises:
        InputError: A file cannot be read.
        OutputError: The folder cannot be written to.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        for place in (PARTS, MAPS):
            for leftover in (folder / place).glob(".*"):
                if leftover.is_file():
                    remove(leftover)
        self.save()
        self.told = set_aside(folder)
        self.lost = lost_maps(folder)
        for part in valid_parts(folder, settings["metric_sets"])[1]:
            remove(part.path)
        self._done = coverage(folder, settings)

    def save(self) -> None:
        """Write ``run.json``."""
        write_whole(
            self.folder / RUN, (json.dumps(self.settings, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
        )

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

    def holds_good(self, pairs: Iterable[str]) -> bool:
        """Return whether a stored row of these pairs did not fail."""
        parts = (part for pair in pairs for part in self._parts(pair))
        return any(OK in batch["status"].to_pylist() for part in parts for batch in read_batches(part.path, ("status",)))

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
            remove(part.path)

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
