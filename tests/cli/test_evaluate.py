"""`relprop evaluate` and `relprop report` on the command line: trust, exit codes, narrow terminals, other encodings, missing extras."""

import importlib
import os
import subprocess
import sys

import pytest
from rich.console import Console
from typer.testing import CliRunner

from relprop.cli import app
from relprop.cli.report import print_grid
from relprop.cli.terminal import describe
from relprop.evaluation.report.grids import Cell, Grid
from tests.evaluation.world import make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), 4)


def run(*arguments, **more):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **more)


def told(world, name, *more):
    where = ["--data", f"folder:{world / 'images'}", "--model", f"{world / 'm.py'}:small", "-o", world / name]
    return run("evaluate", *where, "--metrics", "complexity", "--block", "4", *more)


def test_a_settings_file_that_names_code_runs_only_if_trusted(world):
    (world / "evil.py").write_text(f"open({str(world / 'ran')!r}, 'w')\nfrom m import small\n")
    path = world / "run.toml"
    path.write_text(
        f'data = "folder:{world / "images"}"\nmodels = ["{world / "evil.py"}:small"]\nmethods = ["rap"]\nmetrics = ["gae"]\noutput = "r"\n'
    )
    result = run("evaluate", path, "--dry-run")
    assert result.exit_code == 1
    assert "names the Python code" in result.stderr
    assert "add --trust-code" in result.stderr
    assert not (world / "ran").exists()
    run("evaluate", path, "--dry-run", "--trust-code")
    assert (world / "ran").exists()
    assert "--trust-code" not in run("evaluate", path, "--dry-run", "--model", f"{world / 'm.py'}:small").stderr


def test_a_settings_file_that_names_a_cluster_is_asked_about(world):
    path = world / "ray.toml"
    path.write_text(
        'data = "folder:x"\nmodels = ["efficientnet-lite0"]\nmethods = ["rap"]\nmetrics = ["gae"]\noutput = "r"\nengine = "ray"\naddress = "10.0.0.1:6379"\n'
    )
    result = run("evaluate", path)
    assert result.exit_code == 1
    assert "names the Ray cluster 10.0.0.1:6379" in result.stderr


def test_a_run_without_a_good_row_exits_with_one(world):
    result = told(world, "none", "--methods", "grad-cam:layer=nope")
    assert result.exit_code == 1
    assert "Not one row could be computed" in result.stderr
    assert told(world, "some", "--methods", "rap").exit_code == 0
    result = told(world, "some", "--methods", "rap", "--metrics", "lerf:steps=0")
    assert result.exit_code == 1
    assert "at least 1" in result.stderr


GRID = Grid(
    "segmentation, score of the whole set",
    ("method", "images", "pixel_accuracy ↑"),
    tuple(
        (Cell(name), Cell("1000"), Cell("0.812 [0.801, 0.823]")) for name in ("lrp-composite-alpha1-beta0", "rap:start=signed")
    ),
)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_width_splits_a_word_or_a_number(monkeypatch, capsys, terminal, width):
    monkeypatch.setattr(
        importlib.import_module("relprop.cli.report"),
        "out",
        Console(width=width, force_terminal=terminal, soft_wrap=True, color_system=None),
    )
    print_grid(GRID, "m: ")
    text = capsys.readouterr().out
    for word in ("lrp-composite-alpha1-beta0", "rap:start=signed", "1000", "0.812", "[0.801, 0.823]"):
        assert word in text
    if not terminal or width < 60:
        lines = text.splitlines()
        assert max(map(len, lines[1:])) <= width
        assert lines[2].startswith("| method" if width >= 60 else "- lrp")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_output_that_is_not_utf_8_does_not_crash(world, encoding):
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    told(world, "encoded", "--methods", "rap")
    done = subprocess.run(
        [sys.executable, "-m", "relprop", "report", world / "encoded", "-o", world / "report.md"],
        capture_output=True, env=env, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"-> " in done.stdout
    assert "→" not in done.stdout.decode(encoding)


HIDE = "import sys; sys.modules['{0}'] = None; from relprop.cli import main; sys.argv = ['relprop', *{1}]; main()"


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--data", "folder:.", "--model", "m", "--methods", "rap", "--metrics", "gae", "-o", "r"],
        ["report", "r"],
        ["reproduce", "rap-table2", "-o", "r"],
    ],
)
def test_a_missing_extra_is_named(tmp_path, arguments):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    program = HIDE.format("pyarrow", arguments)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=env, cwd=tmp_path, timeout=120, check=False
    )
    assert done.returncode == 1
    assert 'pip install "relprop[evaluate]"' in done.stderr
    assert "unforeseen" not in done.stderr


def test_every_extra_is_named():
    for package, extra in {"ray": "ray", "timm": "vision", "transformers": "huggingface", "pycocotools.mask": "data"}.items():
        assert f"relprop[{extra}]" in describe(ModuleNotFoundError("No module named …", name=package))
    assert "unforeseen" in describe(ModuleNotFoundError("No module named 'mine'", name="mine"))
