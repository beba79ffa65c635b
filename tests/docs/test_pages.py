"""The page on methods is complete, and its pictures are there and small."""

import re

import pytest

from relprop.methods.registry import _ROWS
from relprop.rules.starts import STARTS
from tests.files import ROOT

DOCS = ROOT / "docs"
PAGE = (DOCS / "methods.md").read_text("utf-8")


@pytest.mark.parametrize("name", [row[0] for row in _ROWS])
def test_every_method_of_the_registry_is_told(name):
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", STARTS)
def test_every_start_is_told(name):
    assert f"start={name}" in PAGE


def test_it_counts_no_methods():
    assert not re.search(r"\b\d+ methods\b", PAGE), "the number changes with every method"


def test_its_pictures_are_there_and_small():
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE)
    assert pictures
    for picture in pictures:
        assert (DOCS / picture).stat().st_size < 400_000
