"""The terminal shows names as they are and obeys none of them."""

import io

from rich.table import Table

from relprop.cli.terminal import PlainConsole
from relprop.text import visible


def shown(print_it):
    file = io.StringIO()
    print_it(PlainConsole(file=file, force_terminal=True, color_system=None, width=80))
    return file.getvalue()


def test_control_characters_are_shown():
    assert (
        visible("a\x1b[2Jb\x07\x9b\x7f\u202e\udcff\tc\nd é 👩\u200d🔬")
        == r"a\x1b[2Jb\x07\x9b\x7f\u202e\udcff" + "\tc\nd é 👩\u200d🔬"
    )


def test_no_name_commands_the_terminal():
    table = Table("\x1b[31mhead")
    table.add_row("\x1b]0;title\x07cell")
    for print_it in (
        lambda console: console.print("\x1b[2J.jpg: cat"),
        lambda console: console.print("\x1b[2J.jpg: cat", markup=False, highlight=False),
        lambda console: console.print(table),
    ):
        text = shown(print_it)
        assert "\x1b[2J" not in text
        assert "\x1b]0" not in text
        assert "\x1b[31m" not in text
        assert r"\x1b" in text
