"""The command line, run as a user runs it: what it writes, prints and refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from relprop.cli import app
from relprop.cli.options import parse_options
from relprop.errors import OptionError
from relprop.evaluation import read_rows
from relprop.images import open_photo
from relprop.version import __version__
from relprop.zoo import load
from tests.figures import pictures_of, texts_of
from tests.files import MODELS, ROOT, names, save_photos


@pytest.fixture
def folder(tmp_path):
    """A folder with a model file and three photos, one of them broken."""
    (tmp_path / "m.py").write_text(MODELS)
    save_photos(tmp_path, "a.png", "b.jpg")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def explain(folder, *arguments, photos=("a.png",), model="large"):
    return run("explain", *(folder / photo for photo in photos), "--model", f"{folder}/m.py:{model}", *arguments)


def test_a_picture_is_written_and_named(folder):
    result = explain(folder, "-o", folder / "out.png")
    assert result.exit_code == 0, result.output
    assert Image.open(folder / "out.png").size[0] > 1000
    assert "out.png" in result.stdout
    assert names(folder) == ["a.png", "b.jpg", "broken.png", "m.py", "out.png"]


def test_raw_relevance_and_numbers(folder):
    result = explain(folder, "-o", folder / "out", "--npy", "--json", "-t", "dog", "--target", "tabby cat")
    assert result.exit_code == 0, result.output
    assert names(folder / "out") == ["a-rap.json", "a-rap.npy", "a-rap.png"]
    relevance = np.load(folder / "out" / "a-rap.npy")
    assert relevance.shape == (2, 3, 32, 32)
    record = json.loads((folder / "out" / "a-rap.json").read_text())
    assert [entry["name"] for entry in record["explained"]] == ["dog", "tabby"]
    assert [entry["relevance"] for entry in record["explained"]] == pytest.approx(
        relevance.sum((1, 2, 3)).tolist(), rel=1e-4, abs=1e-6
    )
    for entry in record["explained"]:
        assert entry["relevance"] + entry["absorbed"] == pytest.approx(entry["logit"], abs=1e-3)
        assert entry["conserved"] == pytest.approx(entry["logit"], abs=1e-3)
    assert sum(entry["probability"] for entry in record["predicted"]) == pytest.approx(1)


def test_top_targets_are_the_largest_logits(folder):
    explain(folder, "-o", folder / "out", "--json", "--target", "top:3")
    record = json.loads((folder / "out" / "a-rap.json").read_text())
    assert [entry["class"] for entry in record["explained"]] == [entry["class"] for entry in record["predicted"][:3]]


@pytest.fixture
def figures(monkeypatch):
    """The figures that the command line saves."""
    import relprop.cli.explain as module

    kept = []
    monkeypatch.setattr(module, "save_figure", lambda figure, _path, _dpi: kept.append(figure))
    return kept


@pytest.mark.parametrize("rival", ["runner-up", "dog", "2"])
def test_a_class_is_set_against_a_rival(folder, figures, rival):
    result = explain(folder, "--against", rival, "--target", "tabby cat", "--json", "-o", folder / "o.png")
    assert result.exit_code == 0, result.output
    assert len(pictures_of(figures[0])) == 4, "photo, map, contrast and outline"
    explained = json.loads((folder / "o.json").read_text())["explained"]
    assert explained[0]["name"] == "tabby"
    assert f"tabby rather than {explained[1]['name']}" in texts_of(figures[0])
    if rival == "dog":
        assert explained[1]["name"] == "dog"


def test_figures_on_request(folder, figures):
    for options, pictures in (((), 3), (("--outline",), 3), (("--signs",), 4), (("--layer", "features.0"), 3)):
        result = explain(folder, *options, "--smooth", "2", "--limit", "0.5", "-o", folder / "o.png")
        assert result.exit_code == 0, result.output
        assert len(pictures_of(figures[-1])) == pictures, options
        assert any("σ = 2 pixels" in text for text in texts_of(figures[-1]))
        assert any("saturate at ±0.5" in text for text in texts_of(figures[-1]))
    assert "features.0" in texts_of(figures[-1])


def test_the_whole_photo_is_drawn(folder, figures):
    Image.new("RGB", (90, 50), "green").save(folder / "wide.png")
    assert explain(folder, "--whole-photo", "-o", folder / "o.png", photos=("wide.png",)).exit_code == 0
    assert [pixels.shape for pixels in pictures_of(figures[0])] == [(50, 90, 3)] * 3


def test_one_bad_photo_does_not_lose_the_others(folder):
    result = explain(folder, "-o", folder / "out", photos=("a.png", "broken.png", "missing.png", "b.jpg"))
    assert result.exit_code == 1
    assert names(folder / "out") == ["a-rap.png", "b-rap.png"]
    assert "broken.png" in result.stderr
    assert "2 of 4 photos could not be explained" in result.stderr
    assert "Traceback" not in result.stderr


def test_photos_of_one_name_do_not_overwrite_each_other(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "a.png").write_bytes((folder / "a.png").read_bytes())
    explain(folder, "-o", folder / "out", photos=("a.png", "sub/a.png"))
    assert names(folder / "out") == ["a-rap-2.png", "a-rap.png"]


def test_weights_are_loaded(folder):
    explain(folder, "-o", folder / "first", "--npy")
    state = load(f"{folder}/m.py:large").model.state_dict()
    save_file({key: value * 2 for key, value in state.items()}, folder / "w.safetensors")
    result = explain(folder, "-o", folder / "second", "--npy", "--weights", folder / "w.safetensors")
    assert result.exit_code == 0, result.output
    assert not np.allclose(np.load(folder / "first" / "a-rap.npy"), np.load(folder / "second" / "a-rap.npy"))


def test_options_reach_the_method(folder):
    explain(folder, "-o", folder / "first", "--npy")
    explain(folder, "-o", folder / "second", "--npy", "--option", "start=signed", "--option", "input_rule=rap")
    assert not np.allclose(np.load(folder / "first" / "a-rap.npy"), np.load(folder / "second" / "a-rap.npy"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "rapp"), "Did you mean 'rap'"),
        (("--option", "variantt=paper"), "Did you mean 'variant'"),
        (("--option", "variant=papre"), "variant='papre'"),
        (("--option", "variant"), "not of the form KEY=VALUE"),
        (("--target", "tabby cta"), "Did you mean 'tabby cat'"),
        (("--target", "4"), "from 0 to 3"),
        (("--target", "top:9"), "from 1 to 4"),
        (("--model", "efficientnet-lite"), "Did you mean 'efficientnet-lite0'"),
        (("--model", "torchvision:resnet5"), "Did you mean 'resnet50'"),
        (("--weights", "nix.pth"), "There is no weights file"),
        (("--weights", __file__), "neither safetensors nor a PyTorch state dict"),
        (("--device", "cuda:99"), "cannot be used here"),
        (("--device", "gpu"), "cannot be used here"),
        (("--percentile", "0"), "percentile"),
        (("--limit", "-1"), "positive number"),
        (("--smooth", "-1"), "0 or more"),
        (("--opacity", "2"), "from 0 to 1"),
        (("--signs", "--outline"), "--outline and --signs ask for different figures"),
        (("--against", "dog", "--target", "dog"), "no class other than the explained one"),
        (("--against", "dgo"), "Did you mean 'dog'"),
        (("--against", "runner-up", "--target", "top:2"), "sets one class against a rival, and --target names 2"),
        (("--layer", "nix"), "nix"),
        (("-o", "/proc/nix/a.png"), "cannot be made"),
        (("-o", "a.xyz"), "no suffix of a picture format"),
    ],
)
def test_every_wrong_value_gets_one_sentence(folder, arguments, message, monkeypatch):
    monkeypatch.chdir(folder)
    before = names(folder)
    result = explain(folder, *arguments)
    assert result.exit_code == 1, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""
    assert names(folder) == before, "nothing half-written stays"


def test_a_model_with_an_op_without_a_rule_is_refused(folder):
    result = explain(folder, "-o", folder / "out.png", model="no_rule")
    assert result.exit_code == 1
    assert "No rule for 1 op" in result.stderr
    assert "register_op" in result.stderr


@pytest.mark.parametrize(("photo", "message"), [("missing.png", "no file"), ("broken.png", "corrupt"), ("m.py", "no image")])
def test_a_bad_photo_alone_gets_one_sentence(folder, photo, message):
    result = explain(folder, "-o", folder / "out.png", photos=(photo,))
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (folder / "out.png").exists()


def test_photos_are_never_overwritten(folder):
    before = (folder / "a.png").read_bytes()
    assert "is one of the photos" in explain(folder, "-o", folder / "a.png").stderr
    assert (folder / "a.png").read_bytes() == before


def test_one_file_for_several_photos_is_refused(folder):
    assert "give a folder" in explain(folder, "-o", folder / "out.png", photos=("a.png", "b.jpg")).stderr


def test_debug_shows_the_traceback(folder):
    result = explain(folder, "--debug", photos=("missing.png",))
    assert isinstance(result.exception, Exception)
    assert "no file" in str(result.exception)


def test_notes_about_photos_are_printed(folder):
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "blue")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    assert "2 frames" in explain(folder, "-o", folder / "out", photos=("moving.gif",)).stderr


def test_models_lists_sources_and_searches():
    listed = run("models").stdout
    assert all(form in listed for form in ("efficientnet-lite0", "torchvision:NAME", "timm:NAME", "hf:NAME"))
    found = run("models", "resnet50").stdout.split()
    assert {"torchvision:resnet50", "timm:resnet50"} <= set(found)
    assert run("models", "xyzzy").exit_code == 1


def test_methods_lists_options_and_sources():
    listed = run("methods").stdout
    assert "Nam et al., AAAI 2020" in listed
    assert "--option variant=paper|released" in listed


def test_inspect_prints_the_plan(folder):
    result = run("inspect", "--model", f"{folder}/m.py:large")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["features.0", "conv2d", "input", "zbox", "B×6×30×30"] in rows
    assert any(row[1:3] == ["linear", "output"] for row in rows)


HEADS = """
import torch
from torch import nn
from relprop.zoo import Preprocessing

