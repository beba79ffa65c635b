"""Ctrl-C and SIGTERM: the first ends a command with one sentence, the second ends the process at once; both with exit code 130."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def take_over(handler: Callable[[int, FrameType | None], None]) -> dict[signal.Signals, Any]:
    """Install a handler for both signals, except for one that is ignored as in a shell's background jobs; return the former handlers."""
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def leave_at_next(sentence: str) -> None:
    """Let the next signal end the process at once: it says the sentence, and no exit handler or destructor runs."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        os.write(2, f"{sentence}\n".encode(errors="backslashreplace"))
        os._exit(INTERRUPTED)

    take_over(leave)


def exit_at_once(code: object) -> None:
    """End the process where a command was interrupted, before a further signal meets exit handlers; else return."""
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)
