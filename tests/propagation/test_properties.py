"""What must hold for every network: over random small ones with residuals, concatenations, shared modules and functional calls."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import relprop
from tests.propagation.networks import FEW, networks
from tests.rules.reference import TIGHT, check_conservation

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "variant": st.sampled_from(["paper", "released"]),
        "add": st.sampled_from(["positive", "absolute"]),
        "input_rule": st.sampled_from(["zbox", "rap"]),
    },
)


@FEW
@given(networks(), OPTIONS)
def test_relevance_adds_up_to_the_logit(drawn, options):
    model, x = drawn
    explanation = relprop.explain(model, x, torch.tensor([0, 1, 2]), **options)
    torch.testing.assert_close(explanation.logits, model(x).detach(), **TIGHT)
    check_conservation(explanation)


@FEW
@given(networks())
def test_a_sample_does_not_depend_on_its_mates(drawn):
    model, x = drawn
    explainer = relprop.Explainer(model, x[:1])
    together = explainer(x, 1)
    for i in range(3):
        torch.testing.assert_close(explainer(x[i : i + 1], 1).relevance, together.relevance[i : i + 1], **TIGHT)
    mixed = explainer(torch.stack([x[2], 100 * x[0], x[2]]), 1).relevance
    torch.testing.assert_close(mixed[0], together.relevance[2], **TIGHT)
    torch.testing.assert_close(mixed[2], together.relevance[2], **TIGHT)


@FEW
@given(networks())
def test_several_targets_are_several_runs_and_runs_repeat(drawn):
    model, x = drawn
    explainer = relprop.Explainer(model, x)
    targets = torch.tensor([[0, 2], [1, 1], [2, 0]])
    several = explainer(x, targets)
    for k in range(2):
        torch.testing.assert_close(several.relevance[:, k], explainer(x, targets[:, k]).relevance, **TIGHT)
    torch.testing.assert_close(explainer(x, targets).relevance, several.relevance, rtol=0, atol=0)


@FEW
@given(networks())
def test_memory_format_and_strides_do_not_matter(drawn):
    model, x = drawn
    explainer = relprop.Explainer(model, x)
    expected = explainer(x, 0).relevance
    last = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(explainer(last, 0).relevance, expected, **TIGHT)
    sparse = torch.empty(3, 2, 4, 8, dtype=x.dtype)[..., ::2].copy_(x)
    torch.testing.assert_close(explainer(sparse, 0).relevance, expected, **TIGHT)
    model = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(relprop.explain(model, last, 0).relevance, expected, **TIGHT)


@FEW
@given(networks(), st.floats(-3, 3).filter(lambda f: abs(f) > 0.01))
def test_relevance_scales_with_the_seed(drawn, factor):
    model, x = drawn
    explainer = relprop.Explainer(model, x)
    seed = torch.randn(3, 3, dtype=torch.float64)
    once, scaled = explainer(x, output_relevance=seed), explainer(x, output_relevance=factor * seed)
    torch.testing.assert_close(scaled.relevance, factor * once.relevance, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(scaled.absorbed, factor * once.absorbed, rtol=1e-8, atol=1e-9)


@FEW
@given(networks())
def test_zero_and_constant_inputs(drawn):
    model, x = drawn
    explainer = relprop.Explainer(model, x)
    for value in (0.0, 1.0, -2.0):
        explanation = explainer(torch.full_like(x, value), 0)
        assert torch.isfinite(explanation.relevance).all()
        check_conservation(explanation)


@FEW
@given(networks())
def test_positive_scale_of_a_first_layer_without_bias_does_not_matter(drawn):
    """Twice the input through half the weights is the same network, and RAP shares by contribution."""
    model, x = drawn
    expected = relprop.explain(model, x, 1).relevance
    with torch.no_grad():
        model.stem.weight /= 2
    torch.testing.assert_close(relprop.explain(model, 2 * x, 1).relevance, expected, rtol=1e-8, atol=1e-9)


@FEW
@given(networks())
def test_permuting_hidden_channels_does_not_matter(drawn):
    """Two neurons that swap places, weights and all, leave the relevance of the inputs."""
    model, x = drawn
    model = nn.Sequential(model, nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3)).double().eval()
    expected = relprop.explain(model, x, 1).relevance
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        model[1].weight.copy_(model[1].weight[order])
        model[1].bias.copy_(model[1].bias[order])
        model[3].weight.copy_(model[3].weight[:, order])
    torch.testing.assert_close(relprop.explain(model, x, 1).relevance, expected, rtol=1e-8, atol=1e-9)
