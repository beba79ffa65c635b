"""The process of the command line: it owns its warnings, log and garbage, and answers a wrong call by one sentence."""

import gc
import logging
import os
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from relprop.cli.terminal import complain

# What a wrong call raises: click's error, or that of the copy of click inside newer releases of typer.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
NO_COMMAND = "NoArgsIsHelpError"
WRONG_CALL = 2


class Commands(TyperGroup):
    """The commands of one program; an unknown command, option or value is one sentence on stderr and exit code 2."""

    def main(self, *arguments: Any, standalone_mode: bool = True, **options: Any) -> Any:  # noqa: ANN401 - click's own
        """Run the command that the arguments name, and leave the process with its exit code in standalone mode."""
        try:
            code = super().main(*arguments, standalone_mode=False, **options)
        except typer.Abort:
            code = 1
        except UsageError as error:
            code = WRONG_CALL
            _explain_usage(error)
        if standalone_mode:
            sys.exit(code)
        return code


def _explain_usage(error: Any) -> None:  # noqa: ANN401 - see UsageError
    if type(error).__name__ == NO_COMMAND:
        error.show()
        return
    program = error.ctx.command_path if error.ctx is not None else "relprop"
    message = error.format_message()
    complain(f"{message}{'' if message.endswith(('.', '?')) else '.'} `{program} --help` lists what there is.")


def silence_libraries() -> None:
    """Keep warnings and log lines of libraries off stderr, for the whole process, unless the user asks for them.

    Python's ``-W`` and ``PYTHONWARNINGS`` ask for warnings, ``TORCH_LOGS`` for torch's log.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    if "TORCH_LOGS" not in os.environ:
        logging.disable(logging.CRITICAL)
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is imported


@contextmanager
def importing() -> Generator[None, None, None]:
    """Import torch and what needs it without the garbage collector, which would take a fifth of the time and find nothing.

    What is loaded then stays out of later collections.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
