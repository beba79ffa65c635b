"""The LRP family against zennit: its composites and its single rules, with its canonizers, on unmodified torchvision models."""

import pytest
import torch

import relprop
from relprop import rules
from tests.methods.peers.peers import difference, model_of, peer, photos, residual

peer("zennit")

from zennit import composites as theirs  # noqa: E402
from zennit import rules as hooks  # noqa: E402
from zennit.attribution import Gradient  # noqa: E402
from zennit.torchvision import ResNetCanonizer, VGGCanonizer  # noqa: E402
from zennit.types import Activation, AvgPool, BatchNorm, Convolution, Linear  # noqa: E402

MODELS = ["vgg11", "vgg11_bn", "resnet18"]
TOLERANCE = 1e-6
"""Of the relative difference in float64; what remains is that zennit stabilizes rules that need none."""


def canonizers(name):
    return [ResNetCanonizer() if name.startswith("resnet") else VGGCanonizer()]


def by_zennit(model, inputs, target, composite, *, start="logit"):
    def seed(logits):
        chosen = torch.zeros_like(logits).scatter(1, target[:, None], 1.0)
        return chosen * logits if start == "logit" else chosen

    with Gradient(model, composite) as attribute:
        return attribute(inputs.clone().requires_grad_(), seed)[1].detach()


COMPOSITES = {
    "epsilon-plus": (theirs.EpsilonPlus, {}),
    "epsilon-plus-flat": (theirs.EpsilonPlusFlat, {}),
    "epsilon-gamma-box": (theirs.EpsilonGammaBox, {"low": -3.0, "high": 3.0}),
    "epsilon-alpha2-beta1": (theirs.EpsilonAlpha2Beta1, {}),
    "epsilon-alpha2-beta1-flat": (theirs.EpsilonAlpha2Beta1Flat, {}),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", COMPOSITES)
def test_composite(name, model):
    composite, options = COMPOSITES[name]
    inputs, target = photos()
    expected = by_zennit(model_of(model), inputs, target, composite(canonizers=canonizers(model), **options))
    explanation = relprop.explain(model_of(model), inputs, target, method=name, **options)
    assert difference(explanation.relevance, expected) <= TOLERANCE


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_composite_without_biases_and_with_a_strong_epsilon(epsilon):
    inputs, target = photos()
    composite = theirs.EpsilonPlusFlat(epsilon=epsilon, zero_params=["bias"], canonizers=canonizers("resnet18"))
    expected = by_zennit(model_of("resnet18"), inputs, target, composite)
    ours = relprop.explain(model_of("resnet18"), inputs, target, method="epsilon-plus-flat", bias="leave out", epsilon=epsilon)
    assert difference(ours.relevance, expected) <= TOLERANCE


EPS = 1e-6
SINGLE = {
    "epsilon": (hooks.Epsilon(EPS), rules.epsilon(EPS)),
    "epsilon, strong, biases left out": (hooks.Epsilon(0.1, zero_params=["bias"]), rules.epsilon(0.1, "leave out")),
    "zplus": (hooks.ZPlus(EPS), rules.zplus(EPS)),
    "zplus, biases left out": (hooks.ZPlus(EPS, zero_params=["bias"]), rules.zplus(EPS, "leave out")),
    "alpha2-beta1": (hooks.AlphaBeta(2, 1, EPS), rules.alpha_beta(2, 1, EPS)),
    "alpha3-beta2, biases left out": (hooks.AlphaBeta(3, 2, EPS, zero_params=["bias"]), rules.alpha_beta(3, 2, EPS, "leave out")),
    "gamma": (hooks.Gamma(0.25, EPS), rules.gamma(0.25, EPS)),
    "gamma, biases left out": (hooks.Gamma(0.25, EPS, zero_params=["bias"]), rules.gamma(0.25, EPS, "leave out")),
    "gamma 2": (hooks.Gamma(2.0, EPS), rules.gamma(2.0, EPS)),
    "wsquare": (hooks.WSquare(0.0, zero_params=["bias"]), rules.wsquare()),
    "flat": (hooks.Flat(0.0), rules.flat()),
}


@pytest.mark.parametrize("model", ["vgg11", "resnet18"])
@pytest.mark.parametrize("name", SINGLE)
def test_single_rule(name, model):
    """Every layer by one rule, composed by hand: averages and sums in proportion, as zennit's composites do."""
    hook, rule = SINGLE[name]
    layers = [(Activation, hooks.Pass()), (BatchNorm, hooks.Pass()), ((theirs.Sum, AvgPool), hooks.Norm(EPS)), (Linear, hook)]
    inputs, target = photos()
    composite = theirs.LayerMapComposite(layers, canonizers=canonizers(model))
    expected = by_zennit(model_of(model), inputs, target, composite)
    method = relprop.Method(name, {"dense": rule, "conv": rule, "pool": rules.epsilon(EPS)})
    ours = relprop.explain(model_of(model), inputs, target, method=method)
    assert difference(ours.relevance, expected) <= TOLERANCE


def test_box_in_the_first_layer():
    hook = hooks.ZBox(torch.full((1, 3, 1, 1), -3.0), torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1).double() + 2)
    layers = [(AvgPool, hooks.Norm(EPS)), (Convolution, hooks.ZPlus(EPS)), (Linear, hooks.Epsilon(EPS))]
    composite = theirs.SpecialFirstLayerMapComposite(layers, [(Convolution, hook)])
    inputs, target = photos()
    expected = by_zennit(model_of("vgg11"), inputs, target, composite)
    high = torch.tensor([3.0, 4.0, 5.0]).double().reshape(3, 1, 1)
    table = {"dense": rules.epsilon(EPS), "conv": rules.zplus(EPS), "input": rules.zbox()}
    ours = relprop.explain(model_of("vgg11"), inputs, target, method=relprop.Method("boxed", table, bounds=(-3.0, high)))
    assert difference(ours.relevance, expected) <= TOLERANCE


