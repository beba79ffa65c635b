"""Settings from Python, from TOML and from flags are one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relprop.cli.evaluate import duration, merged
from relprop.errors import OptionError
from relprop.evaluation import Choice, Evaluation, ModelChoice, choices, models
from relprop.evaluation.settings import from_mapping

WHOLE = """
data = {source = "voc:there", single_class = true}
output = "results"
limit = 8
batch_size = 2
seed = 3
target = "label"
geometry = "resize"
device = "cuda"
engine = "ray"
workers = 2
address = "auto"
keep_maps = true
block = 32
methods = ["gradient"]
models = ["timm:a"]

[[model]]
name = "hf:b"
weights = "w.safetensors"

[[method]]
name = "rap"
start = "signed"

[[metric]]
name = "segmentation"
threshold = "percentile:90"

[[metric]]
name = "gae"
"""
FLAGS = {
    "data": "voc:there",
    "data_options": ["single-class=true"],
    "output": Path("results"),
    "limit": 8,
    "batch_size": 2,
    "seed": 3,
    "target": "label",
    "geometry": "resize",
    "device": "cuda",
    "engine": "ray",
    "workers": 2,
    "address": "auto",
    "keep_maps": True,
    "block": 32,
    "models": ["timm:a", "hf:b=w.safetensors"],
    "methods": ["gradient,rap:start=signed"],
    "metrics": ["segmentation:threshold=percentile:90", "gae"],
}
PYTHON = Evaluation(
    data="voc:there",
    data_options={"single_class": True},
    models=models("timm:a", "hf:b=w.safetensors"),
    methods=choices("gradient", "rap:start=signed"),
    metrics=choices("segmentation:threshold=percentile:90", "gae"),
    output=Path("results"),
    limit=8,
    batch_size=2,
    seed=3,
    target="label",
    geometry="resize",
    device="cuda",
    engine="ray",
    workers=2,
    address="auto",
    keep_maps=True,
    block=32,
)
LEAST = {"data": "voc:there", "models": ["a"], "methods": ["rap"], "metrics": ["gae"], "output": "results"}


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(WHOLE)
    return path


def test_toml_flags_and_python_are_one(toml):
    assert merged(toml, {}) == PYTHON
    assert merged(None, FLAGS) == PYTHON


def test_flags_go_before_the_file(toml):
    found = merged(toml, {"seed": 5, "methods": ["rap"], "models": [], "limit": None})
    assert (found.seed, found.methods, found.limit) == (5, choices("rap"), 8)
    assert found.models == PYTHON.models


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("rap", "rap", {}),
        ("rap:start=signed:variant=released", "rap", {"start": "signed", "variant": "released"}),
        ("segmentation:threshold=percentile:90", "segmentation", {"threshold": "percentile:90"}),
        ("quantus:Sparseness", "quantus:Sparseness", {}),
        ("quantus:MPRT:seed=3", "quantus:MPRT", {"seed": 3}),
        ("smoothgrad:noise=0.1:seed=2", "smoothgrad", {"noise": 0.1, "seed": 2}),
        ("gradient:absolute=true", "gradient", {"absolute": True}),
    ],
)
def test_a_name_carries_its_options(text, name, options):
    assert choices(text) == (Choice(name, options),)


@given(st.dictionaries(st.from_regex("[a-z_]{1,8}", fullmatch=True), st.integers() | st.booleans() | st.floats(-9, 9)))
def test_a_choice_reads_what_it_prints(options):
    choice = Choice("metric", options)
    assert choices(str(choice)) == (choice,)


def test_choices_are_the_same_by_name_and_options():
    found = Evaluation(
        **{**vars(PYTHON), "methods": choices("rap", "rap:start=signed", "rap"), "models": models("a", "a=w", "a")}
    )
    assert found.methods == choices("rap", "rap:start=signed")
    assert found.models == (ModelChoice("a"), ModelChoice("a", Path("w")))


def test_models_of_random_weights():
    assert from_mapping({**LEAST, "models": [{"name": "a", "pretrained": False}]}).models == (ModelChoice("a", pretrained=False),)
    assert ModelChoice("a", pretrained=False).source == "random"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": 1}, "has no setting 'seeds'.*Did you mean 'seed'"),
        ({"seed": "one"}, "seed = 'one' must be int"),
        ({"seed": True}, "seed = True must be int"),
        ({"models": "a"}, "models must be a list"),
        ({"models": []}, "must say models"),
        ({"data": None}, "must say data|data = None must be"),
        ({"methods": [{"start": "signed"}]}, "needs a name"),
        ({"methods": [":a=1"]}, "has no name"),
        ({"models": [{"name": "a", "weight": "b"}]}, "a model has name, weights and pretrained, not weight"),
        ({"models": ["a="]}, "not of the form NAME or NAME=WEIGHTS"),
        ({"batch_size": 0}, "batch size 0 must be at least 1"),
        ({"block": 6}, "block 6 must be a multiple of 4"),
        ({"target": "labels"}, "no target 'labels'.*Did you mean 'label'"),
        ({"geometry": "crop"}, "no geometry 'crop'"),
        ({"engine": "rey"}, "no engine 'rey'.*Did you mean 'ray'"),
        ({"address": "auto"}, "add the engine ray"),
    ],
)
def test_wrong_settings_are_refused(change, said):
    with pytest.raises(OptionError, match=said):
        from_mapping({**LEAST, **change})


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(OptionError, match="cannot be read: No such file"):
        merged(tmp_path / "no.toml", {})
    (tmp_path / "bad.toml").write_text("a = [")
    with pytest.raises(OptionError, match="are no TOML"):
        merged(tmp_path / "bad.toml", {})


@pytest.mark.parametrize(("seconds", "text"), [(0.44, "0.4 s"), (89, "1 min"), (3599, "1 h 00 min"), (7300, "2 h 02 min")])
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
