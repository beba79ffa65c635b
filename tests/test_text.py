"""Tables line up, typed values are read as JSON, and classes are called by their first synonym."""

import pytest

from relprop.text import class_name, counted, draw_table, percent, plain_value, short, shown


def test_tables_have_even_columns_under_an_underlined_header():
    assert draw_table(("op", "rule"), [("conv2d", "zbox"), ("relu", "")]) == [
        "op      rule",
        "──────  ────",
        "conv2d  zbox",
        "relu",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("0.5", 0.5), ("true", True), ("True", True), ("null", None), ("None", None), ("[1, 2]", [1, 2]), ("rap", "rap")],
)
def test_values_are_read_as_json_or_stay_text(text, value):
    assert plain_value(text) == value
    assert type(plain_value(text)) is type(value)


def test_classes_are_called_by_their_first_synonym():
    labels = ["tabby, tabby cat", " boxer "]
    assert short(labels[0]) == "tabby"
    assert [class_name(index, labels) for index in range(3)] == ["tabby", "boxer", "class 2"]
    assert class_name(7, None) == "class 7"


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 5000])
def test_what_is_beyond_the_reader_stays_text(text):
    assert plain_value(text) == text


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [
        *((0.873, 0, "87%"), (0.004, 0, "<1%"), (0.9999, 0, ">99%"), (1.0, 0, "100%"), (0.0, 0, "<1%")),
        *((0.873, 1, "87.3%"), (0.0004, 1, "<0.1%"), (0.0006, 1, "0.1%"), (0.99996, 1, ">99.9%"), (1.0, 1, "100.0%")),
    ],
)
def test_probabilities_are_neither_zero_nor_certain_by_rounding(share, digits, text):
    assert percent(share, digits) == text


def test_numbers_agree_with_their_nouns():
    assert [counted(number, "row") for number in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert (shown([1, 2]), shown(range(9))) == ("[1, 2]", "[0, 1, 2, 3, …]")
