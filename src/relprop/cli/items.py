"""What a run over many photos has to do: the photos of folders, and the rows of CSV manifests, each with the file of its map."""

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from relprop.cli.photos import photos_in
from relprop.errors import InputError, OutputError
from relprop.text import storable

MAPS = "maps"
"""The folder of the maps, in the folder of the run."""
_COLUMNS = ("path", "target")
_LONGEST = 180
"""Bytes of a file's name; a longer one is cut, with a digest in the place of the rest."""


@dataclass(frozen=True)
class Item:
    """One photo to explain.

    Attributes:
        path: The photo.
        name: What the index calls it: its path in the folder, or as the manifest has it.
        target: What the manifest asks for; empty for what the command line asks for.
        where: The line of the manifest, which errors name.
        wrong: Why it cannot be explained, known from the manifest alone.
        file: Its map, relative to the folder of the run.
    """

    path: Path
    name: str
    target: str = ""
    where: str = ""
    wrong: str | None = None
    file: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What it is found by in the journal."""
        return (self.name, self.target) if self.wrong is None else (self.where, "")


def is_manifest(path: Path) -> bool:
    """Return whether a path is that of a manifest."""
    return path.suffix.lower() == ".csv" and not path.is_dir()


def items_in(paths: Sequence[Path], output: Path, suffix: str) -> tuple[list[Item], int]:
    """Return the items of photos, folders and manifests, and how many rows were given before.

    The maps that an earlier run wrote into ``output`` are no photos.

    Args:
        paths: What the user gave.
        output: The folder of the run.
        suffix: Of the files of maps.

    Raises:
        InputError: A folder holds no photos, or a manifest cannot be read.
        OutputError: A map would overwrite a photo.
    """
    found: dict[tuple[str, str], Item] = {}
    count = 0
    for path in paths:
        listed = _rows(path) if is_manifest(path) else _photos(path, output, whole=len(paths) > 1)
        for item in listed:
            count += 1
            found.setdefault(item.key, item)
    if not found:
        raise InputError(f"There is no photo to explain in {', '.join(map(str, paths))}.")
    items = _with_files(list(found.values()), suffix)
    photos = {os.path.abspath(item.path) for item in items}  # noqa: PTH100 - a million of them, without a look at the disk
    for item in items:
        if os.path.abspath(output / item.file) in photos:  # noqa: PTH100
            raise OutputError(f"The output {output / item.file} is one of the photos; choose another with --output.")
    return items, count - len(found)


def _photos(path: Path, output: Path, *, whole: bool) -> Iterator[Item]:
    """The photos of a folder, or one photo; ``whole`` names them by their whole path, for several folders."""
    own = (output / MAPS).resolve()
    outside = not path.resolve().is_relative_to(own)
    for photo, name in photos_in([path]).items():
        if not (outside and photo.resolve().is_relative_to(own)):
            yield Item(photo, photo.as_posix() if whole else name)


def _rows(manifest: Path) -> Iterator[Item]:
    """The rows of a manifest: its column ``path`` is relative to its folder, its column ``target`` may be missing.

    Raises:
        InputError: It cannot be read, or has no column ``path``, or has others.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            _check_columns(manifest, table.fieldnames)
            for row in table:
                yield _item(manifest, table.line_num, row)
    except OSError as error:
        raise InputError(f"The manifest {manifest} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The manifest {manifest} is no text in UTF-8: {error.reason}.") from error
    except csv.Error as error:
        raise InputError(f"The manifest {manifest} is no CSV that can be read: {error}.") from error


def _check_columns(manifest: Path, columns: Sequence[str] | None) -> None:
    if not columns or "path" not in columns:
        raise InputError(f"The manifest {manifest} has no column 'path'; its first line is path,target.")
    other = [column for column in columns if column not in _COLUMNS]
    if other or len(set(columns)) < len(columns):
        listed = ", ".join(map(repr, columns))
        raise InputError(f"The manifest {manifest} has the columns {listed}; it takes 'path' and 'target', each once.")


def _item(manifest: Path, line: int, row: Mapping[str | None, str | list[str] | None]) -> Item:
    where = f"{manifest} line {line}"
    path, target = (str(row.get(column) or "").strip() for column in _COLUMNS)
    wrong = None
    if None in row:
        wrong = "the row has more values than there are columns; a path with a comma stands in quotes."
    elif not path or "\0" in path:
        wrong = "the row names no photo."
    return Item(manifest.parent / path, path, target, where, wrong)


def _with_files(items: Sequence[Item], suffix: str) -> list[Item]:
    """Choose the file of every map; names that are alike, also to file systems that ignore case, get a digest."""
    taken: set[str] = set()
    done: list[Item] = []
    for item in items:
        file = _file_of(item, suffix, unique=False)
        if file.casefold() in taken:
            file = _file_of(item, suffix, unique=True)
        taken.add(file.casefold())
        done.append(replace(item, file=file))
    return done


def _file_of(item: Item, suffix: str, *, unique: bool) -> str:
    """``maps/FOLDER/PHOTO.jpg--TARGET.npy``, inside of the run's folder wherever the photo lies."""
    parts = [part.replace(":", "-") for part in PurePosixPath(Path(item.name).as_posix()).parts if part not in {"/", "//", ".."}]
    target = re.sub(r"[^\w.+-]+", "-", item.target)
    name = (parts[-1] if parts else "photo") + f"--{target}" * bool(target)
    if unique or target != item.target or len(_bytes(name)) > _LONGEST:
        digest = hashlib.sha256(_bytes("\n".join(item.key))).hexdigest()[:8]
        name = f"{_bytes(name)[:_LONGEST].decode(errors='ignore')}-{digest}"
    return "/".join([MAPS, *map(storable, parts[:-1]), storable(name) + suffix])


def _bytes(text: str) -> bytes:
    return storable(text).encode()
