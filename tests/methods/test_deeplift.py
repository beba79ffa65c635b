import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import relprop
from relprop.errors import OptionError, UnsupportedOpError
from tests.methods.models import Attending, Gated, Hidden, Plain, images, made


def vectors() -> Tensor:
    return images(2).flatten()[:30].reshape(5, 6)


def averaging() -> nn.Module:
    """A convolutional network without max pooling, where captum's own convergence delta is not zero."""
    layers = [
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 6, 3),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(150, 9),
    ]
    torch.manual_seed(0)
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(9, 5)).double().eval()


@pytest.mark.parametrize("baseline", [0.0, 0.3])
@pytest.mark.filterwarnings("ignore")
def test_the_same_as_captum_where_captum_is_complete(baseline: float) -> None:
    captum = pytest.importorskip("captum.attr")
    model, x = averaging(), images()
    expected = captum.DeepLift(model).attribute(x.clone().requires_grad_(), torch.full_like(x, baseline), target=2)
    torch.testing.assert_close(relprop.explain(model, x, 2, method="deeplift", baseline=baseline).relevance, expected.detach())


def test_max_pooling_gives_the_difference_to_the_winner() -> None:
    model = nn.Sequential(nn.MaxPool1d(2), nn.Flatten(), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[3.0, -2.0]]))
    # first pair: 5 wins over the reference's 2; second pair: the reference's 7 wins over 1
    x, x0 = torch.tensor([[[1.0, 5.0, 1.0, 0.0]]]).double(), torch.tensor([[[2.0, 0.0, 3.0, 7.0]]]).double()
    found = relprop.explain(model, x, 0, method="deeplift", baseline=x0[0]).relevance
    torch.testing.assert_close(found, torch.tensor([[[0.0, 3.0 * (5 - 2), 0.0, -2.0 * (1 - 7)]]]).double())


@pytest.mark.parametrize("kind", [Plain, Attending, Gated])
@pytest.mark.parametrize("baseline", [0.0, -0.4])
def test_relevance_adds_up_to_the_difference_on_any_network(kind: type[nn.Module], baseline: float) -> None:
    model, x = made(kind), images()
    result = relprop.explain(model, x, 1, method="deeplift", baseline=baseline)
    reference = model(torch.full_like(x, baseline))[:, 1]
    torch.testing.assert_close(result.relevance.sum((1, 2, 3)), (model(x)[:, 1] - reference).detach(), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(result.absorbed, reference.detach())
    assert result.completeness_error.abs().max() < 1e-10


def test_reused_and_functional_relus_follow_the_formula() -> None:
    model, x = made(Hidden), vectors()
    x0 = torch.full_like(x, 0.1)

    def values(x: Tensor) -> tuple[Tensor, ...]:
        a = model.first(x)
        b = model.second(a.clamp(min=0))
        return a, b, a.clamp(min=0) + b.clamp(min=0)

    with torch.no_grad():
        pre, pre0 = values(x), values(x0)
        slopes = ((z.clamp(min=0) - z0.clamp(min=0)) / (z - z0) for z, z0 in zip(pre, pre0, strict=True))
        m_a, m_b, m_c = (slope.nan_to_num(0.0) for slope in slopes)  # where nothing changes, the ReLU is shut in both
        r = model.last.weight[2] * m_c
        expected = (((r + (r * m_b) @ model.second.weight) * m_a) @ model.first.weight) * (x - x0)
    torch.testing.assert_close(relprop.explain(model, x, 2, method="deeplift", baseline=0.1).relevance, expected)


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x[:, :3] * x[:, 3:]).sum(1, keepdim=True)


def test_a_product_is_shared_by_its_shapley_values() -> None:
    x, x0 = vectors(), torch.full((1, 6), 0.5, dtype=torch.float64)
    a, b, a0, b0 = x[:, :3], x[:, 3:], x0[:, :3], x0[:, 3:]
    shapley = [((a - a0) * b0 + (a - a0) * b) / 2, ((b - b0) * a0 + (b - b0) * a) / 2]
    torch.testing.assert_close(relprop.explain(Product(), x, 0, method="deeplift", baseline=0.5).relevance, torch.cat(shapley, 1))


def test_an_input_equal_to_its_reference_has_no_relevance() -> None:
    x = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    for kind in (Plain, Attending, Gated):
        assert not relprop.explain(made(kind), x, 0, method="deeplift").relevance.any()


def test_batchnorm_is_linear_folded_or_not() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(784, 2)
    ).double()
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    result = relprop.explain(model, images(), 1, method="deeplift", baseline=0.1)
    assert result.completeness_error.abs().max() < 1e-10


class Sorting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4).double()

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        return F.relu(h.sort(1).values) * torch.where(h > 0, h, 0.5 * h)


def test_ops_without_multipliers_are_refused_and_all_listed() -> None:
    with pytest.raises(UnsupportedOpError, match=r"aten::sort.*aten::where"):
        relprop.Explainer(Sorting(), vectors(), "deeplift")


def test_over_many_references_it_is_their_mean_as_captums_deep_lift_shap(tmp_path: Path) -> None:
    captum = pytest.importorskip("captum.attr")
    model, x = averaging(), images(2)
    references = images(5).flip(0)[:3] * 0.3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = captum.DeepLiftShap(model).attribute(x.clone().requires_grad_(), references, target=2).detach()
    found = relprop.explain(model, x, 2, method="deeplift", baselines=references)
    torch.testing.assert_close(found.relevance, expected)
    torch.testing.assert_close(found.absorbed, model(references)[:, 2].mean().expand(2).detach())
    assert found.completeness_error.abs().max() < 1e-10
    np.save(tmp_path / "references.npy", references.numpy())
    from_file = relprop.explain(model, x, 2, method="deeplift", baselines=str(tmp_path / "references.npy"))
    torch.testing.assert_close(from_file.relevance, found.relevance)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baselines": torch.zeros(2, 3, 4, 4)}, "it must be N × 3 × 16 × 16"),
        ({"baselines": torch.zeros(2, 3, 16, 16), "baseline": 0.5}, "not both"),
        ({"baselines": "nowhere.npy"}, "no .npy file"),
    ],
)
def test_references_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        relprop.explain(made(Plain), images(2), 1, method="deeplift", **options)
