"""A smaller part of `benchmarks/reliability.py`: corrupt files, odd command lines and random networks end in a result or one sentence."""

import json

import pytest

from tests.files import load_benchmark

reliability = load_benchmark("reliability")
FEW = {"images": 60, "weights": 20, "commands": 15, "tomls": 60, "networks": 5, "threads": 16, "calls": 50}


@pytest.mark.parametrize("part", FEW)
def test_nothing_is_bad(tmp_path, part):
    reliability.make_world(tmp_path)
    outcome = reliability.PARTS[part][2](FEW[part], tmp_path)
    assert not outcome.bad
    assert outcome.tried == outcome.results + outcome.sentences == FEW[part]


def test_the_page_counts_and_lists_what_is_bad(tmp_path):
    bad = {"tried": 3, "results": 1, "sentences": 1, "bad": ["seed 2: KeyError: `a`"], "note": ""}
    (tmp_path / "images.json").write_text(json.dumps(bad))
    page = "\n".join(reliability.lines(tmp_path))
    assert "| corrupt photos | 3 | 1 | 1 | 1 |" in page
    assert "- `seed 2: KeyError: 'a'`" in page
