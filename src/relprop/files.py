"""Files: paths that users give, and files written whole or not at all."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from relprop.errors import InputError, OutputError


def as_path(path: str | Path, what: str = "A path") -> Path:
    """Return what a user gave for a path.

    Args:
        path: A string, or anything that ``pathlib`` takes.
        what: What it is the path of; begins the message.

    Raises:
        InputError: It is no path.
    """
    try:
        return Path(path)
    except TypeError:
        raise InputError(f"{what} must be a string or a pathlib.Path, not {type(path).__name__}.") from None


@contextmanager
def atomic(path: str | Path) -> Generator[Path, None, None]:
    """Give a temporary path beside ``path`` and move it there when the block ends well; remove it when it does not.

    Raises:
        OutputError: The file cannot be written.
    """
    path = as_path(path)
    temporary = _temporary(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all; what is no Unicode is escaped.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic(path) as temporary:
        temporary.write_text(text, "utf-8", errors="backslashreplace")


def check_writable(path: str | Path) -> None:
    """Make sure, before any computing, that a file can be written there; missing folders are made.

    Raises:
        OutputError: The path is a folder, or its folder cannot be made or written to.
    """
    path = as_path(path)
    try:
        folder = path.is_dir()
    except OSError as error:  # a name that the file system cannot hold
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    if folder:
        raise OutputError(f"{path} is a folder; name a file in it.")
    make_folder(path.parent)
    _temporary(path).unlink()


def remove(path: Path) -> None:
    """Delete a file that may be gone already.

    Raises:
        OutputError: It cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be deleted: {error.strerror or error}.") from error


def make_folder(path: str | Path) -> None:
    """Make a folder and those above it.

    Raises:
        OutputError: That is not possible.
    """
    try:
        as_path(path).mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(f"{path} is a file, where a folder was expected.") from None
    except OSError as error:
        raise OutputError(f"The folder {path} cannot be made: {error.strerror or error}.") from error


def _temporary(path: Path) -> Path:
    """Make an empty temporary file that keeps the suffix, by which writers choose the format."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        Path(name).chmod(0o666 & ~_umask())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    return Path(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
