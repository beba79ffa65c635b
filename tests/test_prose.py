"""The conventions of docstrings, which a linter does not know."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "relprop"
FILES = sorted(SOURCE.rglob("*.py"))

CODE = re.compile(r"``.*?``", re.DOTALL)
ROLE = re.compile(r":\w+:`[^`]*`")
NAMED = re.compile(r"(?P<name>[\w*., ]+?)(?: \([^)]*\))?: (?P<text>.+)")
ENTRIES = {"Args": True, "Attributes": True, "Raises": True, "Returns": False, "Yields": False}
"""The sections that have entries, and whether an entry begins with a name."""


def docstrings(text: str) -> Iterator[str]:
    """Yield every string that stands as a statement: docstrings, and those below a variable."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def entries(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield (section, first line) of every entry of the sections."""
    lines = docstring.expandtabs().splitlines()
    margin = min((len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()), default=0)
    section = ""
    begun = False
    for line in lines[1:]:
        body = line[margin:]
        if body and not body.startswith(" "):
            section, begun = body.removesuffix(":"), False
        elif section in ENTRIES and re.match(r" {4}\S", body) and (ENTRIES[section] or not begun):
            begun = True
            yield section, body.strip()


def spoken(section: str, line: str) -> str:
    """Return the text of an entry without its name."""
    match = NAMED.fullmatch(line) if ENTRIES[section] else None
    return match["text"] if match else line


def single_backticks(docstring: str) -> list[str]:
    return [line for line in ROLE.sub("", CODE.sub("", docstring)).splitlines() if "`" in line]


def lower_case_entries(docstring: str) -> list[str]:
    return [f"{section}: {line}" for section, line in entries(docstring) if spoken(section, line)[:1].islower()]


def one_word_data_sets(docstring: str) -> list[str]:
    names = re.compile(r"^\s*\w+: ", re.MULTILINE)  # the name of an argument is an identifier
    prose = names.sub("", ROLE.sub("", CODE.sub("", docstring)))
    return [line for line in prose.splitlines() if re.search(r"(?<![\w.])datasets?(?![\w.]\w)", line, re.IGNORECASE)]


CONVENTIONS = (single_backticks, lower_case_entries, one_word_data_sets)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_docstrings_keep_the_conventions(path):
    text = path.read_text("utf-8")
    assert [(rule.__name__, found) for rule in CONVENTIONS for doc in docstrings(text) if (found := rule(doc))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_file_postpones_its_annotations(path):
    assert "from __future__ import annotations" not in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (single_backticks, "See `kernel`.", "See ``kernel`` and :class:`Kernel`."),
        (
            lower_case_entries,
            "A.\n\n    Args:\n        x: the input.\n    ",
            "A.\n\n    Args:\n        x: The input,\n            once.\n    ",
        ),
        (
            lower_case_entries,
            "A.\n\n    Returns:\n        the sum.\n    ",
            "A.\n\n    Returns:\n        The sum\n        of all.\n    ",
        ),
        (
            lower_case_entries,
            "A.\n\n    Raises:\n        OptionError: no.\n    ",
            "A.\n\n    Raises:\n        OptionError: No.\n    ",
        ),
        (one_word_data_sets, "Open a dataset.", "Open a data set with ``open_dataset``, a ``Dataset``."),
        (one_word_data_sets, "Args:\n    dataset: The dataset.", "Args:\n    dataset: The images."),
    ],
)
def test_the_conventions_are_told_apart(rule, bad, good):
    assert rule(bad)
    assert not rule(good)
