"""An op has one role, whatever the method that asks."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relprop
from relprop.zoo import import_torchvision


class Gated(nn.Module):
    """A residual network with a gate, attention, a constant added to a value, and a mask made by a comparison."""

    def __init__(self):
        super().__init__()
        self.first, self.gate, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.position = nn.Parameter(torch.randn(4, 6))

    def forward(self, x):
        y = self.first(x) + self.position
        y = y + torch.sigmoid(self.gate(y)) * y
        y = y * (y > 0).to(y.dtype)
        y = F.scaled_dot_product_attention(y, y, y)
        return self.head((y / 2).mean(1))


def rows(explainer):
    """Module, op and role of every line of the printed plan."""
    lines = str(explainer.plan).splitlines()
    header = next(line for line in lines if line.startswith("module"))
    starts = [header.index(name) for name in ("module", "op", "role")]
    ends = [*starts[1:], header.index("rule") if "rule" in header else None]
    body = [line for line in lines if not line.startswith(("module", "─", "-", "Note"))]
    return [tuple(line[a:b].strip() for a, b in zip(starts, ends, strict=True)) for line in body]


@pytest.mark.parametrize("method", ["gradient", "integrated-gradients", "abslrp", "lrp-gamma"])
def test_every_method_prints_the_same_roles(method):
    captured = relprop.capture(Gated(), torch.randn(2, 4, 6))
    assert rows(captured.explainer(method)) == rows(captured.explainer("rap"))


def test_engines_print_the_same_roles_of_a_network_with_batch_norms():
    pytest.importorskip("torchvision")
    model = import_torchvision().models.resnet18(weights=None)
    captured = relprop.capture(model, torch.randn(1, 3, 32, 32))
    assert rows(captured.explainer("grad-cam", layer="layer3")) == rows(captured.explainer("abslrp"))  # neither folds BatchNorm
    assert rows(captured.explainer("gradient")) == rows(captured.explainer("rap"))  # both do
