import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import relprop
from relprop.errors import OptionError
from tests.methods.models import Attending, Hidden, Plain, images, made

FROM_GRADIENT = ("grad-cam", "grad-cam-plus-plus", "layer-cam")


def by_hand(model: Plain, x: Tensor, target: int) -> dict[str, Tensor]:
    """The maps from their formulas, with activation and gradient of the last convolution."""
    a = model.features(x).detach().requires_grad_()
    g = torch.autograd.grad(model.head(a)[:, target].sum(), a)[0]
    a = a.detach()
    alpha = g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3)
    alpha = torch.where(g == 0, 0.0, alpha)
    maps = {
        "grad-cam": (g.mean((2, 3), keepdim=True) * a).sum(1),
        "grad-cam-plus-plus": ((alpha * g.clamp(min=0)).sum((2, 3), keepdim=True) * a).sum(1),
        "layer-cam": (g.clamp(min=0) * a).sum(1),
    }
    return {name: F.interpolate(m.clamp(min=0)[:, None], (16, 16), mode="bilinear")[:, 0] for name, m in maps.items()}


@pytest.mark.parametrize("name", FROM_GRADIENT)
def test_maps_follow_their_formulas(name: str) -> None:
    model, x = made(Plain), images()
    result = relprop.explain(model, x, 2, method=name)
    torch.testing.assert_close(result.heatmap(), by_hand(model, x, 2)[name])
    assert "'features'" in result.notes[-1]
    named = relprop.explain(model, x, 2, method=name, layer="features")
    torch.testing.assert_close(named.relevance, result.relevance)


@pytest.mark.parametrize(
    ("name", "peer"),
    [("grad-cam", "GradCAM"), ("grad-cam-plus-plus", "GradCAMPlusPlus"), ("layer-cam", "LayerCAM"), ("score-cam", "ScoreCAM")],
)
def test_the_same_as_pytorch_grad_cam_up_to_its_scaling(name: str, peer: str) -> None:
    from relprop.zoo.torchvision_ops import import_torchvision

    with contextlib.suppress(Exception):
        import_torchvision()
    library = pytest.importorskip("pytorch_grad_cam", exc_type=ImportError)
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets", exc_type=ImportError)
    model, x = made(Plain).float(), images(2, dtype=torch.float32)
    with getattr(library, peer)(model=model, target_layers=[model.features]) as cam:
        expected = torch.from_numpy(cam(x, [targets.ClassifierOutputTarget(2)] * 2))
    ours = relprop.explain(model, x, 2, method=name).heatmap()
    low, high = ours.amin((1, 2), keepdim=True), ours.amax((1, 2), keepdim=True)
    for mine, theirs in zip((ours - low) / (high - low), expected, strict=True):
        assert torch.corrcoef(torch.stack([mine.flatten(), theirs.flatten()]))[0, 1] > 0.999
        assert (mine - theirs).abs().max() < 0.05


def test_score_cam_follows_its_formula() -> None:
    model, x = made(Plain), images(1)
    with torch.no_grad():
        a = model.features(x)[0]
        masks = F.interpolate(a[None], (16, 16), mode="bilinear")[0]
        low, high = masks.amin((1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
        masks = torch.where(high > low, (masks - low) / (high - low), 0.0)
        weights = model(x * masks[:, None])[:, 3].softmax(0)
        expected = F.interpolate((weights[:, None, None] * a).sum(0).clamp(min=0)[None, None], (16, 16), mode="bilinear")[0]
    torch.testing.assert_close(relprop.explain(model, x, 3, method="score-cam").heatmap(), expected)


def test_in_a_transformer_the_last_norm_before_attention_is_found() -> None:
    model, x = made(Attending), images()
    result = relprop.explain(model, x, 1, method="grad-cam")
    assert "'norm1'" in result.notes[-1]
    assert bool(result.heatmap().any())


def test_tokens_are_laid_out_row_by_row() -> None:
    model = made(Attending)
    x = images(1, 16)
    found = relprop.Explainer(model, x, "layer-cam", layer="norm1")(x, 1).heatmap()
    kept: list[Tensor] = []
    handle = model.norm1.register_forward_hook(lambda _m, _i, y: kept.append(y) or y.retain_grad())
    model(x)[:, 1].sum().backward()
    handle.remove()
    a, g = kept[0].detach()[:, 1:], kept[0].grad[:, 1:]
    expected = (g.clamp(min=0) * a).sum(-1).clamp(min=0).reshape(1, 1, 4, 4)
    torch.testing.assert_close(found, F.interpolate(expected, (16, 16), mode="bilinear")[:, 0])


class ChannelsLast(nn.Module):
    """Features as ``(B, h, w, C)``, as Swin has them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 4, 4), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.norm(self.conv(x).permute(0, 2, 3, 1))).mean((1, 2)))


def test_channels_may_come_last() -> None:
    model = ChannelsLast().double()
    x = images(2, 16)
    result = relprop.explain(model, x, 1, method="layer-cam", layer="norm")
    a = model.norm(model.conv(x).permute(0, 2, 3, 1)).detach().requires_grad_()
    g = torch.autograd.grad(model.head(F.gelu(a).mean((1, 2)))[:, 1].sum(), a)[0]
    expected = (g.clamp(min=0) * a).sum(-1).clamp(min=0).detach()[:, None]
    torch.testing.assert_close(result.heatmap(), F.interpolate(expected, (16, 16), mode="bilinear")[:, 0])


def test_a_model_without_a_grid_is_refused() -> None:
    with pytest.raises(OptionError, match="no module whose output is a grid"):
        relprop.Explainer(made(Hidden), torch.zeros(1, 6, dtype=torch.float64), "grad-cam")
