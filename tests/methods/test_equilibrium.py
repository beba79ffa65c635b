"""Attribution Equilibrium: its two rules against loops and autograd in float64, the balance of its signs, and what it refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import relprop
from relprop.errors import OptionError
from relprop.methods import make_method
from relprop.methods.equilibrium import GRADIENT
from relprop.propagation.method import Method
from relprop.rules.starts import STARTS
from relprop.zoo import import_torchvision
from tests.methods.models import Attending, Hidden, Plain, images, made
from tests.rules.reference import TIGHT, box_shares, contribution_matrix


class Chain(nn.Module):
    """Three conv layers, the middle one of chosen size, and a dense head with a hidden layer."""

    def __init__(self, *, kernel: int = 3, rectified: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, kernel)
        side = 6 - kernel + 1
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4 * side * side, 6), nn.ReLU(), nn.Linear(6, 5))
        self.rectified = rectified

    def middle(self, x: Tensor) -> Tensor:
        return F.relu(self.first(x)) if self.rectified else self.first(x)

    def value(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.middle(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.value(x))


def shares(weights: np.ndarray, x: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """Shares of every output's relevance in proportion to ``x_i |w_ij|``, one output at a time; ``weights`` is ``(inputs, outputs)``."""
    found = np.zeros_like(x)
    for j, r in enumerate(relevance):
        part = x * np.abs(weights[:, j])
        if part.sum() > 0:
            found += part / part.sum() * r
    return found


def balanced(weights: np.ndarray, x: np.ndarray, relevance: np.ndarray, ratio: float, *, wide: bool) -> np.ndarray:
    """The rule of one layer, term by term."""
    up, down = np.maximum(relevance, 0), np.minimum(relevance, 0)
    size, taken = np.abs(relevance).sum(), float(up.sum() > 0)
    up, down = up / (up.sum() or 1), down / (-down.sum() or 1)
    active = np.maximum(x, 0)
    by_value = shares(weights, active, (ratio if wide else 1) * up + down)
    if wide:
        some = by_value != 0
        by_value = np.where(some, by_value - taken / some.sum(), 0)
    found = by_value + shares(weights, (x > 0) * 1.0, up) + shares(weights, (x <= 0) * 1.0, down)
    return found / np.abs(found).sum() * size


def slowly(model: Chain, x: Tensor, target: int, ratio: float) -> Tensor:
    """The map of one image ``(2, H, W)``: channels weighed by their mean gradient, then the two layers in loops."""
    value = model.value(x[None]).detach().requires_grad_()
    (slope,) = torch.autograd.grad(model.head(value)[0, target], value)
    relevance = (value.detach() * slope.mean((2, 3), keepdim=True)).flatten().numpy()
    with torch.no_grad():
        middle = model.middle(x[None])[0]
        # of inputs that are one: the weights themselves
        weights = contribution_matrix(model.second, torch.ones_like(middle))
        wide = model.second.kernel_size[0] > 1
        relevance = balanced(weights, middle.flatten().numpy(), relevance, ratio, wide=wide)
        weights = contribution_matrix(model.first, torch.ones_like(x))
    flat = x.flatten().numpy()
    low, high = np.full_like(flat, flat.min()), np.full_like(flat, flat.max())
    return torch.from_numpy(box_shares(weights, flat, low, high, relevance)).view_as(x)


@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize(("kernel", "ratio"), [(3, 2.0), (3, 1.25), (1, 2.0)])
def test_equals_loops(kernel, ratio, rectified):
    model = made(Chain, kernel=kernel, rectified=rectified)
    x = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    target = torch.tensor([[0, 3], [1, 1], [4, 2]])
    found = relprop.Explainer(model, x, "attribution-equilibrium", ratio=ratio)(x, target)
    for b in range(3):
        for k in range(2):
            expected = slowly(model, x[b], int(target[b, k]), ratio)
            torch.testing.assert_close(found.relevance[b, k], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("model", "x"), [(Plain, (2, 3, 16, 16)), (Hidden, (3, 6)), (Attending, None)])
def test_the_gradient_rule_is_the_gradient(model, x):
    network = made(model)
    inputs = images() if x is None else torch.randn(x, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    method = Method("chain-rule", dict(GRADIENT.rules), start=STARTS["one"], conserves=False)
    found = relprop.Explainer(network, inputs, method)(inputs, 2).relevance
    leaf = inputs.clone().requires_grad_()
    (expected,) = torch.autograd.grad(network(leaf)[:, 2].sum(), leaf)
    torch.testing.assert_close(found, expected, **TIGHT)


@pytest.mark.parametrize("ratio", [2.0, 1.0])
def test_its_signs_keep_the_ratio(ratio):
    """Below a wide layer positive and negative relevance balance with a ratio of 2, and every layer keeps the sum of magnitudes."""
    model, x = made(Plain), torch.rand(2, 3, 16, 16, dtype=torch.float64)
    explainer = relprop.Explainer(model, x, "attribution-equilibrium", ratio=ratio, layer="features.4")
    found = explainer(x, 1, layers=["features.2"]).layers["features.2"]
    value = model.features(x).detach().requires_grad_()
    (slope,) = torch.autograd.grad(model.head(value)[:, 1].sum(), value)
    start = value.detach() * slope.mean((2, 3), keepdim=True)
    magnitude = start.abs().sum((1, 2, 3))
    torch.testing.assert_close(found.abs().sum((1, 2, 3)), magnitude, **TIGHT)
    assert ((found.sum((1, 2, 3)) / magnitude).abs() < 1e-9).all() == (ratio == 2)


def test_residual_networks_and_batches():
    import_torchvision()
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model, x = resnet18().double().eval(), torch.rand(2, 3, 64, 64, dtype=torch.float64)
    explainer = relprop.Explainer(model, x, "attribution-equilibrium")
    both, alone = explainer(x, 3), explainer(x[1:], 3)
    assert both.relevance.abs().sum() > 0
    torch.testing.assert_close(both.relevance[1:], alone.relevance, **TIGHT)
    scale = both.relevance.abs().sum((1, 2, 3))
    assert (both.relevance.sum((1, 2, 3)).abs() < 0.5 * scale).all(), "positive and negative relevance balance"


@pytest.mark.parametrize("ratio", [0.5, 2.5, float("nan")])
def test_refuses_other_ratios(ratio):
    with pytest.raises(OptionError, match="must lie between 1 and 2"):
        make_method("attribution-equilibrium", {"ratio": ratio})
