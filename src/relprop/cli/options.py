"""From the text of the command line to values."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relprop.errors import OptionError, cut
from relprop.text import plain_value

if TYPE_CHECKING:
    import torch


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` texts: numbers, true, false, null and lists as in JSON, anything else as a string.

    Raises:
        OptionError: A text is no ``KEY=VALUE``.
    """
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise OptionError(f"The option {text!r} is not of the form KEY=VALUE.")
        options[key.strip().replace("-", "_")] = plain_value(value.strip())
    return options


def method_label(method: str) -> str:
    """Return what stands for a method in pictures and file names: its name, or that of its TOML file without folder and suffix."""
    return Path(method).stem if method.endswith(".toml") else method


def parse_device(name: str) -> "torch.device":
    """Return the device of this name.

    Raises:
        OptionError: Torch does not know it or cannot use it here.
    """
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device).tolist()  # a device must hold values, which "meta" does not
    except (RuntimeError, AssertionError, NotImplementedError, ModuleNotFoundError) as error:
        reason = cut(str(error).strip().splitlines()[0].rstrip("."), 200)
        raise OptionError(f"The device {name!r} cannot be used here ({reason}).") from error
    return device
