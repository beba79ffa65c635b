"""Libra's gradients, FullGrad and FullGrad+: completeness, CP-LRP as an independent computation, and explicit versions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import relprop
from relprop.errors import UnsupportedOpError
from relprop.methods.grids import spread
from tests.methods.models import Attending, Gated, Plain, images, made
from tests.methods.test_transformers import PATCH, SIZE, hugging_face_vit, timm_vit, torchvision_vit

CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.mark.parametrize("make", [torchvision_vit, timm_vit, hugging_face_vit])
def test_input_times_libras_gradient_is_cp_lrp(make: Callable[[], nn.Module]) -> None:
    """Relevance propagation divides and multiplies op by op, Libra changes gradients: the map is the same (LXT's is, too)."""
    model, x = make(), images(2, SIZE)
    ours = relprop.explain(model, x, 3, method="input-x-gradient", libra=True).relevance
    torch.testing.assert_close(ours, relprop.explain(model, x, 3, method="cp-lrp").relevance, **CLOSE)
    by_slope = x * relprop.explain(model, x, 3, method="gradient", libra=True).relevance
    torch.testing.assert_close(by_slope, ours)
    assert not torch.allclose(ours, relprop.explain(model, x, 3, method="input-x-gradient").relevance, rtol=0.1)


def test_libras_treatments_by_hand() -> None:
    """Gate, norm, product of two values and quotient, each with its gradient written out."""

    class Treated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a, b = x.chunk(2, 1)
            h = F.silu(a) * F.layer_norm(b, [4])
            h = F.group_norm(h + b, 2) + F.rms_norm(a, [4])
            return (h / (2 + a.square().sum(1, keepdim=True))).sum(1, keepdim=True)

    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).double()
    a, b = (v.clone().requires_grad_() for v in x.chunk(2, 1))
    gate = a * (F.silu(a) / a).detach()
    layer = (b - b.mean(1, keepdim=True)) / (b.var(1, keepdim=True, correction=0) + 1e-5).sqrt().detach()
    product = gate * layer / 2
    product = (F.silu(a) * F.layer_norm(b, [4])).detach() + product - product.detach()
    grouped = (product + b).unflatten(1, (2, 2))
    deviation = (grouped.var(2, keepdim=True, correction=0) + 1e-5).sqrt().detach()
    grouped = ((grouped - grouped.mean(2, keepdim=True)) / deviation).flatten(1)
    root = (a.square().mean(1, keepdim=True) + torch.finfo(a.dtype).eps).sqrt().detach()
    score = ((grouped + a / root) / (2 + a.square().sum(1, keepdim=True)).detach()).sum()
    expected = torch.cat(torch.autograd.grad(score, [a, b]), 1)
    torch.testing.assert_close(relprop.explain(Treated(), x, 0, method="gradient", libra=True).relevance, expected, **CLOSE)


@pytest.mark.parametrize("libra", [True, False])
@pytest.mark.parametrize("kind", [Plain, Attending, Gated])
def test_fullgrad_adds_up_on_any_network(kind: type[nn.Module], libra: bool) -> None:
    model, x = made(kind), images()
    found = relprop.explain(model, x, 1, method="fullgrad", libra=libra)
    torch.testing.assert_close(found.relevance.sum((1, 2, 3)) + found.absorbed, found.logits[:, 1], rtol=1e-9, atol=1e-10)
    assert float(found.completeness_error.abs().max()) < 1e-10


def test_fullgrad_of_a_relu_network_by_hand() -> None:
    """Input times gradient, biases of convolutions at their cells, those of dense layers absorbed."""
    model, x = made(Plain), images(2)
    inputs, seen = x.clone().requires_grad_(), list[Tensor]()
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers:
        layer.register_forward_hook(lambda _m, _i, out: seen.append(out))
    gradients = torch.autograd.grad(model(inputs)[:, 2].sum(), [inputs, *seen])
    expected, absorbed = x * gradients[0], torch.zeros(2).double()
    for layer, g in zip(layers, gradients[1:], strict=True):
        if g.dim() == 2:
            absorbed += g @ layer.bias
            continue
        cells = torch.einsum("bchw,c->bhw", g, layer.bias)
        height = cells.shape[1]
        fine = cells.repeat_interleave(16, 1).repeat_interleave(16, 2) / 256  # each cell in 16 × 16 parts
        pixels = fine.reshape(2, 16, height, 16, height).sum((2, 4))
        expected = expected + pixels[:, None] / 3
    found = relprop.explain(model, x, 2, method="fullgrad")
    torch.testing.assert_close(found.relevance, expected.detach(), **CLOSE)
    torch.testing.assert_close(found.absorbed, absorbed.detach(), **CLOSE)


