"""Files are written whole or not at all, and what is no path where one is wanted is one clear sentence."""

from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

import relprop
from relprop.datasets import DATASETS, open_dataset
from relprop.errors import InputError, OptionError, OutputError
from relprop.evaluation import Evaluation, choices, models, read_maps, read_rows, read_settings, report
from relprop.evaluation.settings import from_mapping, read_toml
from relprop.files import as_path, atomic, check_writable, make_folder, write_text
from relprop.images import check_photo, open_photo
from relprop.methods.pattern_fit import load_patterns, save_patterns, state_note
from relprop.viz import save_figure
from relprop.zoo import load
from tests.files import save_photos

EXPLANATION = relprop.Explanation(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2), torch.zeros(1).long(), torch.zeros(1), None)
WHAT = {"models": models("m"), "methods": choices("rap"), "metrics": choices("complexity")}
TAKE_PATHS = {
    "Explanation.save": EXPLANATION.save,
    "save_figure": lambda path: save_figure(Figure(), path),
    "save_patterns": lambda path: save_patterns({}, path),
    "load_patterns": load_patterns,
    "state_note": state_note,
    "write_text": lambda path: write_text(path, ""),
    "check_writable": check_writable,
    "make_folder": make_folder,
    "open_photo": open_photo,
    "check_photo": check_photo,
    "read_rows": lambda path: list(read_rows(path)),
    "read_maps": lambda path: list(read_maps(path)),
    "read_settings": read_settings,
    "report": report,
    "read_toml": read_toml,
    "Evaluation.output": lambda path: Evaluation("folder:x", output=path, **WHAT),
    **{f"data set {name}": open_it for name, open_it in DATASETS.items() if name not in {"huggingface", "handset"}},
}
"""Without two data sets that do not take a path alone: a data set of Hugging Face's, the name of a network."""


@pytest.mark.parametrize("name", TAKE_PATHS)
@pytest.mark.parametrize("path", [None, 3, b"name", []])
def test_what_is_no_path_is_said(name, path):
    with pytest.raises(InputError, match=rf"^[A-Z].* must be a string or a pathlib\.Path, not {type(path).__name__}\.$"):
        TAKE_PATHS[name](path)


@pytest.mark.parametrize("name", [None, 3, b"pairs", [], "pair"])
def test_what_is_no_network_set_by_hand_is_said(name):
    with pytest.raises(InputError, match=r"There is no network .* with weights set by hand; there are count, "):
        DATASETS["handset"](name)


def test_nothing_is_written_for_what_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Explanation.save", "save_figure", "save_patterns", "write_text", "make_folder"):
        with pytest.raises(InputError):
            TAKE_PATHS[name](None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda folder: load("efficientnet-lite0", 3), "The path of weights must be a string or a pathlib.Path, not int."),
        (lambda folder: open_dataset(f"folder:{folder}", masks=3), "Option masks must be a string or a pathlib.Path, not int."),
        (
            lambda folder: open_dataset(f"folder:{folder}", boxes=True),
            "Option boxes must be a string or a pathlib.Path, not bool.",
        ),
        (
            lambda folder: from_mapping(
                {**WHAT, "data": "folder:x", "output": "r", "models": [{"name": "m", "weights": 3}]}, "S"
            ),
            "S: weights must be a string or a pathlib.Path, not int.",
        ),
    ],
)
def test_options_that_are_no_paths_are_said(tmp_path, call, said):
    save_photos(tmp_path, "a.png")
    with pytest.raises(InputError) as caught:
        call(tmp_path)
    assert str(caught.value) == said


@pytest.mark.parametrize("take", [load, open_dataset])
@pytest.mark.parametrize("name", [None, 3, Path("name")])
def test_what_is_no_name_is_said(take, name):
    with pytest.raises(OptionError, match=rf"^A .* must be .*name.* {type(name).__name__}\.$"):
        take(name)


def test_a_path_may_be_a_string(tmp_path):
    assert as_path(str(tmp_path)) == as_path(tmp_path) == tmp_path
    assert Evaluation("folder:x", output=str(tmp_path), **WHAT).output == tmp_path


def test_atomic_leaves_the_old_file_where_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic(path) as temporary:
        temporary.write_text("half\udc80", "utf-8")
    assert path.read_text() == "old"
    with atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    def full(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"), atomic(tmp_path / "a.txt") as temporary:
        full(temporary)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "a.png", "is a file|cannot be made"),
        ("/proc/nix/a.png", "cannot be made"),
    ):
        with pytest.raises(OutputError, match=message):
            check_writable(path)
    with pytest.raises(OutputError, match="is a file"):
        make_folder(tmp_path / "file")
    check_writable(tmp_path / "new" / "a.png")
    assert not (tmp_path / "new").exists()
