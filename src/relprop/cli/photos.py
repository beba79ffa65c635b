"""The photos that a command is given: files, and folders of them."""

from collections.abc import Sequence
from pathlib import Path

from relprop.datasets.folder import SUFFIXES
from relprop.errors import InputError


def photos_in(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the photos with what they are called: a file by its name; those of a folder, with its subfolders, by their path in it.

    Raises:
        InputError: A folder holds no images.
    """
    found: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(photo for photo in path.rglob("*") if photo.suffix.lower() in SUFFIXES and photo.is_file())
            if not inside:
                raise InputError(f"The folder {path} holds no photos ({', '.join(SUFFIXES)}).")
            found |= {photo: photo.relative_to(path).as_posix() for photo in inside}
        else:
            found[path] = path.name
    return found
