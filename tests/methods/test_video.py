"""Networks of other libraries for videos and volumes, with random weights and small clips."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import relprop
from tests.rules.reference import check_conservation


def video(name: str) -> nn.Module:
    """A video network of torchvision."""
    from relprop.zoo.torchvision_ops import import_torchvision

    pytest.importorskip("torchvision")
    import_torchvision()
    from torchvision.models import video as models

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(models, name)(num_classes=5).eval()
    if name == "s3d":
        model.avgpool = nn.AdaptiveAvgPool3d(1)  # its own takes clips of 16 × 224 × 224 alone
    return model


def small_mvit() -> nn.Module:
    """MViT of three blocks, which pools queries, keys and values."""
    video("r3d_18")
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    blocks = [
        MSBlockConfig(1, 16, 16, [], [3, 3, 3], [], [1, 2, 2]),
        MSBlockConfig(2, 16, 32, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 1, 1]),
        MSBlockConfig(2, 32, 32, [], [3, 3, 3], [], [1, 1, 1]),
    ]
    options = {"residual_pool": False, "residual_with_cls_embed": True, "rel_pos_embed": False, "proj_after_attn": False}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MViT((64, 64), 4, blocks, num_classes=5, **options).double().eval()


def clip(*size: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


SIZES = {"r3d_18": (4, 32, 32), "mc3_18": (4, 32, 32), "r2plus1d_18": (4, 32, 32), "swin3d_t": (4, 64, 64), "s3d": (16, 64, 48)}
SLOW = ("r3d_18", "r2plus1d_18", "swin3d_t", "s3d")
METHODS = ("rap", "lrp-epsilon", "lrp-zplus", "gradient", "grad-cam", "layer-cam", "eigen-cam", "fullgrad")
LAYERS = {"swin3d_t": "features.6.1.norm1", "s3d": "features"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in SIZES])
def test_video_networks_of_torchvision(name: str) -> None:
    model, x = video(name), clip(*SIZES[name])
    captured = relprop.capture(model, x)
    for method in METHODS:
        found = captured.explainer(method)(x, 1)
        assert found.relevance.shape == x.shape
        assert bool(found.relevance.isfinite().all())
        torch.testing.assert_close(found.logits, model(x).detach(), rtol=1e-3, atol=1e-4)
        if method in {"rap", "lrp-zplus"}:
            check_conservation(found, 1e-3)
        if method.endswith("cam"):
            assert f"module '{LAYERS.get(name, 'layer4')}'" in found.notes[-1]


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18"])
def test_grad_cam_is_captums(name: str) -> None:
    attr = pytest.importorskip("captum.attr")
    model, x = video(name), clip(4, 48, 32, batch=2)
    coarse = attr.LayerGradCam(model, model.layer4).attribute(x, target=2, relu_attributions=True)
    expected = attr.LayerAttribution.interpolate(coarse, (4, 48, 32), "trilinear")[:, 0].detach()
    found = relprop.explain(model, x, 2, method="grad-cam").heatmap()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_tokens_of_a_pooling_transformer_are_laid_out_in_time_and_space() -> None:
    model, x = small_mvit(), clip(4, 64, 64, batch=2).double()
    kept = list[Tensor]()
    handle = model.blocks[2].norm1.register_forward_hook(lambda _m, _i, y: kept.append(y))
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), kept)
    handle.remove()
    # behind the class token, in reading order of 2 × 8 × 8 places
    grid = (gradient.clamp(min=0) * kept[0]).sum(2).clamp(min=0)[:, 1:].detach().reshape(2, 1, 2, 8, 8)
    expected = torch.nn.functional.interpolate(grid, (4, 64, 64), mode="trilinear")[:, 0]
    found = relprop.explain(model, x, 1, method="layer-cam")
    assert "'blocks.2.norm1'" in found.notes[-1]
    torch.testing.assert_close(found.heatmap(), expected, rtol=1e-7, atol=1e-9)


def monai(name: str, **options: object) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        nets = pytest.importorskip("monai.networks.nets")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return getattr(nets, name)(**options).eval()

    return build


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        monai("DenseNet121", spatial_dims=3, in_channels=1, out_channels=3),
        monai("resnet10", spatial_dims=3, n_input_channels=1, num_classes=3),
        monai("EfficientNetBN", model_name="efficientnet-b0", spatial_dims=3, in_channels=1, num_classes=3, pretrained=False),
    ],
)
def test_networks_of_monai(build: Callable[[], nn.Module]) -> None:
    model, x = build(), torch.randn(1, 1, 32, 32, 32)
    captured = relprop.capture(model, x)
    for method in ("rap", "lrp-epsilon", "gradient", "grad-cam"):
        found = captured.explainer(method)(x, 1)
        assert found.heatmap().shape == (1, 32, 32, 32)
        assert bool(found.relevance.isfinite().all())
