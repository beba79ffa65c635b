"""A model of one's own on the command line: weights, class names, preprocessing, and the one grammar of methods and models."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

import relprop
from relprop.cli import app
from relprop.cli.hints import misfit_hint
from relprop.cli.options import method_label, model_and_weights
from relprop.errors import InputError, OptionError
from relprop.text import split_list, split_options, split_weights
from relprop.zoo import LoadedModel, Own, Preprocessing, adapted, load
from relprop.zoo.own import read_labels

MODEL = """
from torch import nn
def bare():
    import torch
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(MODEL)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    save_file(load("net.py:bare").model.state_dict(), tmp_path / "net.safetensors")
    (tmp_path / "names.txt").write_text("cat\ndog\ncow\n\n")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


OWN = ("--labels", "names.txt", "--mean", "0.5", "--std", "0.25,0.25,0.25", "--scale", "1/255", "--size", "32x24")


def test_what_is_said_of_a_model_is_used(folder):
    result = run(
        "explain", "cat.png", "--model", "net.py:bare=net.safetensors", *OWN, "-t", "dog", "--npy", "--json", "-o", "out"
    )
    assert result.exit_code == 0, result.output
    assert "gives no Preprocessing" not in result.stderr
    assert np.load(folder / "out" / "cat-rap.npy").shape == (3, 32, 24)
    record = json.loads((folder / "out" / "cat-rap.json").read_text())
    assert (record["model"], record["weights"]) == ("net.py:bare", "net.safetensors")
    assert record["explained"][0]["name"] == "dog"
    preprocessing = Preprocessing((32, 24), (32, 24), mean=(0.5,) * 3, std=(0.25,) * 3)
    logits = load("net.py:bare").model(preprocessing.tensor(Image.open(folder / "cat.png"))[None])
    assert record["explained"][0]["logit"] == pytest.approx(logits[0, 1].item(), rel=1e-4)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--labels", "two.txt", "has 2 class names, and net.py:bare has 3 classes"),
        ("--labels", "nowhere.txt", "cannot be read"),
        ("--mean", "a", "is not numbers"),
        ("--mean", "1,2", "must be one or 3 numbers"),
        ("--std", "0", "numbers above 0"),
        ("--scale", "1/0", "is not a number"),
        ("--scale", "nan", "is not a number"),
        ("--size", "0", "must be a side in pixels"),
        ("--size", "2.5", "is not numbers"),
        ("--size", "10x10x10", "must be a side in pixels"),
        ("--weights", "net.safetensors", "are given twice"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(folder, option, value, said):
    (folder / "two.txt").write_text("cat\ndog\n")
    result = run("explain", "cat.png", "--model", "net.py:bare=net.safetensors", option, value, "-o", "out.png")
    assert result.exit_code == 1
    assert said in result.stderr.replace("\n", " ")
    assert "unforeseen" not in result.stderr


def test_class_names_are_lines_or_json(tmp_path):
    path = tmp_path / "names.json"
    for text in ('["a", "b"]', '{"1": "b", "0": "a"}'):
        path.write_text(text)
        assert read_labels(path) == ("a", "b")
    for text in ("[1, 2]", "{", '{"x": "a"}', "[]", "[" * 99_999):
        path.write_text(text)
        with pytest.raises(InputError, match=r"The class names .*names\.json"):
            read_labels(path)


def test_nothing_said_changes_nothing():
    loaded = LoadedModel(torch.nn.Identity(), Preprocessing(), None, "m", ("m gives no Preprocessing; …",))
    assert adapted(loaded, Own()) == loaded


def test_methods_are_written_alike_everywhere(folder):
    result = run(
        "compare",
        "cat.png",
        "--methods",
        "rap,rap:start=signed,lrp-epsilon:epsilon=0.1",
        "--model",
        "net.py:bare=net.safetensors",
        "-o",
        "c.png",
    )
    assert result.exit_code == 0, result.output
    assert "3 explanations" in result.stdout
    result = run("explain", "cat.png", "--method", "lrp-epsilon:epsilon=0.1", "--model", "net.py:bare", "--json", "-o", "out")
    assert result.exit_code == 0, result.output
    record = json.loads((folder / "out" / "cat-lrp-epsilon-epsilon-0.1.json").read_text())
    assert (record["method"], record["options"]) == ("lrp-epsilon", {"epsilon": 0.1})
    model, inputs = load("net.py:bare=net.safetensors").model, torch.rand(1, 3, 16, 16)
    right = relprop.explain(model, inputs, method="lrp-epsilon", epsilon=0.1).relevance
    assert torch.equal(relprop.explain(model, inputs, method="lrp-epsilon:epsilon=0.1").relevance, right)
    (folder / "m.toml").write_text('base = "lrp-epsilon:epsilon=0.1"\n')
    assert torch.equal(relprop.explain(model, inputs, method="m.toml").relevance, right)
    assert run("inspect", "--model", "net.py:bare", "--method", "rap:start=signed").exit_code == 0


def test_two_weights_of_one_model_are_two_rows(folder):
    save_file(load("net.py:bare").model.state_dict(), folder / "other.safetensors")
    models = ("--model", "net.py:bare=net.safetensors", "--model", "net.py:bare=other.safetensors")
    result = run("compare", "cat.png", "--methods", "rap", *models, "-o", "c.png")
    assert result.exit_code == 0, result.output
    assert "2 explanations" in result.stdout


def test_the_grammar():
    assert split_options("segmentation:threshold=percentile:90") == ("segmentation", {"threshold": "percentile:90"})
    assert split_options("quantus:MPRT:a=1:b=[1,2]") == ("quantus:MPRT", {"a": 1, "b": [1, 2]})
    assert split_options("dir/mine.toml:epsilon=0.01") == ("dir/mine.toml", {"epsilon": 0.01})
    assert split_list("rap, sensitivity-n:shares=[0.1,0.3] ,,a") == ["rap", "sensitivity-n:shares=[0.1,0.3]", "a"]
    assert split_weights("a=b/net.py:build=w=1.pt") == ("a=b/net.py:build", "w=1.pt")
    assert split_weights("torchvision:resnet50") == ("torchvision:resnet50", None)
    assert method_label("dir/mine.toml:epsilon=0.01") == "mine-epsilon-0.01"
    with pytest.raises(OptionError, match="names no file of weights"):
        model_and_weights("m=", None)
    with pytest.raises(OptionError, match="names no file of weights"):
        load("efficientnet-lite0=")


@pytest.mark.usefixtures("folder")
def test_a_model_that_hardly_decides_gets_a_hint():
    sure, unsure = torch.eye(1000)[3:4] * 9, torch.zeros(1, 1000)
    assert misfit_hint([unsure, unsure], None) is not None
    assert misfit_hint([unsure, sure], "softmax") is None
    assert misfit_hint([], None) is misfit_hint([torch.zeros(1, 1)], None) is None
    assert misfit_hint([torch.full((1, 1000), -9.0)], "sigmoid") is None, "a model of several labels may find none"
    result = run("explain", "cat.png", "--model", "net.py:bare", "--scale", "0", "--mean", "0", "-o", "out.png")
    logits = load("net.py:bare").model(torch.zeros(1, 3, 224, 224)).detach()
    assert ("hardly decides" in result.stderr) == (misfit_hint([logits], None) is not None)


def test_compare_gives_the_hint_too(folder):
    (folder / "net.py").write_text(
        MODEL
        + "def flat():\n    model = bare()\n    model[4].weight.data.zero_()\n    model[4].bias.data.zero_()\n    return model\n"
    )
    result = run("compare", "cat.png", "--model", "net.py:flat", "--methods", "rap,gradient", "-o", "c.png")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("hardly decides") == 1
