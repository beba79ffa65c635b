"""Options given by name, checked against the signature of what takes them."""

import inspect
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from relprop.errors import OptionError, suggestion

LARGEST = 2**63 - 1
"""The largest integer that torch takes, as a seed or a size."""


def check_options(owner: str, known: Mapping[str, inspect.Parameter], given: Mapping[str, Any]) -> None:
    """Check options against the signature of what takes them.

    Args:
        owner: What takes them, as an error names it, such as ``"method 'rap'"``.
        known: Its parameters.
        given: Values by option.

    Raises:
        OptionError: An unknown option, or a value of the wrong type, or an integer beyond 64 bits.
    """
    for key, value in given.items():
        if key not in known:
            listed = ", ".join(known) or "none"
            raise OptionError(
                f"{owner[:1].upper()}{owner[1:]} has no option {key!r}.{suggestion(key, known)} Its options: {listed}."
            )
        if isinstance(value, int) and abs(value) > LARGEST:
            raise OptionError(f"Option {key} of {owner} is an integer beyond 64 bits.")
        check_option(owner, key, value, known[key].annotation)


def check_option(owner: str, key: str, value: object, annotation: Any) -> None:  # noqa: ANN401 - a type form
    """Check one value against the annotation of its parameter; an annotation that is no type is not checked.

    Raises:
        OptionError: It is of the wrong type, or none of the choices.
    """
    if annotation is inspect.Parameter.empty:
        return
    parts = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    choices = tuple(choice for part in parts if get_origin(part) is Literal for choice in get_args(part))
    kinds = tuple(get_origin(part) or part for part in parts if get_origin(part) is not Literal)
    if not all(isinstance(kind, type) for kind in kinds):
        return
    fits = any(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) for kind in kinds)
    fits = fits or (float in kinds and isinstance(value, int) and not isinstance(value, bool))
    if fits or value in choices:
        return
    names = [*map(repr, choices), *("None" if kind is NoneType else kind.__name__ for kind in kinds)]
    if choices:
        near = suggestion(str(value), map(str, choices))
        raise OptionError(f"Option {key}={value!r} of {owner} must be one of {', '.join(names)}.{near}")
    raise OptionError(f"Option {key}={value!r} of {owner} must be {' or '.join(names)}.")
