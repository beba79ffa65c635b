"""The package's front door: its names, and submodules that load on first use."""

import os
import re
import subprocess
import sys

import pytest

import relprop
from tests.files import ROOT

SUBMODULES = (
    *("rules", "methods", "metrics", "datasets", "zoo", "viz", "evaluation", "images", "integrations", "heads", "targets"),
    *("graph", "ops", "propagation", "concepts", "errors", "meaning"),
)
NAMES = ("explain", "capture", "concatenate", "Explainer", "Explanation", "Method", "RelpropError")
REGISTERS = ("register_op", "register_rule", "register_method", "register_metric", "register_dataset")


def run(code):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_a_bare_import_loads_nothing_heavy():
    done = run("import sys, relprop; print([name for name in ('torch', 'numpy', 'matplotlib') if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules_work_after_a_bare_import(name):
    done = run(f"import relprop; print(relprop.{name}.__name__)")
    assert done.stdout.strip() == f"relprop.{name}", done.stderr


def test_the_public_names_are_these():
    assert set(relprop.__all__) == {*NAMES, *REGISTERS, *SUBMODULES, "__version__"}
    assert set(relprop.__all__) == {name for name in dir(relprop) if not name.startswith("_")} | {"__version__"}
    assert all(callable(getattr(relprop, name)) for name in (*NAMES, *REGISTERS))


def test_another_name_is_an_error():
    with pytest.raises(AttributeError, match="has no attribute 'explane'"):
        relprop.explane  # noqa: B018


NAMED = re.compile(r":\w+:`~?(relprop(?:\.\w+)+)`|``(relprop(?:\.\w+)+)``|^::: (relprop(?:\.\w+)+)", re.MULTILINE)


def test_what_the_docs_name_is_there_after_a_bare_import():
    pages = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    found = {name for page in pages for match in NAMED.finditer(page.read_text("utf-8")) for name in match.groups() if name}
    assert len(found) > 50
    done = run(
        f"import functools, relprop; [functools.reduce(getattr, name.split('.')[1:], relprop) for name in {sorted(found)}]"
    )
    assert done.returncode == 0, done.stderr
