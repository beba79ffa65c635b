"""The errors that relprop raises: each message is one clear sentence that says what was wrong, where, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_MESSAGE = 2000
"""Characters of a message; a longer one is cut in the middle."""


class RelpropError(Exception):
    """Base of every error that relprop raises on purpose; the command line prints it without a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(cut(message))


class InputError(RelpropError, ValueError):
    """An input tensor, image or file that cannot be used."""


class TargetError(RelpropError, ValueError):
    """A target, or relevance of the output, that does not fit the model's output."""


class OptionError(RelpropError, ValueError):
    """An unknown method, model or option name, or an option value out of range."""


class ModelError(RelpropError):
    """A model or its weights that cannot be loaded."""


class CaptureError(RelpropError):
    """A model that cannot be turned into a graph."""


class UnsupportedOpError(RelpropError, NotImplementedError):
    """Ops of the model for which relevance has no rule."""


class PackedSequenceError(UnsupportedOpError):
    """A model that packs sequences of several lengths."""


class RelevanceError(RelpropError, ArithmeticError):
    """Relevance that is NaN or infinite."""


class OutputError(RelpropError, OSError):
    """A result that cannot be written."""


def cut(message: str, longest: int = LONGEST_MESSAGE) -> str:
    """Return a message of at most ``longest`` characters: ``" … "`` stands for the middle of a longer one."""
    if len(message) <= longest:
        return message
    mark = " … "
    tail = (longest - len(mark)) // 2
    return message[: longest - len(mark) - tail] + mark + message[-tail:]


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean …?"`` with the nearest known names, or the empty string where none is near."""
    by_lower = {k.lower(): k for k in known}
    near = get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(by_lower[n]) for n in near)}?" if near else ""
