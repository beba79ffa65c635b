"""Random small networks with residuals, concatenations, shared modules and functional calls."""

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

CHANNELS = 4
FEW = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


class Random(nn.Module):
    """A network drawn from a list of block names; every block keeps the shape ``(B, 4, 4, 4)``."""

    def __init__(self, blocks, head):
        super().__init__()
        self.names, self.head = blocks, head
        self.stem = nn.Conv2d(2, CHANNELS, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in blocks)
        self.norms = nn.ModuleList(nn.BatchNorm2d(CHANNELS) for _ in blocks)
        self.merge = nn.Conv2d(2 * CHANNELS, CHANNELS, 1)
        self.shared = nn.Linear(4, 4)
        # unequal weights: the mean of a plain layer norm's output is zero but for rounding
        self.scale = nn.Parameter(torch.tensor([0.5, 1.0, 1.5, 3.0]))
        self.relu = nn.ReLU(inplace=True)
        self.out = nn.Linear(CHANNELS if head == "mean" else CHANNELS * 16, 3)
        for norm in self.norms:
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 2)

    def block(self, name, i, x):
        conv, norm = self.convs[i], self.norms[i]
        return {
            "conv": lambda: self.relu(norm(conv(x))),
            "residual": lambda: F.relu(x + norm(conv(x))),
            "in place": lambda: self.relu(conv(x)).add_(x),
            "pre-activation": lambda: x + conv(F.relu(norm(x))),
            "cat": lambda: F.silu(self.merge(torch.cat([x, conv(x)], 1))),
            "split": lambda: torch.cat([F.gelu(part) for part in conv(x).chunk(2, 1)], 1),
            "shared": lambda: self.shared(F.elu(self.shared(x))),
            "pool": lambda: F.interpolate(F.max_pool2d(conv(x), 2), scale_factor=2, mode="nearest"),
            "average": lambda: F.avg_pool2d(F.relu(x), 3, 1, 1) - 0.5 * x,
            "gate": lambda: x * torch.sigmoid(conv(x).mean((2, 3), keepdim=True)),
            "attention": lambda: F.layer_norm(x + self.attend(x.flatten(2)).view(x.shape), (4,), self.scale),
            "shuffle": lambda: F.leaky_relu(conv(x.roll(1, 2).flip(3))),
        }[name]()

    def attend(self, x):
        return F.scaled_dot_product_attention(x, x[..., ::2].repeat(1, 1, 2), x)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for i, name in enumerate(self.names):
            x = self.block(name, i, x)
        return self.out(x.mean((2, 3)) if self.head == "mean" else x.flatten(1))


BLOCKS = [
    "conv",
    "residual",
    "in place",
    "pre-activation",
    "cat",
    "split",
    "shared",
    "pool",
    "average",
    "gate",
    "attention",
    "shuffle",
]


@st.composite
def networks(draw):
    blocks = draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=3))
    torch.manual_seed(draw(st.integers(0, 1000)))
    model = Random(blocks, draw(st.sampled_from(["mean", "flat"]))).double().eval()
    return model, torch.randn(3, 2, 4, 4, dtype=torch.float64)
