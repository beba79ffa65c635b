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
