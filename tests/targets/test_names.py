"""Targets in Python: indices, class names and ``top:K``."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import relprop
from relprop.errors import InputError, OptionError, TargetError
from relprop.targets import parse_target
from relprop.zoo import imagenet_classes

LABELS = ["tabby, tabby cat", "dog", "horse", "tiger cat", "boat"]


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()


X = torch.linspace(-1, 1, 2 * 3 * 6 * 6).reshape(2, 3, 6, 6)


@pytest.mark.parametrize(
    ("target", "indices"),
    [
        ("dog", [1, 1]),
        ("Tabby", [0, 0]),
        ("3", [3, 3]),
        (["dog", "tiger cat"], [1, 3]),
        (["dog", 4], [1, 4]),
        ([["dog", "boat"], ["horse", 0]], [[1, 4], [2, 0]]),
    ],
)
def test_classes_go_by_their_names(target, indices):
    explainer = relprop.Explainer(net(), X, labels=LABELS)
    assert explainer(X, target).target.tolist() == indices
    assert explainer.captured.explainer("gradient")(X, target).target.tolist() == indices
    assert explainer(X).labels == tuple(LABELS)


def test_the_largest_logits_go_by_their_rank():
    found = relprop.explain(net(), X, "top:3")
    assert torch.equal(found.target, found.logits.argsort(1, descending=True)[:, :3])
    assert found.relevance.shape == (2, 3, 3, 6, 6)


def test_names_in_the_config_of_a_model_are_known():
    model = net()
    model.config = SimpleNamespace(id2label=dict(enumerate(LABELS)))
    assert relprop.explain(model, X, "horse").target.tolist() == [2, 2]
    model.config.id2label = {index: f"LABEL_{index}" for index in range(5)}
    assert relprop.capture(model, X).labels is None


def test_names_survive_new_weights_and_moves():
    model = net()
    explainer = relprop.Explainer(model, X, labels=LABELS)
    with torch.no_grad():
        model[4].bias.add_(1)
    assert explainer(X, "boat").target.tolist() == [4, 4]
    assert explainer.double()(X.double(), "boat").labels == tuple(LABELS)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("cat", r"There is no class 'cat'\. Did you mean 'tabby cat' or 'tiger cat'\?"),
        ("5", "from 0 to 4"),
        ("top:6", "from 1 to 5"),
        (["dog", "top:2"], "give it alone"),
        (["dog"], r"shape \(1,\); for 2 samples"),
        ([["dog"], ["cow", "boat"]], "no class 'cow'"),
    ],
)
def test_names_that_there_are_not(target, message):
    with pytest.raises(TargetError, match=message):
        relprop.explain(net(), X, target, labels=LABELS)


def test_names_without_labels():
    with pytest.raises(TargetError, match="The model has no class names, so the target 'dog' must be a class index or top:K"):
        relprop.explain(net(), X, "dog")
    with pytest.raises(InputError, match="There are 2 class names for a model of 5 classes"):
        relprop.capture(net(), X, labels=["a", "b"])
    with pytest.raises(OptionError, match="has its labels already"):
        relprop.Explainer(relprop.capture(net(), X), labels=LABELS)


@pytest.mark.parametrize(
    ("text", "first"),
    [("cat", "'tabby cat' or 'tiger cat'"), ("tabby cta", "'tabby cat'"), ("retriever", "'flat-coated retriever'")],
)
def test_suggestions_have_the_word_before_they_have_the_letters(text, first):
    with pytest.raises(TargetError, match=f"Did you mean {first}"):
        parse_target(text, imagenet_classes())


def test_pictures_name_the_classes():
    figure = relprop.explain(net(), X, "dog", labels=LABELS).plot()
    assert any("dog" in text.get_text() for axes in figure.axes for text in axes.texts)


def test_rap_says_that_its_maps_of_several_classes_are_alike():
    several = relprop.explain(net(), X, "top:2")
    assert any("maps of several classes are nearly alike" in note for note in several.notes)
    for target, options in ((None, {}), ("top:2", {"start": "clrp"}), ("top:2", {"method": "lrp-epsilon"})):
        assert not any("alike" in note for note in relprop.explain(net(), X, target, **options).notes)
