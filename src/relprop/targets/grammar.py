"""Targets as text: ``KIND:ARGUMENTS:KEY=VALUE``, such as ``contrast:281,285`` or ``pixels:15:point=100x120``."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from relprop.errors import TargetError, suggestion
from relprop.targets.kinds import Binary, Box, Class, Classes, Contrast, Neuron, Output, Pixels, Similarity, Target
from relprop.text import split_list, split_options

GRAMMAR = (
    ("class:A", "the logit of class A"),
    ("classes:A,B,…", "a map of each class; with :together=true one map of the sum of their logits"),
    ("contrast:A,B", "class A rather than class B; without B the strongest other, without A the predicted one"),
    ("output", "the number that the model returns; output:I one of several; :reference=Y what it is compared with"),
    ("binary:A", "label A of a model with a sigmoid for each"),
    ("pixels:A", "class A where a segmentation predicts it; or :point=ROWxCOLUMN, :box=LEFTxTOPxRIGHTxBOTTOM, :mask=FILE.npy"),
    ("box:I,A", "class A at box I of a detector's raw head"),
    ("similarity:FILE.npy", "the cosine of the embedding to a vector; :measure=dot"),
    ("neuron:LAYER,I", "channel I of a module's output; neuron:LAYER,IxJxK one element"),
)
"""Every form with what it explains; a class is an index or a name."""


def read_target(target: object, labels: Sequence[str] | None = None) -> object:
    """Read a text of :data:`GRAMMAR` as a target; a class, ``top:K`` and anything that is no text stays as it is.

    Raises:
        TargetError: The text begins as one of them and goes on otherwise.
    """
    if isinstance(target, list | tuple):
        return [read_target(part, labels) for part in target] if any(_kind_of(part, labels) for part in target) else target  # pyright: ignore[reportUnknownVariableType]
    kind = _kind_of(target, labels)
    return target if kind is None else _read(str(target), kind)


def _kind_of(target: object, labels: Sequence[str] | None) -> str | None:
    """The kind that a text names; None for the name of a class."""
    if not isinstance(target, str) or (labels is not None and target in labels):
        return None
    kind = target.strip().partition(":")[0].strip().lower()
    return kind if kind in _READERS else None


def _read(text: str, kind: str) -> Target:
    name, options = split_options(text)
    rest = split_list(name.partition(":")[2])
    make, most, known = _READERS[kind]
    form = next(form for form, _ in GRAMMAR if re.match(rf"{kind}\b", form))
    for key in options:
        if key not in known:
            listed = f"its options: {', '.join(known)}" if known else "it has none"
            raise TargetError(f"The target {text!r} has no option {key!r}; {listed}.{suggestion(key, known)}")
    try:
        if len(rest) <= most:
            return make(rest, options)
    except TargetError:
        raise
    except (ValueError, IndexError, TypeError):
        pass
    raise TargetError(f"The target {text!r} is not of the form {form!r}; a key follows a colon, as in pixels:15:point=3x4.")


def _index(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdecimal() else text


def _sizes(text: object) -> tuple[int, ...]:
    return tuple(int(part) for part in str(text).split("x"))


def _first(rest: list[str]) -> int | str | None:
    return _index(rest[0]) if rest else None


def _classes(rest: list[str], options: Mapping[str, Any]) -> Classes:
    together = options.get("together", False)
    if not rest or not isinstance(together, bool):
        raise ValueError
    return Classes([_index(text) for text in rest], together=together)


def _output(rest: list[str], options: Mapping[str, Any]) -> Output:
    return Output(int(rest[0]) if rest else None, reference=float(options.get("reference", 0.0)))


def _pixels(rest: list[str], options: Mapping[str, Any]) -> Pixels:
    places = {key: _sizes(options[key]) for key in ("point", "box") if key in options}
    mask = _array(options["mask"]) if "mask" in options else None
    return Pixels(_first(rest), mask=mask, **places)


def _box(rest: list[str], _: Mapping[str, Any]) -> Box:
    return Box(int(rest[0]) if rest else None, _index(rest[1]) if len(rest) > 1 else None)


def _similarity(rest: list[str], options: Mapping[str, Any]) -> Similarity:
    return Similarity(_array(rest[0]), measure=options.get("measure", "cosine"))


def _neuron(rest: list[str], _: Mapping[str, Any]) -> Neuron:
    place = _sizes(rest[-1])
    return Neuron(rest[0] if len(rest) > 1 else None, place[0] if len(place) == 1 else place)


def _array(path: object) -> Any:  # noqa: ANN401 - a NumPy array
    """Read an ``.npy`` file, which is never unpickled.

    Raises:
        TargetError: It is no such file.
    """
    import numpy as np

    try:
        return np.load(Path(str(path)), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TargetError(f"{str(path)!r} is no .npy file of numbers that can be read ({error}).") from error


_Reader = Callable[[list[str], Mapping[str, Any]], Target]

_READERS: Mapping[str, tuple[_Reader, int, tuple[str, ...]]] = {
    "class": (lambda rest, _: Class(_index(rest[0])), 1, ()),
    "classes": (_classes, 1_000_000, ("together",)),
    "contrast": (lambda rest, _: Contrast(*map(_index, rest)), 2, ()),
    "output": (_output, 1, ("reference",)),
    "binary": (lambda rest, _: Binary(_index(rest[0])), 1, ()),
    "pixels": (_pixels, 1, ("point", "box", "mask")),
    "box": (_box, 2, ()),
    "similarity": (_similarity, 1, ("measure",)),
    "neuron": (_neuron, 2, ()),
}
"""By kind: what makes the target of arguments and options, the most arguments, and the options."""
