"""Paths as users give them."""

from pathlib import Path

from relprop.errors import InputError


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
