"""Files: paths that users give, and files written whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Generator, Iterable
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
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers make a file of their own, for its owner alone
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
    """Make sure, before any computing, that a file and its missing folders can be made; nothing is left behind.

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
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    try:
        make_folder(path.parent)
        _temporary(path).unlink()
    finally:
        remove_empty(missing)


def remove_empty(folders: Iterable[Path]) -> None:
    """Delete folders, the innermost first, that are there and empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


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
    """Make an empty temporary file that keeps the suffix, by which writers choose the format; its mode is that of any new file."""
    temporary = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(8)}{path.suffix}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.") from error
    return temporary