def make(end, names, classes=3):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes), *end)
    return net.eval(), Preprocessing(size=(32, 32), resize=32), names

def several():
    return make([nn.Sigmoid()], ["edema", "effusion", "fracture"])

def logits():
    return make([], ["edema", "effusion", "fracture"])

def single():
    return make([nn.Sigmoid()], ["ill"], 1)

def misnamed():
    return make([], ["edema", "effusion"])
"""


@pytest.mark.parametrize(
    ("name", "options"), [("several", ()), ("single", ()), ("logits", ("--activation", "sigmoid")), ("logits", ())]
)
def test_the_probabilities_shown_are_the_models(folder, name, options):
    (folder / "heads.py").write_text(HEADS)
    result = run("explain", folder / "a.png", "-m", f"{folder}/heads.py:{name}", "-o", folder / "o.png", "--json", *options)
    assert result.exit_code == 0, result.output
    loaded = load(f"{folder}/heads.py:{name}")
    own = loaded.model(loaded.preprocessing.tensor(open_photo(folder / "a.png").image)[None])[0]
    own = own if name != "logits" else own.sigmoid() if options else own.softmax(0)
    shown = {entry["class"]: entry["probability"] for entry in json.loads((folder / "o.json").read_text())["predicted"]}
    assert [shown[index] for index in range(len(own))] == pytest.approx(own.tolist(), abs=1e-5)
    assert f"({float(own.max()):.0%})" in result.stdout


def test_heads_and_names_that_do_not_fit_are_refused(folder):
    (folder / "heads.py").write_text(HEADS)
    result = run("explain", folder / "a.png", "-m", f"{folder}/heads.py:misnamed", "-o", folder / "o.png")
    assert result.exit_code == 1
    assert "2 class names for a model of 3 classes" in result.stderr
    result = run("compare", folder / "a.png", "-m", f"{folder}/heads.py:logits", "-o", folder / "o.png", "--activation", "relu")
    assert result.exit_code == 1
    assert "'softmax' or 'sigmoid', not 'relu'" in result.stderr


def test_option_values_are_read_as_json():
    assert parse_options(["a=1", "b=0.5", "c=true", "d=text", "e=[1, 2]", "f-g=null"]) == {
        "a": 1, "b": 0.5, "c": True, "d": "text", "e": [1, 2], "f_g": None,
    }  # fmt: skip
    with pytest.raises(OptionError):
        parse_options(["=3"])


def shell(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)


def test_python_m_relprop_works():
    assert shell("-m", "relprop", "--version").stdout == f"relprop {__version__}\n"


def test_help_does_not_wait_for_torch():
    code = "import sys, relprop.cli; print([name for name in ('torch', 'numpy', 'PIL', 'matplotlib') if name in sys.modules])"
    assert shell("-c", code).stdout == "[]\n"


def test_import_relprop_stays_light():
    heavy = ("PIL", "matplotlib", "torchvision", "typer")
    code = f"import sys, relprop; relprop.Explainer; print([name for name in {heavy} if name in sys.modules])"
    assert shell("-c", code).stdout == "[]\n"


def test_what_maps_of_one_photo_come_with_is_said_once(folder):
    result = explain(folder, "-t", "top:2", "-o", folder / "out", photos=("a.png", "b.jpg"))
    assert result.stderr.replace("\n", " ").count("maps of several classes are nearly alike") == 1


def test_a_failed_command_leaves_no_folder(folder):
    new, model = folder / "new", f"{folder}/m.py:small"
    for arguments in (
        ("explain", folder / "broken.png", "--model", model, "-o", new),
        ("explain", folder / "broken.png", "--model", model, "-o", new / "out.png"),
        ("explain", folder / "a.png", "--model", f"{folder}/m.py:no_rule", "-o", new / "deep"),
        ("compare", folder / "a.png", "--model", f"{folder}/m.py:no_rule", "--methods", "rap", "-o", new),
        ("fit-patterns", "--data", folder, "--model", f"{folder}/m.py:nothing", "-o", new / "p.safetensors"),
        ("report", new, "-o", new / "report"),
        ("reproduce", "rap-table1", "-o", new),
    ):
        result = run(*arguments)
        assert result.exit_code == 1, result.output
        assert not new.exists(), arguments


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf_8_are_names_like_others(folder):
    (folder / "b.jpg").rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg"))
    odd = os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")
    result = run("explain", odd, "--model", f"{folder}/m.py:small", "--json", "-o", folder / "out")
    assert result.exit_code == 0, result.output
    assert r"caf\udce9" in result.stdout
    assert len(names(folder / "out")) == 2
    (folder / "images" / "cat").mkdir(parents=True)
    (folder / "images" / "cat" / Path(odd).name).write_bytes((folder / "a.png").read_bytes())
    model, data = f"{folder}/m.py:small", folder / "images"
    run("fit-patterns", "--data", data, "--model", model, "-o", folder / "p.safetensors")
    what = ("--methods", "rap", "--metrics", "complexity", "-o", folder / "results")
    result = run("evaluate", "--data", f"folder:{data}", "--model", model, *what)
    assert result.exit_code == 0, result.output
    (row,) = [row for batch in read_rows(folder / "results") for row in batch.to_pylist()]
    assert (row["image"], row["status"]) == (r"cat/caf\udce9.jpg", "ok")
    assert {"p.safetensors", "results"} <= set(names(folder))
