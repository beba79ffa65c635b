"""Classes: from what users pass, an index, a class name, ``top:3`` or integers, to class indices.

A label may hold synonyms, separated by commas (``"tabby, tabby cat"``).
"""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, cast

import torch
from torch import Tensor

from relprop.errors import TargetError, suggestion

_TARGETS = {1: "Output()", 3: "Box(…) or Neuron(None, …)", 4: "Pixels(…) or Neuron(None, …)"}
"""Targets that suit an output, by the number of its dimensions."""
_OTHERS = "Neuron(None, …)"


@dataclass(frozen=True)
class Top:
    """The ``count`` classes with the largest logits."""

    count: int


def class_indices(target: object, logits: Tensor, labels: Sequence[str] | None = None) -> Tensor:
    """Return the class indices to explain, ``(B,)`` or ``(B, K)``.

    Args:
        target: None for the predicted class, an int for all samples, ``(B,)``, or ``(B, K)`` for K maps per sample; class names in the
            place of ints where there are labels; ``"top:K"`` for the classes with the K largest logits.
        logits: The model's output, ``(B, C)``.
        labels: The names of the classes, if they are known.

    Raises:
        TargetError: The output is not ``(B, C)``, or the target is an unknown name, out of range or of the wrong shape.
    """
    if logits.dim() != 2:
        raise TargetError(
            f"The output has shape {tuple(logits.shape)}, not (batch, classes); pass {_TARGETS.get(logits.dim(), _OTHERS)} as target, "
            "or output_relevance=, a tensor of that shape, instead."
        )
    batch, classes = logits.shape
    if target is None:
        return logits.argmax(1)
    if isinstance(target, str):
        target = parse_target(target, labels, classes)
        if isinstance(target, Top):
            return logits.topk(target.count, 1).indices
    indices = _as_indices(_indexed(target, lambda name: _index(name, labels, classes)))
    if indices.dim() == 0:
        indices = indices.expand(batch)
    indices = indices.to(logits.device)
    if indices.dim() > 2 or indices.shape[0] != batch or indices.numel() == 0:
        raise TargetError(
            f"The target has shape {tuple(indices.shape)}; for {batch} samples it must be an int, ({batch},) or ({batch}, K)."
        )
    outside = indices[(indices < 0) | (indices >= classes)]
    if len(outside):
        raise TargetError(f"Target {int(outside[0])} is out of range; the model has classes 0 to {classes - 1}.")
    return indices


def class_index(name: object, labels: Sequence[str] | None, classes: int) -> int:
    """Return the index of one class, given by its index or its name.

    Raises:
        TargetError: It is neither, unknown, or out of range.
    """
    if isinstance(name, str):
        return _index(name, labels, classes)
    index = whole(name)
    if index is None:
        raise TargetError(f"A class is an index or a name, not {name!r}.")
    return _number(str(index), str(index), 0, classes - 1)


def whole(value: object) -> int | None:
    """Return an integer of Python, NumPy or torch as an int; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:  # a tensor of several numbers, or of another dtype
        return None


def _indexed(target: Any, index: Callable[[str], int]) -> Any:  # noqa: ANN401 - lists as users nest them
    """Replace the names in lists by indices."""
    if isinstance(target, str):
        return index(target)
    if isinstance(target, list | tuple):
        return [_indexed(part, index) for part in cast("Sequence[Any]", target)]
    return target


def _index(name: str, labels: Sequence[str] | None, classes: int) -> int:
    found = parse_target(name, labels, classes)
    if isinstance(found, Top):
        raise TargetError(f"The target {name!r} names the classes of all samples; give it alone.")
    return found


def _as_indices(target: Any) -> Tensor:  # noqa: ANN401 - whatever the user passed
    try:
        indices = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError):
        raise TargetError(f"The target must be an int or integers of shape (batch,) or (batch, K), not {target!r}.") from None
    if indices.numel() == 0:
        raise TargetError("The target names no class; pass None for the predicted one.")
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise TargetError(f"The target must be integers, not {indices.dtype}.")
    return indices.long()


def parse_target(text: str, labels: Sequence[str] | None = None, num_classes: int | None = None) -> int | Top:
    """Parse ``"281"``, ``"tabby cat"`` or ``"top:3"`` into a class index or a ``Top``.

    Raises:
        TargetError: An unknown or ambiguous name, or a number out of range.
    """
    text = text.strip()
    count = num_classes if num_classes is not None else len(labels) if labels is not None else None
    if text.lower().startswith("top:"):
        return Top(_number(text[4:], text, 1, count))
    if text.removeprefix("-").isdecimal():
        return _number(text, text, 0, None if count is None else count - 1)
    if labels is None:
        raise TargetError(f"The model has no class names, so the target {text!r} must be a class index or top:K.")
    return _index_of(text, labels)


def _number(digits: str, text: str, low: int, high: int | None) -> int:
    try:
        value = int(digits) if digits.strip().removeprefix("-").isdecimal() else None
    except ValueError:  # a number of thousands of digits
        value = None
    if value is None or value < low or (high is not None and value > high):
        limits = f"from {low} to {high}" if high is not None else f"from {low} on"
        raise TargetError(f"The target {text!r} is out of range: the number goes {limits}.")
    return value


def _index_of(name: str, labels: Sequence[str]) -> int:
    """Return the index of the label that equals the name, else of the only label with it as a synonym."""
    wanted = name.casefold()
    whole = [index for index, label in enumerate(labels) if label.casefold() == wanted]
    found = whole or [index for index, label in enumerate(labels) if wanted in _synonyms(label)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"{index} ({labels[index]})" for index in found)
        raise TargetError(f"{name!r} names several classes: {listed}; give the class index.")
    raise TargetError(f"There is no class {name!r}.{_suggestion(wanted, labels)}")


def _synonyms(label: str) -> list[str]:
    return [part.strip().casefold() for part in label.split(",")]


def _suggestion(wanted: str, labels: Sequence[str]) -> str:
    """Suggest the names with these words, else those of a like spelling, else those that contain the letters."""
    names = list(dict.fromkeys(part.strip() for label in labels for part in label.split(",")))
    words = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
    return _listed(names, words.search) or suggestion(wanted, names) or _listed(names, lambda name: wanted in name)


def _listed(names: Sequence[str], fits: Callable[[str], object], most: int = 5) -> str:
    near = [name for name in names if fits(name.casefold())]
    more = ", …" * (len(near) > most)
    return f" Did you mean {' or '.join(map(repr, near[:most]))}{more}?" if near else ""
