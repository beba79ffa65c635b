"""The rule of influence and RAP with growth against their formulas, in loops in float64, and their properties."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import relprop
from relprop import rules
from relprop.errors import OptionError
from tests.rules.layers import LAYERS, explained, weights_of
from tests.rules.reference import TIGHT, assert_same, contribution_matrix, influence_shares, rap_shares


@pytest.mark.parametrize("growth", [0.0, 0.09, 3.0])
@pytest.mark.parametrize("nonnegative", [False, True], ids=["signed", "non-negative"])
@pytest.mark.parametrize("kind", LAYERS)
def test_shares_by_influence(kind, nonnegative, growth):
    layer, shape = LAYERS[kind]
    inputs, before, after = explained(layer, shape, rules.influence(growth), nonnegative=nonnegative)
    for b, x in enumerate(inputs):
        flat, relevance = x.flatten().numpy(), after[b].flatten().numpy()
        of_layer = growth if kind.startswith("dense") else 2 * growth
        assert_same(before[b], influence_shares(weights_of(layer, x), flat, relevance, of_layer))
        assert np.isclose(before[b].sum(), relevance.sum())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), factor=st.floats(0.1, 10), dead=st.booleans())
def test_influence_keeps_the_sum_and_scales(seed, factor, dead):
    """Also of samples without active inputs, of relevance times a factor, and whatever the batch mates."""
    source = torch.Generator().manual_seed(seed)
    layer = nn.Conv1d(2, 3, 3, padding=1).double()
    model = nn.Sequential(nn.ReLU(), layer, nn.Flatten(), nn.Linear(15, 3).double())
    x = torch.randn(2, 2, 5, generator=source, dtype=torch.float64)
    x[0] = -x[0].abs() if dead else x[0]
    explainer = relprop.Explainer(model, x, relprop.Method("tested", {"dense": "influence", "conv": "influence"}))
    relevance = torch.randn(2, 3, generator=source, dtype=torch.float64)
    found, scaled = (explainer(x, output_relevance=f * relevance) for f in (1.0, factor))
    torch.testing.assert_close(found.relevance.sum((1, 2)) + found.absorbed, relevance.sum(1), **TIGHT)
    torch.testing.assert_close(scaled.relevance, factor * found.relevance, **TIGHT)
    torch.testing.assert_close(explainer(x[1:], output_relevance=relevance[1:]).relevance, found.relevance[1:], **TIGHT)
    assert not (dead and found.relevance[0].any())


POOLS = {
    "max pool": (lambda x: F.max_pool2d(x, 2), (2, 5, 4)),
    "overlapping, padded": (lambda x: F.max_pool2d(x, 3, 2, 1), (2, 5, 6)),
    "rounded up": (lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), (1, 6, 5)),
    "dilated": (lambda x: F.max_pool2d(x, (2, 3), (1, 2), (0, 1), (3, 2)), (2, 6, 7)),
    "in one dimension": (lambda x: F.max_pool1d(x, 3, 2, 1), (2, 7)),
    "dilated, in one dimension": (lambda x: F.max_pool1d(x, 2, dilation=3), (2, 7)),
    "in three dimensions": (lambda x: F.max_pool3d(x, (1, 2, 2)), (1, 2, 4, 4)),
    "adaptive": (lambda x: F.adaptive_max_pool2d(x, (2, 3)), (2, 5, 4)),
    "adaptive, in one dimension": (lambda x: F.adaptive_max_pool1d(x, 3), (2, 5)),
    "with indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], (2, 4, 4)),
    "average pool": (lambda x: F.avg_pool2d(x, 3, 2, 1), (2, 5, 6)),
}


class Pooled(nn.Module):
    """A pool between two layers that keep every place to itself."""

    def __init__(self, pool, shape):
        super().__init__()
        torch.manual_seed(3)
        self.pool, self.before, self.behind = pool, nn.Identity(), nn.Identity()
        self.head = nn.Linear(pool(torch.zeros(1, *shape)).numel(), 3)

    def forward(self, x):
        return self.head(self.behind(self.pool(self.before(torch.relu(x)))).flatten(1))


@pytest.mark.parametrize("kind", POOLS)
def test_pools_share_among_all_inputs_of_a_window(kind):
    """Also for several targets at once, which are mapped over one way back."""
    pool, shape = POOLS[kind]
    model, x = Pooled(pool, shape).double(), torch.randn(2, *shape, generator=torch.Generator().manual_seed(4)).double()
    method = relprop.Method("tested", {"dense": rules.epsilon(), "select": "influence", "pool": "influence"})
    found = relprop.Explainer(model, x, method)(x, torch.tensor([[0, 2], [1, 0]]), layers=("behind",))
    members = contribution_matrix(pool, torch.ones(shape).double())  # a maximum of ones and zeros
    for b in range(2):
        for k in range(2):
            relevance = found.layers["behind"][b, k].flatten().numpy()
            expected = influence_shares(members, x[b].relu().flatten().numpy(), relevance, 0.18)
            assert_same(found.relevance[b, k], expected)


def test_other_maxima_pass_relevance_to_their_winner():
    model, x = Pooled(lambda x: x.amax(2), (2, 5)).double(), torch.randn(2, 2, 5).double()
    maps = [
        relprop.explain(model, x, 1, method=relprop.Method("tested", {"dense": rules.epsilon(), "select": rule})).relevance
        for rule in ("influence", "winner")
    ]
    assert torch.equal(*maps)
    assert int((maps[0] != 0).sum(2).max()) == 1


def test_the_rule_of_winners_is_for_maxima():
    with pytest.raises(OptionError, match="aten::linear selects nothing, so the rule 'winner' does not apply"):
        relprop.explain(nn.Linear(3, 2), torch.randn(1, 3), 1, method=relprop.Method("tested", {"dense": "winner"}))


@pytest.mark.parametrize("growth", [0.0, 0.09, 2.0])
@pytest.mark.parametrize("reached", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_rap_with_growth(kind, reached, growth):
    layer, shape = LAYERS[kind]
    inputs, before, after = explained(layer, shape, rules.rap(reached=reached, growth=growth), nonnegative=True)
    for b, x in enumerate(inputs):
        relevance = after[b].flatten().numpy()
        assert_same(before[b], rap_shares(contribution_matrix(layer, x), relevance, x.flatten().numpy() != 0, growth))
        assert np.isclose(before[b].sum(), relevance.sum())


@pytest.mark.parametrize("growth", [-0.1, float("inf"), float("nan")])
@pytest.mark.parametrize("rule", ["influence", "rap"])
def test_growth_is_finite_and_not_negative(rule, growth):
    with pytest.raises(OptionError, match=f"of rule '{rule}' must not be negative or infinite"):
        rules.make_rule(rule, {"growth": growth})
