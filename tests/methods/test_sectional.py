"""Relative Sectional Propagation: its rule and its starts against loops and autograd in float64, and what it refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import relprop
from relprop.errors import OptionError, TargetError
from relprop.methods import make_method
from relprop.zoo import import_torchvision
from tests.methods.models import made
from tests.rules.reference import TIGHT, box_shares, contribution_matrix


class Chain(nn.Module):
    """Two conv layers, the second of chosen size, and a dense head."""

    def __init__(self, kernel: int = 3) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, kernel)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4 * (7 - kernel) ** 2, 5))

    def value(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.value(x))


def shares(x: np.ndarray, relevance: np.ndarray, kernel: int) -> np.ndarray:
    """Shares of relevance of one sign, element by element; ``x`` is ``(I, H, W)``, ``relevance`` ``(O, H', W')``."""
    found = np.zeros_like(x)
    places = [(i, j) for i in range(relevance.shape[1]) for j in range(relevance.shape[2])]
    for part in relevance:
        agreement = sum(part[i, j] * x[:, i : i + kernel, j : j + kernel] for i, j in places)
        for i, j in places:
            window = agreement * x[:, i : i + kernel, j : j + kernel]
            if part[i, j] and window.sum():
                found[:, i : i + kernel, j : j + kernel] += window / window.sum() * part[i, j]
    return found


def slowly(model: Chain, x: Tensor, target: int, kernel: int, others: int) -> Tensor:
    """The map of one image, ``(2, H, W)``."""
    value = model.value(x[None]).detach().requires_grad_()
    logits = model.head(value)[0]
    hostile = [c for c in logits.argsort(descending=True).tolist() if c != target][:others]
    explained = max(others, 1) * logits[target] - sum(logits[c] for c in hostile)
    (slope,) = torch.autograd.grad(explained, value)
    relevance = (value.detach() * slope.mean((2, 3), keepdim=True))[0]
    if others:
        evidence = relevance.sum(0)
        up, down = evidence.clamp(min=0), -evidence.clamp(max=0)
        relevance = (2 * up / up.sum().clamp(min=1e-300) - down / down.sum().clamp(min=1e-300)).expand_as(relevance) / 4
    relevance = relevance.numpy()
    with torch.no_grad():
        middle = F.relu(model.first(x)).numpy()
        weights = contribution_matrix(model.first, torch.ones_like(x))
    found = shares(middle, np.maximum(relevance, 0), kernel) - shares(middle, np.maximum(-relevance, 0), kernel)
    if kernel > 1:
        some = found != 0
        found = np.where(some, 2 * found - relevance.sum() / some.sum(), 0)
    flat = x.flatten().numpy()
    low, high = np.full_like(flat, flat.min()), np.full_like(flat, flat.max())
    return torch.from_numpy(box_shares(weights, flat, low, high, found.flatten())).view_as(x)


@pytest.mark.parametrize("others", [0, 1, 3])
@pytest.mark.parametrize("kernel", [1, 3])
def test_equals_loops(kernel, others):
    model = made(Chain, kernel=kernel)
    x = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    target = torch.tensor([[0, 3], [1, 1], [4, 2]])
    found = relprop.Explainer(model, x, "rsp", others=others)(x, target)
    for b in range(3):
        for k in range(2):
            expected = slowly(model, x[b], int(target[b, k]), kernel, others)
            torch.testing.assert_close(found.relevance[b, k], expected, rtol=1e-8, atol=1e-10)


def test_residual_networks_and_batches():
    import_torchvision()
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model, x = resnet18().double().eval(), torch.rand(2, 3, 64, 64, dtype=torch.float64)
    explainer = relprop.Explainer(model, x, "rsp", others=2)
    both, alone = explainer(x, 3), explainer(x[1:], 3)
    assert both.relevance.abs().sum() > 0
    torch.testing.assert_close(both.relevance[1:], alone.relevance, **TIGHT)


def test_windows_of_tokens_keep_their_samples():
    """Dense layers on shifted windows, whose batch dimension holds samples and windows, give the maps of each sample alone."""
    import_torchvision()
    from torchvision.models.swin_transformer import SwinTransformer

    torch.manual_seed(0)
    sizes = {"patch_size": [4, 4], "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2], "window_size": [4, 4], "num_classes": 5}
    model, x = SwinTransformer(**sizes).double().eval(), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    explainer = relprop.Explainer(model, x, "rsp")
    torch.testing.assert_close(explainer(x, 1).relevance[1:], explainer(x[1:], 1).relevance, **TIGHT)


def test_refuses_what_has_no_meaning():
    with pytest.raises(OptionError, match="must not be negative"):
        make_method("rsp", {"others": -1})
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1)).eval()
    with pytest.raises(TargetError, match="no class among several"):
        relprop.explain(model, torch.rand(1, 3, 8, 8), 0, method="rsp", others=1)
