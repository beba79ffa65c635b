"""Every snippet and command of the docs runs as written; where it needs data, a GPU or a cluster, it is read by the command line at least.

Models of libraries are small networks with random weights, so that nothing is downloaded; the page on extending has tests of its own.
"""

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

import relprop.zoo
from relprop.cli import app
from relprop.methods import METHODS
from tests.docs.stand_ins import Small, make_files, small
from tests.files import ROOT

PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.name != "extending.md"]
BLOCK = re.compile(
    r"^```(?P<kind>python|sh|console|toml)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)
READ_ONLY = (
    *("--device cuda", "--engine ray", "reproduce rap-table1", "evaluate run.toml", "relprop serve"),
    *("imagenet:ILSVRC2012", "coco:COCO", "mosaic:mosaics.json"),
)
"""What needs a GPU, a cluster or data sets, or serves until it is told to stop; run.toml runs in a test of its own."""


def blocks(*kinds):
    return [
        pytest.param(block["text"], block["title"], id=f"{path.stem}-{number}")
        for path in PAGES
        for number, block in enumerate(BLOCK.finditer(path.read_text("utf-8")))
        if block["kind"] in kinds
    ]


def commands():
    lines = [line for block in blocks("sh", "console") for line in block.values[0].replace("\\\n", " ").splitlines()]
    return sorted({line.removeprefix("$ ").partition("  #")[0].strip() for line in lines} - {""})


RELPROP = [line for line in commands() if line.startswith("relprop ")]
SYNOPSES = [line for line in RELPROP if "[" in line]
ASKED = [line for line in RELPROP if line not in SYNOPSES and any(part in line for part in READ_ONLY)]
RUN = [line for line in RELPROP if line not in SYNOPSES and line not in ASKED]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(relprop.zoo.SOURCES, "torchvision", small)
        make_files(folder)
    for path in PAGES:
        for block in BLOCK.finditer(path.read_text("utf-8")):
            if block["kind"] == "toml":
                (folder / block["title"]).write_text(block["text"])
    return folder


@pytest.fixture
def folder(prepared, tmp_path, monkeypatch):
    """A copy of the folder, entered; models of libraries are small, and methods that a snippet registers are forgotten."""
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    for source in ("torchvision", "timm", "hf"):
        monkeypatch.setitem(relprop.zoo.SOURCES, source, small)
    known = dict(METHODS)
    yield tmp_path / "here"
    METHODS.clear()
    METHODS.update(known)


def run(line):
    words = [
        word
        for part in shlex.split(line)[1:]
        for word in (sorted(str(found) for found in Path().glob(part)) if "*" in part else [part])
    ]
    return CliRunner().invoke(app, words)


@pytest.mark.parametrize("line", RUN)
def test_a_command_runs(folder, line):
    if "RESULTS" not in line and "report" in line:
        shutil.copytree(folder / "RESULTS", folder / "results")
    if "patterns=patterns.safetensors" in line:
        assert run("relprop fit-patterns --model efficientnet-lite0 --data PHOTOS -o patterns.safetensors").exit_code == 0
    result = run(line)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("line", ASKED)
def test_a_command_that_cannot_run_here_is_read(line):
    name, *arguments = shlex.split(line)[1:]
    group = typer.main.get_command(app)

    group.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("line", SYNOPSES)
def test_a_synopsis_names_options_that_there_are(line):
    group = typer.main.get_command(app)

    known = {option for parameter in group.commands[line.split()[1]].params for option in parameter.opts}
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line)) <= known


@pytest.mark.usefixtures("folder")
def test_settings_in_a_file_run():
    result = run("relprop evaluate run.toml --batch-size 64")
    assert result.exit_code == 0, result.output


def test_everything_else_is_pip_or_make():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    for line in set(commands()) - set(RELPROP):
        program, first, *rest = shlex.split(line)
        assert program in {"pip", "make"}, line
        if program == "make":
            assert first in targets
            continue
        assert first == "install"
        for word in rest:
            asked = re.fullmatch(r"(?:relprop|\.)\[(.+)\]", word)
            assert not asked or set(asked[1].split(",")) <= set(extras), line
            assert "==" not in word or word in pins, line


@pytest.mark.parametrize(("text", "title"), blocks("python"))
def test_a_snippet_runs(folder, text, title):
    torch.manual_seed(0)
    if title:
        text = f"from tests.docs.stand_ins import Small\nMyNet = lambda num_classes: Small()\n{text}\nbuild()\n"
    if "read_rows" in text or "report(" in text:
        shutil.copytree(folder / "RESULTS", folder / "results")
    if "torchvision" in text:
        relprop.zoo.import_torchvision()
    images = torch.rand(2, 3, 32, 32)
    space = {
        "model": Small().eval(),
        "images": images,
        "targets": torch.tensor([3, 4]),
        "loaded": relprop.zoo.load("torchvision:resnet50"),
    }
    space |= {"relprop": relprop, "__name__": "snippet"}
    if "target=[[281, 282, 285]]" in text:
        space["images"] = images[:1]
    exec(compile(text, "snippet", "exec"), space)
