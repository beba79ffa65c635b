"""Why a model cannot be recorded, in one sentence: what its code raised, at which line, and what to do."""

import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from relprop.errors import CaptureError, RelpropError
from relprop.graph.recording.recorder import ReadsValueError
from relprop.graph.recording.shadow import Shadow
from relprop.inputs import Inputs

_LIBRARIES = (Path(torch.__file__).parent, Path(__file__).parents[2], Path(sysconfig.get_path("stdlib")))
"""Where code lies that is not the user's."""


def refusal(error: Exception, model: nn.Module, inputs: Inputs) -> RelpropError:
    """Return what to raise for an error of a recording: whether the model itself runs on these inputs decides what to do."""
    if isinstance(error, RelpropError):
        return error
    if isinstance(error, ReadsValueError):
        return CaptureError(
            f"The model cannot be captured: it reads a value that depends on the input{_where(error)}, to branch on it or to compute with "
            "it as a number, and other inputs may take another way; take the check out, or write it with torch.where."
        )
    trial = _Trial(model, inputs)
    if trial.error is not None:
        return CaptureError(
            f"The model itself fails on these inputs, in {trial.path or 'the model itself'}: {_told(trial.error)}; "
            "give inputs on which it runs."
        )
    return CaptureError(
        f"The model cannot be captured: {_told(error)}; it runs on these inputs, but is recorded without their values and with batches of "
        "other sizes, so write this line for values that are unknown and for any batch, or capture a part of the model without it."
    )


class _Trial:
    """One call of the model outside of a recording, on copies of the inputs and of what it may write to.

    Attributes:
        error: What it raised; None where it runs.
        path: The module that raised it.
    """

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self.error: Exception | None = None
        self.path = ""
        shadow = Shadow(model, self._call, _ignore).model
        _copy_tensors(shadow)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                inputs.call(shadow, inputs.map(torch.clone).flat)
        except Exception as error:
            self.error = error

    def _call(self, path: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            return forward(*args, **kwargs)
        except Exception:
            self.path = self.path or path  # the innermost one sees it first
            raise


def _ignore(*_: object) -> None:
    """Take no note of what a module returns."""


def _copy_tensors(model: nn.Module) -> None:
    """Put copies in place of buffers and plain attributes, which the model may write to; one of several names stays one."""
    copies: dict[int, Tensor] = {}
    for module in model.modules():
        for held in (module._buffers, vars(module)):  # pyright: ignore[reportPrivateUsage]
            for name, value in held.items():
                if isinstance(value, Tensor):
                    held[name] = copies.setdefault(id(value), value.clone())


def _told(error: Exception) -> str:
    """The error's type, line and message."""
    message = str(error).strip().splitlines()
    return f"{type(error).__name__}{_where(error)}: {message[0].rstrip('.') if message else 'no message'}"


def _where(error: Exception) -> str:
    """The innermost line of the user's code that raised an error."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_of_the_model(frame.filename)]
    return f" at {own[-1].filename}:{own[-1].lineno} in {own[-1].name} (`{own[-1].line}`)" if own else ""


def _is_of_the_model(filename: str) -> bool:
    """Whether a file is the user's: not of torch, this package, Python's standard library, or generated code."""
    path = Path(filename)
    installed = "site-packages" in path.parts
    return not filename.startswith("<") and not any(
        path.is_relative_to(library) and not (installed and library == _LIBRARIES[-1]) for library in _LIBRARIES
    )
