"""Class names: ImageNet's labels, and parsing a target into a class index.

A label may hold synonyms, separated by commas (``"tabby, tabby cat"``); figures show the first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from relprop.errors import TargetError, suggestion


@dataclass(frozen=True)
class Top:
    """The ``count`` classes with the largest logits."""

    count: int


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the 1000 labels of ILSVRC 2012, ordered by sorted WordNet id, each with its WordNet synonyms."""
    return tuple(files("relprop.zoo").joinpath("imagenet_classes.txt").read_text("utf-8").splitlines())


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
    names = [part.strip() for label in labels for part in label.split(",")]
    return suggestion(wanted, names) or _containing(wanted, names)


def _containing(wanted: str, names: Iterable[str]) -> str:
    near = [name for name in names if wanted in name.casefold()][:3]
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
