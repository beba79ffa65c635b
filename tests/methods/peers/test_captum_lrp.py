"""The LRP family against captum's LRP on VGG, where that works, and by explicit matrices where it does not."""

import pytest
import torch
from torch import nn

import relprop
from relprop import rules
from tests.methods.peers.peers import classifier, difference, model_of, peer, photos, residual

peer("captum.attr")

from captum.attr import LRP  # noqa: E402
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule  # noqa: E402

EPS = 1e-9

RULES = {
    "epsilon": (lambda: EpsilonRule(EPS), rules.epsilon(EPS)),
    "alpha1-beta0": (lambda: Alpha1_Beta0_Rule(set_bias_to_zero=True), rules.zplus(EPS, "leave out")),
    "gamma": (lambda: GammaRule(0.25, set_bias_to_zero=True), rules.gamma(0.25, EPS, "leave out")),
}
"""captum's α1β0 and γ keep negative parts of the bias among the positive contributions, so biases are left out."""


@pytest.mark.parametrize("name", RULES)
def test_conv_layers_by_each_rule(name):
    """The first layer, whose inputs have both signs, and the dense layers by ε: captum's other rules assume positive inputs."""
    make, rule = RULES[name]
    model = classifier("vgg11")
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    convolutions = [m for m in model.features if isinstance(m, nn.Conv2d)]
    for layer in convolutions[1:]:
        layer.rule = make()
    inputs, target = photos()
    expected = LRP(model).attribute(inputs.clone().requires_grad_(), target=target).detach()
    proportional = rules.epsilon(EPS)
    method = relprop.Method(name, {"dense": proportional, "conv": rule, "input": proportional})
    ours = relprop.explain(model_of("vgg11"), inputs, target, method=method)
    assert difference(ours.relevance, expected) <= 1e-4  # captum stabilizes max pooling too


def test_sums_that_modules_cannot_see():
    """captum's map of ``x + f(x)`` does not add up to the logit; ours does, without what the biases hold."""
    model, x, target = residual()
    ours = relprop.explain(model, x, target, method="lrp-epsilon", epsilon=0.0, bias="absorb")
    theirs = LRP(model).attribute(x.clone().requires_grad_(), target=target).detach()
    f, head = model.f.weight.detach(), model.head.weight.detach()
    for b in range(2):
        # with R/z in every layer, relevance is the input times the product of the matrices
        expected = x[b] * (head[target[b]] + head[target[b]] @ f)
        torch.testing.assert_close(ours.relevance[b], expected, rtol=1e-9, atol=1e-12)
        biases = head[target[b]] @ model.f.bias.detach() + model.head.bias.detach()[target[b]]
        torch.testing.assert_close(ours.absorbed[b], biases, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(theirs[b], expected, rtol=0.01)


class Flat(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).flatten(1)


def test_batchnorm_that_explodes():
    """BatchNorm whose output lies near zero: captum divides by it, we fold it into the layer before it and stay at the exact matrix."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 2, 2)).double().eval()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.zero_()
        model[1].running_mean.fill_(1.0)
        model[1].bias.zero_()
        model[1].eps = 0.0
    x = torch.tensor([1.001, 2.0, 1.5, 1.0005]).double().reshape(1, 1, 2, 2)
    flat = Flat(model)
    ours = relprop.explain(flat, x, 1, method="lrp-zplus", epsilon=0.0, bias="leave out")
    theirs = LRP(flat).attribute(x.clone().requires_grad_(), target=1).detach()
    weight = model[3].weight.detach()[1].flatten()
    active = (x.flatten() - 1).clamp(min=0)
    logit = float(flat(x)[0, 1])
    shares = active * weight.clamp(min=0)
    expected = logit * shares / shares.sum()  # the folded layer has one input per output, and its bias is left out
    torch.testing.assert_close(ours.relevance.flatten(), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours.relevance.sum() + ours.absorbed[0], ours.logits[0, 1], rtol=1e-9, atol=1e-12)
    by_epsilon = x.flatten() * weight  # captum: dividing by x − 1 and multiplying by x
    torch.testing.assert_close(theirs.flatten(), by_epsilon, rtol=1e-5, atol=1e-6)
    assert float(theirs.abs().sum()) > 2 * abs(logit)
