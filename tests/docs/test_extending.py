"""Every task of the page on extending takes what the page says and nothing else: its snippets run in order."""

import re

import pytest
import torch

import relprop
from relprop.datasets import DATASETS
from relprop.methods import METHODS
from relprop.metrics import METRICS
from relprop.ops.table import OPS
from relprop.rules import RULES
from tests.files import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
TABLES = (OPS, RULES, METHODS, METRICS, DATASETS)
BLOCK = re.compile(r"`(?P<file>[\w.]+\.toml)`[^`]*?```toml\n(?P<toml>.*?)```|```python\n(?P<python>.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the page's snippets leave behind, run in order in an empty folder."""
    before, made, folder = [dict(table) for table in TABLES], {}, tmp_path_factory.mktemp("page")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            torch.manual_seed(0)
            for block in BLOCK.finditer(PAGE):
                if block["python"]:
                    exec(compile(block["python"], "docs/extending.md", "exec"), made)
                else:
                    (folder / block["file"]).write_text(block["toml"])
            yield made
    finally:
        for table, old in zip(TABLES, before, strict=True):
            table.clear()
            table.update(old)


def conserves(explanation):
    logit = explanation.logits.gather(1, explanation.target[:, None])[:, 0]
    torch.testing.assert_close(explanation.relevance.flatten(1).sum(1) + explanation.absorbed, logit, rtol=1e-3, atol=1e-3)


def test_every_block_of_the_page_is_run():
    assert sum(bool(block["python"]) for block in BLOCK.finditer(PAGE)) == PAGE.count("```python")
    assert sum(bool(block["toml"]) for block in BLOCK.finditer(PAGE)) == PAGE.count("```toml") == 4


def test_an_op(names):
    conserves(names["explanation"])
    assert torch.equal(names["explanation"].relevance, names["same"].relevance)


def test_a_rule(names):
    uniform, by_magnitude = names["uniform_map"], names["by_magnitude"]
    conserves(uniform)
    conserves(by_magnitude)
    torch.testing.assert_close(uniform.relevance, uniform.relevance[:, :1].expand(-1, 4))
    shares = names["x"].abs() / names["x"].abs().sum(1, keepdim=True)
    torch.testing.assert_close(by_magnitude.relevance, shares * by_magnitude.relevance.sum(1, keepdim=True))


def test_a_method(names):
    conserves(names["composite_map"])
    assert torch.equal(names["composite_map"].relevance, names["from_file"].relevance)
    for named, from_file in names["pairs"].values():
        assert torch.equal(named.relevance, from_file.relevance)
        assert named.relevance.abs().sum() > 0
    gradient = relprop.explain(names["plain"], names["x"], 1, method="input-x-gradient")
    torch.testing.assert_close(names["own"].relevance, gradient.relevance)


def test_a_metric(names):
    assert float(names["score"]) == pytest.approx(1.0)


def test_a_data_set(names):
    assert names["outcome"].rows == 8
    assert not names["outcome"].failed
    assert "share-on-object" in names["table"]
