"""Text: tables, values typed on a command line, class names."""

import json
from collections.abc import Sequence
from typing import Any


def draw_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, the header underlined."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [lines[0], "  ".join("─" * width for width in widths), *lines[1:]]


def plain_value(text: str) -> Any:  # noqa: ANN401 - whatever the option takes
    """Read a number, true, false, null or list as in JSON, anything else as a string; so numbers and lists beyond Python's limits."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text, text)


def short(label: str) -> str:
    """Return the first of a label's synonyms."""
    return label.split(",", maxsplit=1)[0].strip()


def class_name(index: int, labels: Sequence[str] | None) -> str:
    """Return what a picture calls a class: its short label, or ``"class 7"`` where there are no labels."""
    return short(labels[index]) if labels is not None and index < len(labels) else f"class {index}"
