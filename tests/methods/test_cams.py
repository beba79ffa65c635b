import contextlib
import importlib

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import relprop
from relprop.errors import OptionError, TargetError
from tests.methods.models import Attending, Hidden, Plain, images, made

FROM_GRADIENT = ("grad-cam", "grad-cam-plus-plus", "layer-cam", "hires-cam", "xgrad-cam")


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
        "xgrad-cam": ((g * a / a.sum((2, 3), keepdim=True)).nan_to_num().sum((2, 3), keepdim=True) * a).sum(1),
    }
    maps = {name: m.clamp(min=0) for name, m in maps.items()} | {"hires-cam": (g * a).sum(1)}
    return {name: F.interpolate(m[:, None], (16, 16), mode="bilinear")[:, 0] for name, m in maps.items()}


@pytest.mark.parametrize("name", FROM_GRADIENT)
def test_maps_follow_their_formulas(name: str) -> None:
    model, x = made(Plain), images()
    result = relprop.explain(model, x, 2, method=name)
    torch.testing.assert_close(result.heatmap(), by_hand(model, x, 2)[name])
    assert "'features'" in result.notes[-1]
    named = relprop.explain(model, x, 2, method=name, layer="features")
    torch.testing.assert_close(named.relevance, result.relevance)


PEERS = {
    "grad-cam": "GradCAM",
    "grad-cam-plus-plus": "GradCAMPlusPlus",
    "layer-cam": "LayerCAM",
    "score-cam": "ScoreCAM",
    "hires-cam": "HiResCAM",
    "xgrad-cam": "XGradCAM",
    "eigen-cam": "EigenCAM",
    "ablation-cam": "AblationCAM",
    "finer-cam": "FinerCAM",
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.filterwarnings("ignore")
def test_the_same_as_pytorch_grad_cam_up_to_its_scaling(name: str) -> None:
    """At a layer as large as the image, so that nothing is enlarged; it keeps positive values alone."""
    from relprop.zoo.torchvision_ops import import_torchvision

    with contextlib.suppress(Exception):
        import_torchvision()
    library = pytest.importorskip("pytorch_grad_cam", exc_type=ImportError)
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets", exc_type=ImportError)
    model, x = made(Plain).float(), images(2, dtype=torch.float32)
    logits = model(x).detach()
    target = int(logits.mean(0).argmax())  # Ablation-CAM divides by the logit
    assert bool((logits[:, target] > 0).all())
    layer = model.features[1]
    if name == "finer-cam":
        cam = library.FinerCAM(model=model, target_layers=[layer])
        expected = torch.from_numpy(cam(x, target_idx=target))
    else:
        with getattr(library, PEERS[name])(model=model, target_layers=[layer]) as cam:
            expected = torch.from_numpy(cam(x, [targets.ClassifierOutputTarget(target)] * 2))
    ours = relprop.explain(model, x, target, method=name, layer="features.1").heatmap()
    if name == "eigen-cam":  # the peer leaves the sign open, so one of its maps may be the other end of ours
        expected = eigen_with_sign(model.features[:2](x).detach(), ours, expected)
    ours = ours.clamp(min=0)
    low, high = ours.amin((1, 2), keepdim=True), ours.amax((1, 2), keepdim=True)
    assert float((high - low).min()) > 0
    tolerance = 0.02 if name == "grad-cam-plus-plus" else 1e-3  # there the peer has a stabilizer of 1e-6
    torch.testing.assert_close((ours - low) / (high - low), expected, rtol=0, atol=tolerance)


def eigen_with_sign(activation: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
    """The peer's map of the other sign, where that is ours, by its own function for projections."""
    projected = torch.from_numpy(
        importlib.import_module("pytorch_grad_cam.utils.svd_on_activations").get_2d_projection(activation.numpy())
    )
    found = list[Tensor]()
    for mine, own, peer in zip(ours, projected, theirs, strict=True):
        agrees = torch.corrcoef(torch.stack([mine.flatten(), own.clamp(min=0).flatten()]))[0, 1] > 0.5
        other = (-own).clamp(min=0)
        found.append(peer if agrees else (other - other.min()) / (other.max() - other.min()))
    return torch.stack(found)


def test_hires_cam_adds_up_to_the_logit_where_one_dense_layer_follows() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5, bias=False)
    )
    model, x = model.double(), images()
    found = relprop.explain(model, x, 2, method="hires-cam", layer="1")
    torch.testing.assert_close(found.relevance.sum((1, 2, 3)), found.logits[:, 2])


def test_ablation_cam_follows_its_formula() -> None:
    model, x = made(Plain), images(2)
    with torch.no_grad():
        maps = list[Tensor]()
        for image in x.split(1):
            a, whole = model.features(image), model(image)[0, 3]
            total = torch.zeros(a.shape[2:]).double()
            for k in range(a.shape[1]):
                ablated = a.clone()
                ablated[:, k] = 0
                total += (whole - model.head(ablated)[0, 3]) / whole * a[0, k]
            maps.append(total.clamp(min=0))
    expected = F.interpolate(torch.stack(maps)[:, None], (16, 16), mode="bilinear")[:, 0]
    torch.testing.assert_close(relprop.explain(model, x, 3, method="ablation-cam", internal_batch_size=5).heatmap(), expected)


