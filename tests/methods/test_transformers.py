"""AttnLRP, CP-LRP and the methods that multiply attention, against LXT and against explicit formulas."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.errors import UnsupportedOpError
from relprop.zoo.torchvision_ops import import_torchvision

SIZE, PATCH, WIDTH = 32, 8, 24


def torchvision_vit() -> nn.Module:
    import_torchvision()
    vision = pytest.importorskip("torchvision.models.vision_transformer", reason="torchvision is not installed")
    torch.manual_seed(0)
    model = vision.VisionTransformer(SIZE, PATCH, num_layers=3, num_heads=3, hidden_dim=WIDTH, mlp_dim=48, num_classes=5)
    nn.init.normal_(model.heads.head.weight)
    return model.double().eval()


def timm_vit(**options: object) -> nn.Module:
    import_torchvision()
    module = pytest.importorskip("timm.models.vision_transformer", reason="timm is not installed")
    torch.manual_seed(0)
    settings = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": 3, "num_heads": 3, "num_classes": 5}
    model = module.VisionTransformer(**settings | options)
    nn.init.normal_(model.head.weight)
    return model.double().eval()


def hugging_face_vit() -> nn.Module:
    import_torchvision()
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    settings = {"image_size": SIZE, "patch_size": PATCH, "hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 3}
    config = transformers.ViTConfig(**settings, intermediate_size=48, num_labels=5)
    return transformers.ViTForImageClassification(config).double().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


# --- LXT -----------------------------------------------------------------------------------------------------------------------------


def import_lxt(name: str) -> ModuleType:
    """Import a module of LXT's ``efficient`` package without the package's own imports.

    Those want language models that newer transformers do not have; its rules and its patches of torchvision's ViT stand alone.
    """
    lxt = pytest.importorskip("lxt", reason="lxt is not installed")
    for package in ("efficient", "efficient.models"):
        if f"lxt.{package}" not in sys.modules:
            module = ModuleType(f"lxt.{package}")
            module.__path__ = [str(Path(lxt.__file__).parent.joinpath(*package.split(".")))]
            sys.modules[module.__name__] = module
    return importlib.import_module(f"lxt.efficient.{name}")


def lxt_attention() -> Callable[..., tuple[Tensor, None]]:
    """``nn.MultiheadAttention.forward`` with LXT's uniform rule around a plain attention."""
    wrap_attention_forward = import_lxt("patches").wrap_attention_forward

    def plain(_module: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v

    def forward(self: nn.MultiheadAttention, x: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        projected = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out_proj(wrap_attention_forward(plain)(self, q, k, v).transpose(1, 2).flatten(2)), None

    return forward


@contextmanager
def patched(method: str) -> Iterator[None]:
    """LXT's patches for torchvision's ViT, taken off again afterwards."""
    patch_method = import_lxt("patches").patch_method
    classes = (nn.GELU, nn.LayerNorm, nn.MultiheadAttention)
    kept = {c: c.forward for c in classes}
    table = dict(import_lxt("models.vit_torch").cp_LRP)
    if method == "attnlrp":
        table[nn.MultiheadAttention] = partial(patch_method, lxt_attention())
    try:
        for target, patch in table.items():
            assert patch(target)
        yield
    finally:
        for target, forward in kept.items():
            target.forward = forward
            if "original_forward" in vars(target):
                del target.original_forward


@pytest.mark.parametrize("method", ["attnlrp", "cp-lrp"])
def test_equals_lxt(method: str, x: Tensor) -> None:
    import_torchvision()
    import_lxt("rules")
    model, target = torchvision_vit(), torch.tensor([1, 3])
    ours = relprop.explain(model, x, target, method=method).relevance
    with patched(method):
        inputs = x.clone().requires_grad_()
        score = model(inputs).gather(1, target[:, None]).sum()
        theirs = inputs.detach() * torch.autograd.grad(score, inputs)[0]
    assert (ours - theirs).norm() <= 1e-3 * theirs.norm()
    assert theirs.norm() > 0


# --- conservation, targets, libraries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["attnlrp", "reslrp", "cp-lrp"])
@pytest.mark.parametrize("make", [torchvision_vit, timm_vit, hugging_face_vit])
def test_conserves_and_takes_several_targets(method: str, make: Callable[[], nn.Module], x: Tensor) -> None:
    explainer = relprop.Explainer(make(), x, method)
    explanation = explainer(x, torch.tensor([[0, 1], [4, 2]]))
    explained = explanation.logits.gather(1, explanation.target)
    torch.testing.assert_close(explanation.relevance.flatten(2).sum(2) + explanation.absorbed, explained)
    alone = explainer(x[1:], 2)
    torch.testing.assert_close(explanation.relevance[1:, 1], alone.relevance)


def test_reslrp_by_its_definition(x: Tensor) -> None:
    """AttnLRP as gradients of one block (Achtibat et al. 2024, by LXT's trick), with sums whose shares are weighted by hand."""
    model, target = timm_vit(depth=2), 3
    ours = relprop.explain(model, x, target, method="reslrp", gamma=0.5).relevance

    def shared(a: Tensor, b: Tensor) -> Tensor:
        """``a + b`` with the gradient ``w_a (a + b) / (w_a a + w_b b)`` for ``a``, likewise for ``b``."""
        u, v = a.detach(), b.detach()
        wu, wv = (torch.where(t * (u + v) > 0, 1.5, 1.0) for t in (u, v))
        quotient = (u + v) / (wu * u + wv * v)
        slope_a, slope_b = wu * quotient, wv * quotient
        return u + v + slope_a * (a - u) + slope_b * (b - v)

    def norm(layer: nn.LayerNorm, h: Tensor) -> Tensor:
        deviation = (h.var(-1, keepdim=True, unbiased=False) + layer.eps).sqrt().detach()
        return (h - h.mean(-1, keepdim=True)) / deviation * layer.weight + layer.bias

    def half(a: Tensor, b: Tensor) -> Tensor:
        product = a @ b
        return product.detach() + (product - product.detach()) / 2

    def attend(layer: nn.Module, h: Tensor) -> Tensor:
        q, k, v = layer.qkv(h).unflatten(2, (3, 3, -1)).permute(2, 0, 3, 1, 4)
        weights = (half(q, k.mT) * layer.scale).softmax(-1)
        return layer.proj(half(weights, v).transpose(1, 2).flatten(2))

    def gelu(h: Tensor) -> Tensor:
        return h * (nn.functional.gelu(h) / h).detach()

    inputs = x.clone().requires_grad_()
    h = model.patch_embed.proj(inputs).flatten(2).mT
    h = torch.cat([model.cls_token.expand(2, -1, -1), h], 1) + model.pos_embed
    for block in model.blocks:
        h = shared(h, attend(block.attn, norm(block.norm1, h)))
        h = shared(h, block.mlp.fc2(gelu(block.mlp.fc1(norm(block.norm2, h)))))
    score = model.head(norm(model.norm, h)[:, 0])[:, target].sum()
    expected = inputs.detach() * torch.autograd.grad(score, inputs)[0]
    torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-9)
    assert not torch.allclose(ours, relprop.explain(model, x, target, method="attnlrp").relevance, rtol=0.1)


def test_softmax_and_products_by_formula() -> None:
    """One attention with its values, on fixed numbers: relevance of queries, keys and values element by element."""

    class Attention(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return ((q @ k.mT).softmax(-1) @ v).flatten(1)

    generator = torch.Generator().manual_seed(2)
    q, k, v, seed = (torch.randn(1, 3, 4, dtype=torch.float64, generator=generator) for _ in range(4))
    parts = relprop.Explainer(Attention(), (q, k, v), "attnlrp", epsilon=0.0)(
        (q, k, v), output_relevance=seed.flatten(1)
    ).relevance
    s = q[0] @ k[0].mT
    a = s.softmax(-1)
    z = a @ v[0]
    of_a, of_v, of_s = torch.zeros(3, 3), torch.zeros(3, 4), torch.zeros(3, 3)
    for i in range(3):
        for j in range(3):
            for c in range(4):
                half = 0.5 * float(a[i, j] * v[0, j, c] * seed[0, i, c] / z[i, c])
                of_a[i, j] += half
                of_v[j, c] += half
    for i in range(3):
        for j in range(3):
            of_s[i, j] = float(s[i, j]) * (of_a[i, j] - float(a[i, j]) * of_a[i].sum())
    of_q = [
        [sum(0.5 * float(q[0, i, c] * k[0, j, c]) * of_s[i, j] / float(s[i, j]) for j in range(3)) for c in range(4)]
        for i in range(3)
    ]
    torch.testing.assert_close(parts[2][0], of_v.double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parts[0][0], torch.tensor(of_q, dtype=torch.float64), rtol=1e-4, atol=1e-5)


# --- products of attention ---------------------------------------------------------------------------------------------------------------


def attention_of(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The logits and attention weights of timm's ViT, recorded by its own unfused path."""
    seen: list[Tensor] = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _m, _i, out: seen.append(out))
    return model(x), seen


def laid_out(rows: Tensor) -> Tensor:
    maps = rows.reshape(len(rows), 1, SIZE // PATCH, SIZE // PATCH)
    return nn.functional.interpolate(maps, (SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]


@pytest.mark.parametrize("options", [{}, {"global_pool": "avg", "class_token": False}, {"reg_tokens": 2}])
def test_rollout_by_its_definition(options: dict[str, object], x: Tensor) -> None:
    model = timm_vit(**options)
    ours = relprop.explain(model, x, 1, method="attention-rollout").heatmap()
    with torch.no_grad():
        _, weights = attention_of(model, x)
        eye = torch.eye(weights[0].shape[-1], dtype=x.dtype)
        joined = eye
        for a in weights:
            joined = (a.mean(1) / 2 + eye / 2) @ joined
    extra = joined.shape[-1] - (SIZE // PATCH) ** 2
    row = joined.mean(1) if options.get("class_token") is False else joined[:, 0]
    torch.testing.assert_close(ours, laid_out(row[:, extra:]))


def zplus(layer: nn.Linear, x: Tensor, relevance: Tensor) -> Tensor:
    z = torch.einsum("btc,oc->btoc", x, layer.weight).clamp(min=0)
    total = z.sum(-1)
    return torch.einsum("btoc,bto->btc", z, torch.where(total > 0, relevance / total, 0.0))


def balanced(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    parts = [v * relevance / (a + b) for v in (a, b)]
    sums = [p.flatten(1).sum(1) for p in parts]
    total = sums[0].abs() + sums[1].abs()
    whole = relevance.flatten(1).sum(1)
    return tuple(p * (s.abs() / total * whole / s).view(-1, 1, 1) for p, s in zip(parts, sums, strict=True))


def test_transformer_attribution_by_its_definition(x: Tensor) -> None:
    """Two blocks by hand, after Chefer et al.: z⁺ for layers, proportional products, balanced sums, identity elsewhere."""
    model, target = timm_vit(depth=2), 3
    ours = relprop.explain(model, x, target, method="transformer-attribution").heatmap()
    values: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.LayerNorm) or name.endswith(("attn", "mlp")):
            module.register_forward_hook(
                lambda _m, i, o, n=name: values.update({n + ".in": i[0].detach(), n + ".out": o.detach()})
            )
    logits, weights = attention_of(model, x)
    gradient = torch.autograd.grad(logits[:, target].sum(), weights)
    head = zplus(model.head, values["head.in"][:, None], nn.functional.one_hot(torch.tensor([target] * 2), 5).double()[:, None])
    relevance = torch.zeros_like(values["norm.in"])
    relevance[:, :1] = head
    found: list[Tensor] = []
    for i in (1, 0):
        block, p = model.blocks[i], f"blocks.{i}"
        middle = values[f"{p}.norm2.in"]
        skip, into = balanced(middle, values[f"{p}.mlp.out"], relevance)
        into = zplus(block.mlp.fc1, values[f"{p}.mlp.fc1.in"], zplus(block.mlp.fc2, values[f"{p}.mlp.fc2.in"], into))
        relevance = skip + into
        skip, into = balanced(values[f"{p}.norm1.in"], values[f"{p}.attn.out"], relevance)
        into = zplus(block.attn.proj, values[f"{p}.attn.proj.in"], into)
        qkv = values[f"{p}.attn.qkv.out"].unflatten(2, (3, 3, -1)).permute(2, 0, 3, 1, 4)
        a, (q, k, v) = weights[i].detach(), qkv
        per = into.unflatten(2, (3, -1)).transpose(1, 2) / (a @ v) / 2
        of_a, of_v = a * (per @ v.mT), v * (a.mT @ per)
        found.insert(0, (gradient[i] * of_a).clamp(min=0).mean(1))
        q = q * block.attn.scale
        per = of_a / (q @ k.mT) / 2
        of_q, of_k = q * (per @ k), k * (per.mT @ q)
        joined = torch.stack([of_q, of_k, of_v]).permute(1, 3, 0, 2, 4).flatten(2)
        relevance = skip + zplus(block.attn.qkv, values[f"{p}.attn.qkv.in"], joined)
    eye = torch.eye(found[0].shape[-1], dtype=x.dtype)
    rows = ((found[1] + eye) @ (found[0] + eye))[:, 0, 1:]
    torch.testing.assert_close(ours, laid_out(rows.detach()), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("method", ["attention-rollout", "transformer-attribution"])
@pytest.mark.parametrize("make", [torchvision_vit, timm_vit, hugging_face_vit])
def test_maps_of_every_library(method: str, make: Callable[[], nn.Module], x: Tensor) -> None:
    explainer = relprop.Explainer(make(), x, method)
    explanation = explainer(x, torch.tensor([[0, 1], [4, 2]]))
    assert explanation.heatmap().shape == (2, 2, SIZE, SIZE)
    assert explanation.heatmap().flatten(2).std(2).min() > 0
    torch.testing.assert_close(explainer(x[1:], 4).relevance, explanation.relevance[1:, 0])


@pytest.mark.parametrize("method", ["attention-rollout", "transformer-attribution"])
def test_refuses_what_has_no_global_attention(method: str, x: Tensor) -> None:
    with pytest.raises(UnsupportedOpError, match="the model has none"):
        relprop.Explainer(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 4)).double(), x, method)
    import_torchvision()
    swin = pytest.importorskip("timm.models.swin_transformer", reason="timm is not installed")
    model = swin.SwinTransformer(
        img_size=64, patch_size=4, embed_dim=12, depths=(1, 1), num_heads=(1, 2), window_size=4, num_classes=3
    )
    with pytest.raises(UnsupportedOpError, match="windows"):
        relprop.Explainer(model.double().eval(), torch.randn(2, 3, 64, 64, dtype=torch.float64), method)
