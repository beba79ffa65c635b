"""Names from files, models and error messages as plain text, whatever stands in them: Markdown, CSV, and comments of LaTeX."""

import re

from relprop.text import visible

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", **{mark: f"\\{mark}" for mark in "\\`*"}})
_LINK = re.compile(r"\](?=[(:\[])")
_BLOCK = re.compile(r"^(?=[#+=~-])|(?<=^\d)(?=[.)])")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def one_line(text: str) -> str:
    """Return text on one line, with control characters as their escapes."""
    return visible(" ".join(text.split()))


def inline(text: str) -> str:
    """Return text for the middle of a line of Markdown: no HTML, link, emphasis or code."""
    return _LINK.sub(r"]\\", one_line(text).translate(_HTML))


def in_table(text: str) -> str:
    """Return text for a cell of a table of Markdown: as :func:`inline`, and no border."""
    return inline(text).replace("|", "\\|")


def block(text: str) -> str:
    """Return text for the beginning of a block of Markdown, such as an entry of a list: as :func:`inline`, and no heading or list."""
    return _BLOCK.sub(r"\\", inline(text))


def csv_cell(value: object) -> object:
    """Return a value for a CSV file; text that a spreadsheet would take for a formula has an apostrophe before it."""
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
