"""What the command line prints, and how errors look there."""

import functools
from collections.abc import Callable
from typing import ParamSpec

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from relprop.errors import LONGEST_MESSAGE, RelpropError, cut

P = ParamSpec("P")

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)
_ROOM = LONGEST_MESSAGE - len("Error: ")


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
    """Turn what a command raises into one sentence and exit code 1; its ``debug`` argument lets the traceback through."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
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
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}."
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if "out of memory" in text.lower() or isinstance(error, MemoryError):
        return f"The memory does not suffice ({text}); take a smaller model or fewer targets at once."
    return f"{text} (unforeseen; --debug shows where)"
