"""From the text of the command line to values."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relprop.errors import OptionError, cut
from relprop.text import plain_value, split_options, split_weights

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


def refuse_with(what: str, given: Mapping[str, object]) -> None:
    """Refuse options that say nothing about what is written.

    Raises:
        OptionError: One of them is given.
    """
    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise OptionError(f"{what}; leave out {', '.join(wrong)}.")


def method_label(method: str) -> str:
    """Return what stands for a method in file names: its name, or that of its TOML file without folder and suffix, and its options."""
    name, _ = split_options(method)
    stem = Path(name).stem if name.endswith(".toml") else name
    return re.sub(r"[^\w.+-]+", "-", stem + method.removeprefix(name)).strip("-")


def model_and_weights(model: str, weights: Path | None) -> tuple[str, Path | None]:
    """Read ``--model NAME[=WEIGHTS]`` and ``--weights [NAME=]FILE``.

    Raises:
        OptionError: The weights are given twice, or the name of a file is missing.
    """
    name, inline = split_weights(model)
    if inline == "":
        raise OptionError(f"--model {model} names no file of weights; write NAME=WEIGHTS.")
    if inline and weights:
        raise OptionError(f"The weights of {name} are given twice: {inline} and {weights}.")
    if inline:
        return name, Path(inline)
    return name, Path(str(weights).removeprefix(f"{name}=")) if weights else None


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
