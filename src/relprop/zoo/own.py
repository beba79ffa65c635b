"""What the user says about a model of one's own: class names, preprocessing and the activation of its head."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relprop.errors import InputError, OptionError, RelpropError
from relprop.zoo.model import LoadedModel
from relprop.zoo.preprocessing import Preprocessing


@dataclass(frozen=True)
class Own:
    """What the user says, as typed on a command line; None where nothing is said and the model's own holds.

    Attributes:
        labels: A file of class names: one per line, or JSON.
        mean: Mean of each channel after ``scale``: one number, or one per channel, separated by commas.
        std: Standard deviation of each channel, likewise.
        scale: Factor on the pixel values 0 to 255, such as ``"1/255"``.
        size: Side of the input in pixels, or height and width: ``"224x160"``.
        activation: What makes probabilities of the logits, see :mod:`relprop.heads`.
        tensor: Which of several tensors that the model returns is explained, see :func:`relprop.capture`.
    """

    labels: Path | None = None
    mean: str | None = None
    std: str | None = None
    scale: str | None = None
    size: str | None = None
    activation: str | None = None
    tensor: str | None = None

    @property
    def preprocessing(self) -> dict[str, str]:
        """What is said of the preprocessing, by name."""
        return {name: text for name in ("mean", "std", "scale", "size") if (text := getattr(self, name)) is not None}


def adapted(loaded: LoadedModel, own: Own) -> LoadedModel:
    """Return a model with the user's class names, preprocessing and activation in the place of its own.

    Raises:
        OptionError: A value that cannot be read or used, or class names of another number than the model's classes.
        InputError: The file of class names cannot be read.
    """
    given = own.preprocessing
    preprocessing = _changed(loaded.preprocessing, given)
    notes = tuple(note for note in loaded.notes if not given or "gives no Preprocessing" not in note)
    said = {"activation": own.activation or loaded.activation, "output": own.tensor or loaded.output}
    adapted = replace(loaded, preprocessing=preprocessing, notes=notes, **said)
    if own.labels is None:
        return adapted
    labels, classes = read_labels(own.labels), _number_of_classes(adapted)
    if classes not in {None, len(labels)}:
        raise OptionError(f"{own.labels} has {len(labels)} class names, and {loaded.name} has {classes} classes.")
    return replace(adapted, labels=labels)


def read_labels(path: Path) -> tuple[str, ...]:
    """Read class names: one per line, or JSON, a list or a table of names by index.

    Raises:
        InputError: The file cannot be read, or holds no names.
    """
    try:
        text = path.read_text("utf-8")
        found: Any = json.loads(text) if path.suffix.lower() == ".json" else [line.strip() for line in text.splitlines()]
        if isinstance(found, dict):
            found = [found[key] for key in sorted(found, key=int)]
    except OSError as error:
        raise InputError(f"The class names {path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"The class names {path} cannot be read: {str(error).partition(chr(10))[0]}.") from error
    names = list(found) if isinstance(found, list) else []
    while names and not names[-1]:
        names.pop()
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"The class names {path} must be one per line, or a JSON list or table of names by index.")
    return tuple(names)


def _changed(preprocessing: Preprocessing, given: dict[str, str]) -> Preprocessing:
    """Return the preprocessing with the values given; a new size is that of the whole image, its shorter side resized to it."""
    channels = len(preprocessing.channels)
    changes: dict[str, Any] = {}
    for name in given.keys() & {"mean", "std"}:
        values = _numbers(name, given[name])
        changes[name] = values * channels if len(values) == 1 else values
        if len(changes[name]) != channels or (name == "std" and min(changes[name]) <= 0):
            raise OptionError(f"--{name} {given[name]} must be one or {channels} numbers{' above 0' * (name == 'std')}.")
    if "scale" in given:
        (changes["scale"],) = _numbers("scale", given["scale"], count=1)
    if "size" in given:
        size = [int(value) for value in _numbers("size", given["size"].replace("x", ","), whole=True)]
        if len(size) > 2 or not all(1 <= side <= 8192 for side in size):
            raise OptionError(
                f"--size {given['size']} must be a side in pixels, such as 224, or height and width, such as 224x160."
            )
        changes |= {"size": (size[0], size[-1]), "resize": size[0] if len(size) == 1 else tuple(size)}
    return replace(preprocessing, **changes)


def _numbers(name: str, text: str, *, count: int | None = None, whole: bool = False) -> tuple[float, ...]:
    """Read ``0.5``, ``1/255`` or ``0.485,0.456,0.406``."""
    try:
        parts = [[float(side) for side in part.split("/")] for part in text.split(",")]
        values = tuple(part[0] if len(part) == 1 else part[0] / part[1] for part in parts if len(part) <= 2)
    except (ValueError, ZeroDivisionError):
        values = ()
    wrong = not values or len(values) != text.count(",") + 1 or not all(map(math.isfinite, values))
    if wrong or (count and len(values) != count) or (whole and any(value % 1 for value in values)):
        raise OptionError(f"--{name} {text} is not {'a number' if count == 1 else 'numbers separated by commas'}.")
    return values


def _number_of_classes(loaded: LoadedModel) -> int | None:
    """Return the number of classes, from one forward pass; None where the model does not return logits."""
    try:
        with torch.no_grad():
            logits = loaded.model(loaded.preprocessing.zeros())
    except (RelpropError, RuntimeError, TypeError, ValueError):
        return None
    logits = getattr(logits, "logits", logits)
    return logits.shape[-1] if isinstance(logits, Tensor) and logits.dim() == 2 else None
