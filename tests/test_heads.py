"""The probabilities shown are the model's own, and methods that need several classes say so where there is one."""

import pytest
import torch
from torch import nn

import relprop
from relprop.errors import InputError, OptionError, TargetError
from relprop.viz import plot_comparison, plot_explanation


def net(*end, classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes), *end).eval()


X = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("end", "classes", "activation"),
    [
        (nn.Sigmoid(), 3, "sigmoid"),
        (nn.Sigmoid(), 1, "sigmoid"),
        (nn.Softmax(1), 3, "softmax"),
        (nn.LogSigmoid(), 3, "sigmoid"),
        (nn.LogSoftmax(1), 3, "softmax"),
    ],
)
def test_the_activation_is_read_off_the_model(end, classes, activation):
    model = net(end, classes=classes)
    explanation = relprop.explain(model, X)
    own = model(X)
    assert explanation.activation == activation
    torch.testing.assert_close(explanation.probabilities, own.exp() if "Log" in type(end).__name__ else own)
    assert any(f"The final {activation} was taken off" in note for note in explanation.notes)


@pytest.mark.parametrize("classes", [1, 3])
def test_logits_alone_mean_a_softmax_or_for_one_class_a_sigmoid(classes):
    model = net(classes=classes)
    explanation = relprop.explain(model, X)
    assert explanation.activation is None
    torch.testing.assert_close(explanation.probabilities, model(X).sigmoid() if classes == 1 else model(X).softmax(1))


def test_an_option_says_what_the_model_does_not():
    model = net()
    captured = relprop.capture(model, X, activation="sigmoid")
    for explanation in (captured.explainer()(X), relprop.explain(model, X, activation="sigmoid")):
        torch.testing.assert_close(explanation.probabilities, model(X).sigmoid())
    assert captured.explainer().double()(X.double()).activation == "sigmoid"
    with pytest.raises(OptionError, match=r"not 'sigmod'\. Did you mean 'sigmoid'"):
        relprop.capture(model, X, activation="sigmod")
    with pytest.raises(OptionError, match="has its activation already"):
        relprop.Explainer(captured, activation="sigmoid")


def test_rise_weighs_masks_by_the_models_own_probabilities():
    options = {"method": "rise", "masks": 64, "grid": 3}
    with torch.no_grad():
        first, second = net(classes=1), net(classes=1)
        second[-1].bias.add_(2)
    maps = [relprop.explain(model, X, **options).relevance for model in (first, second)]
    assert not torch.allclose(*maps)
    multi = net(nn.Sigmoid())
    found = relprop.explain(multi, X, 1, **options).relevance
    alone = net(nn.Sigmoid(), classes=1)
    with torch.no_grad():
        alone[4].weight.copy_(multi[4].weight[1:2])
        alone[4].bias.copy_(multi[4].bias[1:2])
    torch.testing.assert_close(relprop.explain(alone, X, **options).relevance, found)
    with pytest.raises(TargetError, match="always 1"):
        relprop.explain(net(nn.Softmax(1), classes=1), X, **options)


@pytest.mark.parametrize("method", ["sglrp", "clrp", "abslrp"])
def test_methods_that_compare_classes_refuse_a_single_one(method):
    with pytest.raises(TargetError, match=r"compares the class with all others, .*; take "):
        relprop.explain(net(classes=1), X, method=method)


def test_class_names_of_another_number_are_refused():
    explanation = relprop.explain(net(), X)
    for draw in (
        lambda labels: plot_explanation(explanation, labels=labels),
        lambda labels: plot_comparison({"a": explanation}, labels=labels),
    ):
        draw(["a", "b", "c"])
        for labels in (["a", "b"], ["a", "b", "c", "d"]):
            with pytest.raises(InputError, match="class names for a model of 3 classes"):
                draw(labels)