def test_spreading_keeps_sums_and_places() -> None:
    maps, image = torch.rand(2, 3, 5).double(), torch.zeros(2, 1, 7, 10)
    found = spread(maps, image)
    torch.testing.assert_close(found.sum((1, 2)), maps.sum((1, 2)))
    torch.testing.assert_close(found[:, :, :2].sum((1, 2)), maps[:, :, 0].sum(1))


def patches(maps: Tensor) -> Tensor:
    return maps.unflatten(2, (-1, PATCH)).unflatten(1, (-1, PATCH)).sum((2, 4)).flatten(1)


@pytest.mark.parametrize("plus", [False, True])
def test_fullgrad_of_a_transformer_by_hand(plus: bool) -> None:
    """As the released code has it: per token, block inputs times their gradient and every bias times its own, with Libra's gradients."""
    model, x = timm_vit(depth=3), images(2, SIZE)
    noted: list[tuple[Tensor, Tensor]] = []
    streams: list[Tensor] = []

    def linear(layer: nn.Linear, h: Tensor) -> Tensor:
        out = layer(h)
        noted.append((layer.bias, out))
        return out

    def norm(layer: nn.LayerNorm, h: Tensor) -> Tensor:
        deviation = (h.var(-1, keepdim=True, correction=0) + layer.eps).sqrt().detach()
        out = (h - h.mean(-1, keepdim=True)) / deviation * layer.weight + layer.bias
        noted.append((layer.bias, out))
        return out

    h = model.patch_embed.proj(x).flatten(2).mT
    h = (torch.cat([model.cls_token.expand(2, -1, -1), h], 1) + model.pos_embed).detach().requires_grad_()
    for block in model.blocks:
        streams.append(h)
        q, k, v = linear(block.attn.qkv, norm(block.norm1, h)).unflatten(2, (3, 3, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT * block.attn.scale).softmax(-1).detach()
        h = h + linear(block.attn.proj, (weights @ v).transpose(1, 2).flatten(2))
        inner = linear(block.mlp.fc1, norm(block.norm2, h))
        h = h + linear(block.mlp.fc2, inner * (F.gelu(inner) / inner).detach())
    h = norm(model.norm, h)
    score = model.head(h[:, 0])[:, 1].sum()
    gradients = torch.autograd.grad(score, [*streams, *(out for _, out in noted)])
    total = (streams[0] * gradients[0]).sum(2)
    if plus:
        total = total + sum((s * g).sum(2) for s, g in zip(streams[1:], gradients[1:3], strict=True))
    for (bias, _), g in zip(noted, gradients[3:], strict=True):
        total = total + (bias * g).sum(2)
    found = relprop.explain(model, x, 1, method="fullgrad-plus" if plus else "fullgrad").heatmap()
    torch.testing.assert_close(patches(found), total[:, 1:].detach(), **CLOSE)


def test_fullgrad_plus_needs_blocks() -> None:
    with pytest.raises(UnsupportedOpError, match="the model has none"):
        relprop.Explainer(made(Plain), images(), "fullgrad-plus")


def test_smoothgrad_takes_libra() -> None:
    model, x = timm_vit(depth=1), images(1, SIZE)
    options: dict[str, Any] = {"noise": 0.1, "samples": 2}
    smooth = relprop.explain(model, x, 1, method="smoothgrad", libra=True, **options).relevance
    by_average = relprop.explain(model, x, 1, method="gradient", libra=True, average=options).relevance
    torch.testing.assert_close(smooth, by_average)
