"""Text: tables, text that commands no terminal, names and values as typed on a command line, class names."""

import json
import re
import unicodedata
from collections.abc import Sequence
from html import escape
from typing import Any

from relprop.errors import InputError


def draw_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, the header underlined."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [lines[0], "  ".join("─" * width for width in widths), *lines[1:]]


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Return a table as HTML, in which texts are shown as they are; it scrolls where it is long."""
    head = "".join(f"<th style='text-align:left'>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td style='text-align:left'>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div style='max-height:30em;overflow:auto'>{table}</div>{below}"


def plain_value(text: str) -> Any:  # noqa: ANN401 - whatever the option takes
    """Read a number, true, false, null, list or table as in JSON, anything else as a string; so numbers and lists beyond Python's limits."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text, text)


def shown(values: Sequence[object], most: int = 4) -> str:
    """Return a list as Python writes it; of a longer one than ``most``, the first values."""
    return f"[{', '.join(map(str, values[:most]))}{', …' * (len(values) > most)}]"


def percent(share: float, digits: int = 0) -> str:
    """Return a probability in percent; one that would round to 0 or, below 1, to 100 is told as ``"<0.1%"`` or ``">99.9%"``."""
    least = 10.0 ** -(2 + digits)
    text = f"{share:.{digits}%}"
    if float(text[:-1]) == 0:
        return f"<{least:.{digits}%}"
    return f">{1 - least:.{digits}%}" if float(text[:-1]) == 100 and share < 1 else text


def counted(number: int, what: str) -> str:
    """Return a number with its noun: ``"1 row"``, ``"2 rows"``."""
    return f"{number} {what}{'s' * (number != 1)}"


_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    """Return text with the characters that command a terminal, such as ESC, written as escapes: they are shown and not obeyed."""
    return "".join(_escape(mark) if _commands(mark) else mark for mark in text)


def storable(text: str) -> str:
    """Return text that UTF-8 can hold: the bytes of a file's name that are no UTF-8 become escapes."""
    return text.encode(errors="backslashreplace").decode()


def _commands(mark: str) -> bool:
    return mark not in "\n\t" and (mark in _DIRECTIONS or unicodedata.category(mark) in {"Cc", "Cs"})


def _escape(mark: str) -> str:
    return mark.encode("unicode_escape").decode("ascii")


def split_list(text: str) -> list[str]:
    """Split at commas outside of brackets and braces: ``"rap,sensitivity-n:shares=[0.1,0.3]"`` has two parts."""
    parts = re.findall(r"(?:\[[^\]]*\]|\{[^}]*\}|[^,])+", text)
    return [part.strip() for part in parts if part.strip()]


def split_options(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``NAME:KEY=VALUE:KEY=VALUE`` into the name and the values by option.

    Only a colon before ``KEY=`` divides; others belong to the name (``quantus:MPRT``) or to a value (``threshold=percentile:90``).
    """
    name, *parts = re.split(r":(?=[A-Za-z_][\w-]*=)", text.strip())
    pairs = [part.partition("=") for part in parts]
    return name, {key.replace("-", "_"): plain_value(value) for key, _, value in pairs}


def split_weights(text: str) -> tuple[str, str | None]:
    """Split ``MODEL=WEIGHTS``; None without weights. The path of a Python file, ``a=b/net.py:build``, may have equals signs itself."""
    code = re.match(r".*?\.py:\w+", text)
    end = code.end() if code and text[code.end() :][:1] in {"", "="} else len(text.partition("=")[0])
    return text[:end], text[end + 1 :] if end < len(text) else None


def short(label: str) -> str:
    """Return the first of a label's synonyms."""
    return label.split(",", maxsplit=1)[0].strip()


def check_labels(labels: Sequence[str] | None, classes: int) -> None:
    """Refuse class names of another number than the classes.

    Raises:
        InputError: The numbers differ.
    """
    if labels is not None and len(labels) != classes:
        raise InputError(f"There are {len(labels)} class names for a model of {classes} classes; give one name per class.")


def class_name(index: int, labels: Sequence[str] | None) -> str:
    """Return what a picture calls a class: its short label, or ``"class 7"`` where there are no labels."""
    return short(labels[index]) if labels is not None and index < len(labels) else f"class {index}"


def numbered_class(index: int, labels: Sequence[str] | None) -> str:
    """Return what a sentence calls a class: ``"tabby (class 281)"``, or ``"class 281"`` where there are no labels."""
    name, number = class_name(index, labels), f"class {index}"
    return number if name == number else f"{name} ({number})"