def test_ablation_cam_of_tokens_takes_a_channel_from_all_of_them() -> None:
    model, x = made(Attending), images(1)
    kept: list[Tensor] = []
    with torch.no_grad():
        handle = model.norm1.register_forward_hook(lambda _m, _i, y: kept.append(y))
        whole = model(x)[0, 1]
        handle.remove()
        total = torch.zeros(16).double()
        for k in range(12):
            ablated = kept[0].clone()
            ablated[..., k] = 0
            handle = model.norm1.register_forward_hook(lambda _m, _i, _y, v=ablated: v)
            total += (whole - model(x)[0, 1]) / whole * kept[0][0, 1:, k]
            handle.remove()
    expected = F.interpolate(total.clamp(min=0).reshape(1, 1, 4, 4), (16, 16), mode="bilinear")[:, 0]
    torch.testing.assert_close(relprop.explain(model, x, 1, method="ablation-cam", layer="norm1").heatmap(), expected)


def test_finer_cam_follows_its_formula_and_refuses_a_single_class() -> None:
    model, x = made(Plain), images()
    target = torch.tensor([2, 0, 4])
    a = model.features(x).detach().requires_grad_()
    logits = model.head(a)
    near_to, score = logits.detach(), 0.0
    for i, t in enumerate(target.tolist()):
        near = sorted((d for d in range(5) if d != t), key=lambda d, i=i, t=t: abs(near_to[i, d] - near_to[i, t]))[:2]
        p = logits[i].softmax(0)
        score = score + sum(p[d] * (logits[i, t] - 0.6 * logits[i, d]) for d in near) / sum(p[d] for d in near)
    g = torch.autograd.grad(score, a)[0]
    expected = (g.mean((2, 3), keepdim=True) * a).sum(1).clamp(min=0).detach()[:, None]
    found = relprop.explain(model, x, target, method="finer-cam", classes=2, alpha=0.6).heatmap()
    torch.testing.assert_close(found, F.interpolate(expected, (16, 16), mode="bilinear")[:, 0])
    single = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 1)).double()
    with pytest.raises(TargetError, match="a single output"):
        relprop.explain(single, x, 0, method="finer-cam")


def test_eigen_cam_is_the_first_principal_component() -> None:
    model, x = made(Plain), images()
    a = model.features(x).detach().flatten(2).mT
    a = a - a.mean(1, keepdim=True)
    vectors = torch.stack([torch.linalg.eigh(one.T @ one)[1][:, -1] for one in a])
    projected = (a @ vectors[:, :, None])[..., 0]
    projected = torch.stack([one * one[one.abs().argmax()].sign() for one in projected])
    expected = F.interpolate(projected.clamp(min=0).reshape(3, 1, 6, 6), (16, 16), mode="bilinear")[:, 0]
    torch.testing.assert_close(relprop.explain(model, x, 3, method="eigen-cam").heatmap(), expected)
    torch.testing.assert_close(relprop.explain(model, x, 0, method="eigen-cam").heatmap(), expected)


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
    with pytest.raises(OptionError, match="lies over the positions of one signal, image or volume"):
        relprop.Explainer(made(Hidden), torch.zeros(1, 6, dtype=torch.float64), "grad-cam")


class Heads(nn.Module):
    """A norm of keys by head, as in MViT and with QK-norm: heads × tokens are no grid, though their channels come last."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.keys_norm = nn.Conv2d(3, 12, 4, 4), nn.LayerNorm(12), nn.LayerNorm(3)
        self.qkv, self.head = nn.Linear(12, 36), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 4, 3)).permute(2, 0, 3, 1, 4)
        x = x + ((q @ self.keys_norm(k).mT).softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.head(x.mean(1))


class Windows(nn.Module):
    """A norm in windows, which lie in the dimension of the batch, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.mix, self.head = nn.Conv2d(3, 6, 2, 2), nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).permute(0, 2, 3, 1)
        windows = x.unflatten(1, (2, 4)).unflatten(3, (2, 4)).transpose(2, 3).flatten(0, 2).flatten(1, 2)
        mixed = F.gelu(self.mix(self.norm(windows)))
        x = x + mixed.unflatten(1, (4, 4)).unflatten(0, (-1, 2, 2)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return self.head(F.relu(x).mean((1, 2)))


@pytest.mark.parametrize(("kind", "layer", "shape"), [(Heads, "keys_norm", "B×4×16×3"), (Windows, "norm", "4·B×16×6")])
def test_heads_and_windows_are_no_grid(kind: type[nn.Module], layer: str, shape: str) -> None:
    with pytest.raises(OptionError, match=rf"'{layer}' is no grid of feature vectors over the input: its shape is {shape}\."):
        relprop.explain(made(kind), images(2), 1, method="grad-cam", layer=layer)
    found = relprop.explain(made(kind), images(2), 1, method="grad-cam")
    assert f"module '{'norm' if kind is Heads else 'conv'}'" in found.notes[-1]


def test_fullgrad_counts_what_lies_in_windows() -> None:
    model, x = made(Windows), images(3)
    found = relprop.explain(model, x, 1, method="fullgrad", libra=False)
    total = found.relevance.flatten(1).sum(1) + found.absorbed
    torch.testing.assert_close(total, found.logits[:, 1])
    torch.testing.assert_close(found.absorbed[1:2], relprop.explain(model, x[1:2], 1, method="fullgrad", libra=False).absorbed)
