import itertools

import pytest
import torch
from torch import Tensor, nn

import relprop
from tests.methods.models import images


class Additive(nn.Module):
    """A logit that is a weighted sum of pixels: what hiding a part does is known exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bchw,kchw->bk", x, self.weight)


def by_cell(values: Tensor) -> Tensor:
    """Sums over channels and 4×4 cells, at every pixel of the cell."""
    sums = values.sum(1).unflatten(2, (4, 4)).unflatten(1, (4, 4)).sum((2, 4))
    return sums.repeat_interleave(4, 1).repeat_interleave(4, 2)


def test_occlusion_is_what_each_window_takes_away() -> None:
    model, x = Additive(), images(2)
    result = relprop.explain(model, x, 1, method="occlusion", window=4, stride=4, baseline=0.5)
    torch.testing.assert_close(result.heatmap(), by_cell((x - 0.5) * model.weight[1].detach()), rtol=1e-5, atol=1e-5)


def test_kernel_shap_finds_the_shapley_values_of_an_additive_model() -> None:
    pytest.importorskip("sklearn")
    model, x = Additive(), images(2)
    result = relprop.explain(model, x, 1, method="kernel-shap", count=16, samples=200)
    torch.testing.assert_close(result.heatmap(), by_cell(x * model.weight[1].detach()), rtol=1e-4, atol=1e-3)


def test_lime_ranks_the_segments_of_an_additive_model() -> None:
    pytest.importorskip("sklearn")
    model, x = Additive(), images(1)
    result = relprop.explain(model, x, 1, method="lime", count=16, samples=500).heatmap()
    expected = by_cell(x * model.weight[1].detach())
    assert torch.corrcoef(torch.stack([result.flatten(), expected.flatten()]))[0, 1] > 0.95


class Curved(nn.Module):
    """A logit in which four quarters of the image act together."""

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d = x.mean(1).unflatten(2, (2, 8)).unflatten(1, (2, 8)).mean((2, 4)).flatten(1).unbind(1)
        return torch.stack([a * b + c * d * a, a * b * c - d + (b * d).exp() + c**2], 1)


def by_quarter(values: Tensor) -> Tensor:
    return values.unflatten(1, (2, 2)).repeat_interleave(8, 1).repeat_interleave(8, 2)


def shapley_values(model: nn.Module, x: Tensor) -> Tensor:
    """Averaged over all orders in which four quarters are shown."""
    total = torch.zeros(len(x), 4, dtype=x.dtype)
    orders = list(itertools.permutations(range(4)))
    for order in orders:
        present = torch.zeros(len(x), 4, dtype=x.dtype)
        for quarter in order:
            before = model(x * by_quarter(present).unsqueeze(1))[:, 1]
            present[:, quarter] = 1
            total[:, quarter] += model(x * by_quarter(present).unsqueeze(1))[:, 1] - before
    return total / len(orders)


def test_kernel_shap_finds_the_shapley_values() -> None:
    """By the definition; the weights add up to what hiding everything takes away, whatever the coalitions."""
    x = 2 * images(2) + 1
    result = relprop.explain(Curved(), x, 1, method="kernel-shap", count=4, samples=20000, internal_batch_size=5000)
    expected = shapley_values(Curved(), x)
    assert (result.heatmap() - by_quarter(expected)).abs().max() < 0.02 * expected.abs().max()
    few = relprop.explain(Curved(), x, 1, method="kernel-shap", count=4, samples=5).heatmap()
    whole = (Curved()(x) - Curved()(torch.zeros_like(x)))[:, 1]
    torch.testing.assert_close(few[:, ::8, ::8].sum((1, 2)), whole)


@pytest.mark.parametrize("name", ["kernel-shap", "lime"])
def test_surrogates_equal_captums_up_to_the_draws(name: str) -> None:
    pytest.importorskip("sklearn")
    attr = pytest.importorskip("captum.attr")
    x = 2 * images(1) + 1
    segments = by_quarter(torch.arange(4.0)[None]).long()[None]
    if name == "lime":
        models = pytest.importorskip("captum._utils.models.linear_model")
        method, options = attr.Lime(Curved(), interpretable_model=models.SkLearnLasso(alpha=0.01)), {"alpha": 0.01}
    else:
        method, options = attr.KernelShap(Curved()), {}
    expected = method.attribute(x, target=1, feature_mask=segments, n_samples=20000, perturbations_per_eval=5000)[:, 0]
    found = relprop.explain(Curved(), x, 1, method=name, count=4, samples=20000, internal_batch_size=5000, **options).heatmap()
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_segments_may_be_superpixels() -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("skimage")
    x = images(1) * 0.01
    x[..., 8:] += 1
    result = relprop.explain(Additive(), x, 1, method="kernel-shap", segments="slic", count=8, samples=50).heatmap()
    assert 2 <= result.unique().numel() <= 16


def test_rise_is_the_mean_of_masks_weighted_by_the_output() -> None:
    """For an additive model the expected map at a pixel is affine in how masks there go with the output: bright where weights are."""

    class Spot(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, :, 2:6, 2:6].mean((1, 2, 3)), x[:, :, 10:, 10:].mean((1, 2, 3))], 1)

    x = torch.ones(1, 3, 16, 16, dtype=torch.float64)
    heatmap = relprop.explain(Spot(), x, 0, method="rise", masks=500, grid=4, score="logit").heatmap()[0]
    assert heatmap[3:5, 3:5].mean() > 1.3 * heatmap[10:, 10:].mean()
    other = relprop.explain(Spot(), x, 0, method="rise", masks=500, grid=4, score="logit", seed=1).heatmap()[0]
    assert not torch.equal(heatmap, other)
    assert torch.corrcoef(torch.stack([heatmap.flatten(), other.flatten()]))[0, 1] > 0.8


def test_rise_takes_probabilities_unless_told_otherwise() -> None:
    x = images(1)
    probability, logit = (
        relprop.explain(Additive(), x, 1, method="rise", masks=50, score=o).heatmap() for o in ("probability", "logit")
    )
    assert probability.min() >= 0
    assert probability.max() <= 2
    assert not torch.allclose(probability, logit)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "captum.attr", None)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    for name in ("occlusion", "lime", "integrated-gradients"):
        with pytest.raises(relprop.RelpropError, match=r"relprop\[captum\]"):
            relprop.explain(Additive(), images(1), 1, method=name)
    assert relprop.explain(Additive(), images(1), 1, method="rise", masks=4).relevance.shape == (1, 3, 16, 16)