@pytest.mark.parametrize("model", ["vgg11", "resnet18"])
def test_excitation_backprop(model):
    inputs, target = photos()
    composite = theirs.ExcitationBackprop(zero_params=["bias"], stabilizer=EPS, canonizers=canonizers(model))
    expected = by_zennit(model_of(model), inputs, target, composite, start="one")
    ours = relprop.explain(model_of(model), inputs, target, method="excitation-backprop", add="signed")
    assert difference(ours.relevance, expected) <= 1e-4  # zennit stabilizes z⁺, of which nothing is needed


def test_sums_that_modules_cannot_see():
    """By the contribution matrices; zennit gives the whole relevance to both summands, and the map sums to twice the logit."""
    model, x, target = residual()
    ours = relprop.explain(model, x, target, method="lrp-epsilon", epsilon=0.0, bias="leave out").relevance
    doubled = by_zennit(model, x, target, theirs.LayerMapComposite([(Linear, hooks.Epsilon(0.0, zero_params=["bias"]))]))
    f, head = model.f.weight.detach(), model.head.weight.detach()
    with torch.no_grad():
        logits = model(x)
    for b in range(2):
        inner = f @ x[b]  # what the layer's relevance is divided by
        summands = torch.stack([x[b], model.f(x[b]).detach()])
        total = summands.sum(0)
        z = total * head[target[b]]
        at_sum = logits[b, target[b]] * z / z.sum()
        skip, branch = (at_sum * part / total for part in summands)
        expected = skip + (x[b] * f).T @ (branch / inner)
        torch.testing.assert_close(ours[b], expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(ours[b].sum(), logits[b, target[b]], rtol=1e-9, atol=1e-12)
        twice = at_sum + (x[b] * f).T @ (at_sum / inner)
        torch.testing.assert_close(doubled[b], twice, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(doubled[b].sum(), 2 * logits[b, target[b]], rtol=1e-9, atol=1e-12)
