"""The file ``run.json`` of a results folder: its settings, read and checked against their shape."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from relprop.errors import InputError
from relprop.files import as_path

RUN = "run.json"
FORMAT = 1

_CHOICES = [{"name": str, "options": dict}]
SHAPE: Mapping[str, Any] = {
    "content": dict,
    "images": {"count": int, "digest": str},
    "blocks": int,
    "models": [{"name": str, "weights": str}],
    "methods": _CHOICES,
    "metrics": _CHOICES,
    "left_out": [{"model": str, "method": str, "metric": (str, type(None)), "reason": str}],
    "metric_sets": {str: [str]},
    "fingerprints": {str: str},
}
"""The settings that every run has: a type, several types, a list of one shape, a table with these keys, or one with any (``str``)."""


def read_settings(folder: Path | str) -> dict[str, Any]:
    """Return the content of ``run.json``.

    Its keys: ``format``; ``content`` (the settings that decide the rows); ``images`` (``count``, ``digest``) and ``blocks``; ``models``, ``methods``
    and ``metrics``, everything ever requested in this folder, as tables with their options; ``metric_sets`` (the metrics of a
    part file by the digest in its name); ``fingerprints`` (of the weights); ``left_out`` (``model``, ``method``, ``metric`` or null, ``reason``);
    ``problems`` of the data set; the versions ``relprop`` and ``torch``.

    Raises:
        InputError: The folder holds no evaluation, or its ``run.json`` is damaged.
    """
    path = as_path(folder, "The folder of results") / RUN
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} holds no evaluation; there is no {RUN} in it.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error).partition("\n")[0]) from error
    if not isinstance(settings, dict):
        raise _damaged(path, f"it holds no table, but a {type(settings).__name__}")
    if settings.get("format") != FORMAT:
        raise InputError(f"{path} is not of format {FORMAT}; it was written by another version of relprop.")
    wrong = _misfit(settings, SHAPE)
    if wrong is not None:
        raise _damaged(path, f"{wrong} is missing or of another form")
    return cast("dict[str, Any]", settings)


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is damaged ({reason}); put back a copy of it, or take another folder.")


def _misfit(value: Any, shape: Any, place: str = "") -> str | None:  # noqa: ANN401 - any JSON
    """Return the place of the first part of a value that does not have its shape, such as ``models.0.name``; None if all have."""
    if isinstance(shape, type | tuple):
        fits = isinstance(value, cast("type", shape)) and not isinstance(value, bool)
        return None if fits else place
    kind = list if isinstance(shape, list) else dict
    if not isinstance(value, kind):
        return place
    for key, inner in _inner(value, shape):
        entry = value[key] if isinstance(value, list) or key in value else None
        wrong = _misfit(entry, inner, f"{place}.{key}".lstrip("."))
        if wrong is not None:
            return wrong
    return None


def _inner(value: Any, shape: Sequence[Any] | Mapping[Any, Any]) -> Sequence[tuple[Any, Any]]:  # noqa: ANN401
    """Return the keys of a list or table with the shape of each."""
    if not isinstance(shape, Mapping):
        return [(number, shape[0]) for number in range(len(value))]
    return [(key, shape[str]) for key in value] if str in shape else list(shape.items())
