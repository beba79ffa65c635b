"""Custom gradients: calls of ``torch.autograd.Function``, whose gradient is not that of the ops that it runs; and values made without gradients."""

import sys
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor

_APPLY: CodeType = torch.autograd.Function.apply.__func__.__code__  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue]


@dataclass(frozen=True)
class Slot:
    """Stands for the tensor number ``index`` among the arguments of a call."""

    index: int


@dataclass(frozen=True)
class CustomGradient:
    """A value with the gradient of a ``torch.autograd.Function``: ``(value, *tensors) -> value``.

    Attributes:
        function: The function.
        arguments: Its arguments, tensors as :class:`Slot`.
        item: Which of its results the value is; None for the only one.
    """

    function: Any
    arguments: tuple[Any, ...]
    item: int | None = None

    @property
    def __name__(self) -> str:
        """The name, as messages call the op."""
        return f"{self.function.__name__}.apply"

    def __call__(self, value: Tensor, *_: Tensor) -> Tensor:
        """Return the value."""
        return value

    def apply(self, *tensors: Tensor) -> Tensor:
        """Call the function, with its own gradient."""
        result = self.function.apply(*_filled(self.arguments, tensors))
        return result if self.item is None else result[self.item]


@dataclass(frozen=True)
class Applied:
    """``(*tensors) -> value``: a call of a ``torch.autograd.Function``."""

    gradient: CustomGradient

    @property
    def __name__(self) -> str:
        """The name, as messages call the op."""
        return self.gradient.__name__

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Call the function."""
        return self.gradient.apply(*tensors)


def stop_gradient(value: Tensor) -> Tensor:
    """Return a value that the model makes with gradients off."""
    return value.detach()


@dataclass
class Region:
    """One running call of a ``torch.autograd.Function``.

    Attributes:
        frame: Its Python frame.
        begun: How many nodes were recorded before.
        function: Its class.
        args: Its arguments.
    """

    frame: FrameType
    begun: int
    function: Any
    args: tuple[Any, ...]


def running_function() -> tuple[FrameType | None, bool]:
    """The frame of the outermost call of a user's ``torch.autograd.Function`` on this thread's stack; whether any, torch's too, is running."""
    found, running, frame = None, False, sys._getframe()  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_code is _APPLY:
            running = True
            if not frame.f_locals["cls"].__module__.startswith("torch."):  # those of checkpointing have the gradient of their ops
                found = frame
        frame = frame.f_back
    return found, running


def emptied(arguments: Any, tensors: list[Tensor]) -> Any:  # noqa: ANN401 - arguments of a call
    """Return arguments with slots in place of tensors, which are appended to ``tensors``."""
    if isinstance(arguments, Tensor):
        tensors.append(arguments)
        return Slot(len(tensors) - 1)
    if isinstance(arguments, list | tuple):
        return tuple(emptied(item, tensors) for item in arguments)
    return arguments


def _filled(arguments: Any, tensors: tuple[Tensor, ...]) -> Any:  # noqa: ANN401
    if isinstance(arguments, Slot):
        return tensors[arguments.index]
    return tuple(_filled(item, tensors) for item in arguments) if isinstance(arguments, tuple) else arguments
