"""Generic attention, Beyond Intuition, LeGrad and AttCAT against stored maps of the authors' code, and in loops over one block at a time."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.errors import OptionError, UnsupportedOpError
from relprop.zoo.torchvision_ops import import_torchvision
from tests.methods.peers.fixed import PATCH, SIZE, fix_weights, golden, images
from tests.methods.test_transformers import hugging_face_vit, timm_vit, torchvision_vit

METHODS = ("generic-attention", "beyond-intuition", "legrad", "attcat")
CLOSE = {"rtol": 1e-6, "atol": 1e-8}


def vit() -> nn.Module:
    """Timm's ViT as the authors' codes have it, with weights by name."""
    import_torchvision()
    module = pytest.importorskip("timm.models.vision_transformer", reason="timm is not installed")
    settings = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": 24, "depth": 7, "num_heads": 3, "num_classes": 5}
    return fix_weights(module.VisionTransformer(**settings, mlp_ratio=2.0))


class Clip(nn.Module):
    """The image tower of a CLIP and five texts."""

    def __init__(self, clip: nn.Module, texts: Tensor) -> None:
        super().__init__()
        self.clip, self.texts = clip, nn.Parameter(texts)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(self.clip.visual(x), dim=-1) @ self.texts.T


def clip() -> tuple[Clip, Tensor]:
    import_torchvision()
    library = pytest.importorskip("open_clip.model", reason="open_clip is not installed", exc_type=ImportError)
    vision = library.CLIPVisionCfg(layers=4, width=24, head_width=8, image_size=SIZE, patch_size=PATCH, mlp_ratio=2.0)
    text = library.CLIPTextCfg(context_length=4, vocab_size=8, width=8, heads=2, layers=1)
    model = fix_weights(library.CLIP(10, vision, text))
    texts = torch.randn(5, 10, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    texts = nn.functional.normalize(texts, dim=-1)
    return Clip(model, texts).double().eval(), texts


def cells(maps: Tensor) -> Tensor:
    """The map of every patch, ``(B, 16)``, where maps ``(B, 4, 4)`` were enlarged bilinearly: by least squares, which is exact."""
    count = SIZE // PATCH
    eye = torch.eye(count, dtype=maps.dtype)[None]
    by_row = nn.functional.interpolate(eye, SIZE, mode="linear", align_corners=False)[0].T  # enlarges a row of cells
    inverse = torch.linalg.pinv(by_row)
    return (inverse @ maps @ inverse.T).flatten(1)


@pytest.mark.parametrize(
    ("name", "method", "options"),
    [
        ("generic-attention", "generic-attention", {}),
        ("beyond-intuition-head", "beyond-intuition", {"variant": "head"}),
        ("beyond-intuition-token", "beyond-intuition", {"variant": "token"}),
        ("attcat", "attcat", {}),
    ],
)
def test_the_same_as_the_authors_code(name: str, method: str, options: dict[str, str]) -> None:
    stored, model, x = golden("vit"), vit(), images()
    torch.testing.assert_close(model(x).detach(), torch.tensor(stored["logits"]).double(), **CLOSE)
    found = relprop.explain(model, x, torch.tensor([1, 3]), method=method, **options).heatmap()
    torch.testing.assert_close(cells(found), torch.tensor(stored[name]).double(), **CLOSE)


@pytest.mark.parametrize("last", [2, 3])
def test_legrad_the_same_as_the_authors_code(last: int) -> None:
    """On CLIP, up to their scaling to [0, 1]; every fourth pixel is stored."""
    model, _ = clip()
    found = relprop.explain(model, images(), torch.tensor([1, 3]), method="legrad", last=last).heatmap()
    low, high = found.amin((1, 2), keepdim=True), found.amax((1, 2), keepdim=True)
    ours = ((found - low) / (high - low))[:, ::4, ::4].flatten(1)
    torch.testing.assert_close(ours, torch.tensor(golden("legrad")[str(last)]).double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [torchvision_vit, timm_vit, hugging_face_vit])
def test_maps_of_every_library(method: str, make: Callable[[], nn.Module]) -> None:
    """One map per target, the same whatever the batch; the three libraries write blocks differently."""
    x = images()
    explainer = relprop.Explainer(make(), x, method)
    found = explainer(x, torch.tensor([[0, 1], [4, 2]]))
    assert found.heatmap().shape == (2, 2, SIZE, SIZE)
    assert found.heatmap().flatten(2).std(2).min() > 0
    torch.testing.assert_close(explainer(x[1:], 4).relevance, found.relevance[1:, 0])


@pytest.mark.parametrize("method", [*METHODS, "beyond-intuition:variant=token"])
def test_averaged_tokens_are_all_read(method: str) -> None:
    model, x = timm_vit(global_pool="avg", class_token=False, depth=7), images()
    assert bool(relprop.explain(model, x, 1, method=method).heatmap().any())


def blocks_of(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    """The logits, and by block its input, its attention weights and its output, by timm's own modules with gradients."""
    inputs, weights, outputs = list[Tensor](), list[Tensor](), list[Tensor]()
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _m, _i, out: weights.append(out))
        block.register_forward_pre_hook(lambda _m, i: inputs.append(i[0]))
        block.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    return model(x.clone().requires_grad_()), inputs, weights, outputs


@pytest.mark.parametrize("target", [0, 4])
def test_attcat_and_legrad_in_loops(target: int) -> None:
    model, x = timm_vit(depth=3), images()
    logits, inputs, weights, outputs = blocks_of(model, x)
    gradients = torch.autograd.grad(logits[:, target].sum(), inputs, retain_graph=True)
    attcat, legrad = torch.zeros(2, 17).double(), torch.zeros(2, 17).double()
    for h, g, a, z in zip(inputs, gradients, weights, outputs, strict=True):
        score = model.head(model.norm(z.mean(1)))[:, target].sum()
        (of_a,) = torch.autograd.grad(score, a, retain_graph=True)
        for b in range(2):
            for token in range(17):
                attcat[b, token] += float(h[b, token] @ g[b, token]) * float(a[b, :, :, token].mean())
                legrad[b, token] += float(of_a[b, :, :, token].clamp(min=0).mean())
    for name, expected in (("attcat", attcat), ("legrad", legrad)):
        found = cells(relprop.explain(model, x, target, method=name).heatmap())
        torch.testing.assert_close(found, expected[:, 1:], **CLOSE)


def test_what_does_not_fit_is_refused() -> None:
    x = images()
    with pytest.raises(UnsupportedOpError, match="the model has none"):
        relprop.Explainer(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 4)).double(), x, "legrad")

    class Alone(nn.Module):
        """Attention without a residual connection."""

        def __init__(self) -> None:
            super().__init__()
            self.patches, self.qkv, self.head = nn.Conv2d(3, 8, PATCH, PATCH), nn.Linear(8, 24), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(self.patches(x).flatten(2).mT).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            return self.head(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2).mean(1))

    model = Alone().double()
    for method in ("attcat", "legrad"):
        with pytest.raises(UnsupportedOpError, match="every attention adds to"):
            relprop.Explainer(model, x, method)
    assert bool(relprop.explain(model, x, 1, method="generic-attention").heatmap().any())
    with pytest.raises(UnsupportedOpError, match="every attention adds to"):
        relprop.Explainer(model, x, "beyond-intuition", variant="token")
    with pytest.raises(OptionError, match="at least 1"):
        relprop.Explainer(model, x, "legrad", last=0)
