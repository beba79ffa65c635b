"""The first layer's box where the model pads its input itself."""

import pytest
import torch
from torch import nn

import relprop


@pytest.mark.parametrize("options", [{}, {"low": -3.0, "high": 3.0}], ids=["own bounds", "fixed bounds"])
def test_padding_as_an_op_equals_padding_of_the_convolution(options):
    """Padded zeros are constants: they have no box, and take no relevance."""
    torch.manual_seed(0)
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    inside = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *head).double()
    outside = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(3, 4, 3), *head).double()
    outside[1].load_state_dict(inside[0].state_dict())
    inputs = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected, found = (relprop.explain(model, inputs, **options) for model in (inside, outside))
    assert torch.allclose(found.relevance, expected.relevance, rtol=1e-9, atol=1e-12)
    assert found.absorbed.abs().max() < 1e-12


class Pair(nn.Module):
    """Two images in six channels, taken apart before the first layers."""

    def __init__(self, apart):
        super().__init__()
        self.apart, self.left, self.right, self.head = apart, nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(8, 5)

    def forward(self, x):
        left, right = self.apart(x)
        return self.head(torch.cat([self.left(left).relu().mean((2, 3)), self.right(right).relu().mean((2, 3))], 1))


def slices(x):
    return x[:, :3], x[:, 3:]


APART = {
    "chunk": lambda x: x.chunk(2, 1),
    "split": lambda x: x.split([3, 3], 1),
    "tensor_split": lambda x: x.tensor_split(2, 1),
    "unbind": lambda x: x.unflatten(1, (2, 3)).unbind(1),
    "twice": lambda x: [torch.cat(part.split(1, 1), 1) for part in x.chunk(2, 1)],
    "slices": slices,
}
METHODS = ["rap", "lrp-epsilon", "attnlrp", "epsilon-gamma-box"]


def made_pair(apart):
    torch.manual_seed(0)
    return Pair(apart).double(), torch.randn(2, 6, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("apart", APART.values(), ids=APART)
def test_an_input_may_be_taken_apart_before_the_first_layers(apart, method):
    """All relevance arrives, and each part of the input gets what it gets where the model slices."""
    model, x = made_pair(apart)
    found = relprop.explain(model, x, method=method)
    assert (found.relevance.sum((1, 2, 3)) + found.absorbed - found.logits.amax(1)).abs().max() < 1e-9
    expected = relprop.explain(made_pair(slices)[0], x, method=method)
    assert torch.allclose(found.relevance, expected.relevance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_negative_factor_swaps_the_bounds_of_every_part(method):
    negated, x = made_pair(lambda x: (-x).chunk(2, 1))
    found = relprop.explain(negated, x, method=method)
    expected = relprop.explain(made_pair(slices)[0], -x, method=method)
    assert torch.allclose(found.relevance, expected.relevance, rtol=1e-9, atol=1e-12)


def test_a_part_that_nobody_reads_takes_no_relevance():
    model, x = made_pair(lambda x: x.split(2, 1)[:1] * 2)
    model.left, model.right = nn.Conv2d(2, 4, 3).double(), nn.Conv2d(2, 4, 3).double()
    found = relprop.explain(model, x, low=-4.0, high=4.0)
    assert not found.relevance[:, 2:].any()
    assert (found.relevance.sum((1, 2, 3)) + found.absorbed - found.logits.amax(1)).abs().max() < 1e-9
    assert relprop.Explainer(model, x).trace(x).worst.deviation < 1e-9
