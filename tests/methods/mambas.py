"""Mamba classifiers in plain PyTorch, with the selective scan as published code writes it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STATE, RANK = 4, 2


def scan_by_loop(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """``h = exp(Δ A) h + Δ B x``, ``y = C h``, step by step; ``x`` and ``delta`` are ``(B, T, D)``, ``b`` and ``c`` ``(B, T, N)``."""
    decay, drive = torch.exp(delta.unsqueeze(-1) * a), delta.unsqueeze(-1) * b.unsqueeze(2) * x.unsqueeze(-1)
    h, outputs = torch.zeros(x.shape[0], x.shape[2], a.shape[1], dtype=x.dtype), []
    for t in range(x.shape[1]):
        h = decay[:, t] * h + drive[:, t]
        outputs.append((h * c[:, t].unsqueeze(1)).sum(-1))
    return torch.stack(outputs, 1)


def scan_by_matrices(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The same by einsum for what enters, and a matrix product for what is read."""
    decay = torch.exp(torch.einsum("btd,dn->btdn", delta, a))
    drive = torch.einsum("btdn,btd->btdn", torch.einsum("btd,btn->btdn", delta, b), x)
    h, outputs = torch.zeros_like(drive[:, 0]), []
    for t in range(x.shape[1]):
        h = decay[:, t] * h + drive[:, t]
        outputs.append((h @ c[:, t].unsqueeze(-1)).squeeze(-1))
    return torch.stack(outputs, 1)


def scan_of_scaled_values(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The same with ``Δ x`` first, and all outputs read at once."""
    decay, drive = torch.exp(delta.unsqueeze(-1) * a), torch.einsum("btd,btn->btdn", delta * x, b)
    h, states = torch.zeros_like(drive[:, 0]), []
    for t in range(x.shape[1]):
        h = torch.addcmul(drive[:, t], decay[:, t], h)
        states.append(h)
    return torch.einsum("btdn,btn->btd", torch.stack(states, 1), c)


def scan_into_a_tensor(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The same with channels first and products of three, as in the reference of ``mamba_ssm``, and with writes in place."""
    x, delta, b, c = (v.transpose(1, 2) for v in (x, delta, b, c))
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, a))
    drive = torch.einsum("bdl,bnl,bdl->bdln", delta, b, x)
    h, y = torch.zeros_like(drive[:, :, 0]), torch.zeros_like(x)
    for t in range(x.shape[2]):
        h = decay[:, :, t] * h + drive[:, :, t]
        y[:, :, t] = torch.einsum("bdn,bn->bd", h, c[:, :, t])
    return y.transpose(1, 2)


def scan_in_parallel(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The same without a loop: ``h_t = e^{S_t} Σ_{s ≤ t} e^{−S_s} Δ B x``, where ``S`` sums up ``Δ A``."""
    sums = (delta.unsqueeze(-1) * a).cumsum(1)
    drive = delta.unsqueeze(-1) * b.unsqueeze(2) * x.unsqueeze(-1)
    states = sums.exp() * (drive * (-sums).exp()).cumsum(1)
    return (states @ c.unsqueeze(-1)).squeeze(-1)


SCANS = {
    scan.__name__: scan for scan in (scan_by_loop, scan_by_matrices, scan_of_scaled_values, scan_into_a_tensor, scan_in_parallel)
}
Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


class Mixer(nn.Module):
    """The selective state-space layer of Mamba (Gu and Dao 2023)."""

    def __init__(self, width: int, scan: Scan, inner: int) -> None:
        super().__init__()
        self.scan = scan
        self.in_proj, self.out_proj = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)
        self.conv = nn.Conv1d(inner, inner, 3, padding=2, groups=inner)
        self.x_proj, self.dt_proj = nn.Linear(inner, RANK + 2 * STATE, bias=False), nn.Linear(RANK, inner)
        self.a_log = nn.Parameter(torch.arange(1.0, STATE + 1).log().repeat(inner, 1))
        self.d = nn.Parameter(torch.ones(inner))

    def forward(self, h: Tensor) -> Tensor:
        x, z = self.in_proj(h).chunk(2, -1)
        x = F.silu(self.conv(x.mT)[..., : x.shape[1]]).mT
        delta, b, c = self.x_proj(x).split([RANK, STATE, STATE], -1)
        y = self.scan(x, F.softplus(self.dt_proj(delta)), -self.a_log.exp(), b, c) + self.d * x
        return self.out_proj(y * F.silu(z))


class Block(nn.Module):
    """A residual sum around a norm and one mixer, or two in both directions (Vim, Zhu et al. 2024)."""

    def __init__(self, width: int, scan: Scan, *, inner: int, both_ways: bool, layer_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if layer_norm else RMSNorm(width)
        self.mixers = nn.ModuleList(Mixer(width, scan, inner) for _ in range(1 + both_ways))

    def forward(self, h: Tensor) -> Tensor:
        x = self.norm(h)
        mixed = self.mixers[0](x)
        return h + (mixed if len(self.mixers) == 1 else mixed + self.mixers[1](x.flip(1)).flip(1))


class SequenceMamba(nn.Module):
    """Tokens, or vectors where there is no vocabulary, to classes, read at the last step."""

    def __init__(self, scan: Scan = scan_by_loop, *, width: int = 6, depth: int = 2, vocabulary: int | None = 20) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, width) if vocabulary is None else nn.Embedding(vocabulary, width)
        blocks = [Block(width, scan, inner=2 * width, both_ways=False, layer_norm=False) for _ in range(depth)]
        self.blocks, self.norm, self.head = nn.Sequential(*blocks), RMSNorm(width), nn.Linear(width, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embedding(tokens)))[:, -1])


class VisionMamba(nn.Module):
    """Patches with a class token in the middle and position embeddings, scanned both ways."""

    def __init__(
        self, scan: Scan = scan_by_loop, *, size: int = 12, patch: int = 4, width: int = 6, depth: int = 2, classes: int = 3
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        tokens = (size // patch) ** 2 + 1
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, tokens, width) * 0.2)
        blocks = [Block(width, scan, inner=2 * width, both_ways=True, layer_norm=True) for _ in range(depth)]
        self.blocks, self.norm, self.head = nn.Sequential(*blocks), nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).mT
        middle = x.shape[1] // 2
        x = torch.cat([x[:, :middle], self.token.expand(len(x), -1, -1), x[:, middle:]], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, middle])
