"""Damaged files of a results folder: found when a run resumes, set aside, and computed again."""

import re
from pathlib import Path

from relprop.errors import OutputError
from relprop.evaluation.results.maps import MAPS, load_kept, map_files
from relprop.evaluation.results.parts import DamagedError, part_files, read_batches

ASIDE = ".damaged"
"""Ends the name of a file that was set aside."""
_LOST = re.compile(r"(?P<pair>.+)-(?P<block>\d{6})\.npz\.damaged")


def find_damaged(folder: Path) -> dict[Path, str]:
    """Read all rows and maps of a results folder; return the damaged files, each with what is wrong.

    Raises:
        InputError: A file cannot be opened.
    """
    found: dict[Path, str] = {}
    checks = dict.fromkeys(part_files(folder), _read_rows) | dict.fromkeys(map_files(folder), load_kept)
    for path, check in checks.items():
        try:
            check(path)
        except DamagedError as error:
            found[path] = error.reason
    return found


def set_aside(folder: Path) -> list[str]:
    """Rename damaged files, so that what they held counts as missing; return a sentence on each.

    Raises:
        InputError: A file cannot be opened.
        OutputError: A file cannot be renamed.
    """
    told: list[str] = []
    for path, reason in find_damaged(folder).items():
        aside = path.with_name(path.name + ASIDE)
        try:
            path.replace(aside)
        except OSError as error:
            raise OutputError(f"{path} is damaged ({reason}) and cannot be set aside: {error.strerror or error}.") from error
        told.append(f"{path} is damaged ({reason}); it was set aside as {aside.name}, and what it held is computed again.")
    return told


def lost_maps(folder: Path) -> set[tuple[str, int]]:
    """Return the pairs and blocks whose maps were set aside and not computed again yet."""
    names = [path.name for path in (folder / MAPS).glob(f"*.npz{ASIDE}")]
    matches = [match for name in names if (match := _LOST.fullmatch(name))]
    there = {path.name for path in map_files(folder)}
    return {(match["pair"], int(match["block"])) for match in matches if match[0].removesuffix(ASIDE) not in there}


def _read_rows(path: Path) -> None:
    for _ in read_batches(path):
        pass
