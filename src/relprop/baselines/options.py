"""Checks and conversions of options that several baselines share."""

import importlib
from types import ModuleType

import torch
from torch import Tensor

from relprop.errors import ModelError, OptionError


def at_least(minimum: float, **options: float | None) -> None:
    """Refuse options below ``minimum``.

    Raises:
        OptionError: One is too small; the message names it.
    """
    for name, value in options.items():
        if value is not None and value < minimum:
            raise OptionError(f"Option {name}={value!r} must be at least {minimum:g}.")


def as_reference(value: float | Tensor, like: Tensor, name: str = "baseline") -> Tensor:
    """Return a reference input shaped like one batch: a number everywhere, or a tensor that broadcasts over the samples.

    Raises:
        OptionError: The tensor does not fit the input, or is not finite.
    """
    reference = value.to(like) if isinstance(value, Tensor) else torch.tensor(value, dtype=like.dtype, device=like.device)
    if not bool(torch.isfinite(reference).all()):
        raise OptionError(f"Option {name} holds NaN or infinite values.")
    try:
        return reference.expand_as(like)
    except RuntimeError:
        wanted = " × ".join(map(str, like.shape[1:]))
        raise OptionError(
            f"Option {name} has shape {tuple(reference.shape)}; it must be a number or fit a sample, {wanted}."
        ) from None


def optional(module: str, package: str) -> ModuleType:
    """Import a library of the extra ``baselines``.

    Raises:
        ModelError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelError(f'This method needs {package}; install it with: pip install "relprop[baselines]" ({error}).') from error
