"""Small networks for signals, pictures with other than three channels, volumes and videos, as their fields have them."""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BY_POSITIONS = {
    1: (nn.Conv1d, nn.BatchNorm1d, nn.AdaptiveAvgPool1d, nn.AvgPool1d, nn.MaxPool1d),
    2: (nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d),
    3: (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d, nn.AvgPool3d, nn.MaxPool3d),
}


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, positions: int, channels: int, more: int, stride: int, kernel: int) -> None:
        super().__init__()
        conv, norm, *_ = _BY_POSITIONS[positions]
        self.first = conv(channels, more, kernel, stride, kernel // 2, bias=False)
        self.second = conv(more, more, kernel, 1, kernel // 2, bias=False)
        self.norm1, self.norm2 = norm(more), norm(more)
        self.shortcut = nn.Sequential(conv(channels, more, 1, stride, bias=False), norm(more))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network for any number of dimensions: an ECG of some leads, a scan of 13 bands, a volume."""

    def __init__(self, positions: int, channels: int, kernel: int = 3, classes: int = 4) -> None:
        super().__init__()
        conv, norm, pool, _, largest = _BY_POSITIONS[positions]
        self.stem = nn.Sequential(conv(channels, 6, kernel, 1, kernel // 2), norm(6), nn.ReLU(), largest(3, 2, 1))
        self.layer1, self.layer2 = Residual(positions, 6, 6, 1, kernel), Residual(positions, 6, 8, 2, kernel)
        self.pool, self.head = pool(1), nn.Linear(8, classes)

    def features(self, x: Tensor) -> Tensor:
        """The last maps."""
        return self.layer2(self.layer1(self.stem(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))


class EEGNet(nn.Module):
    """EEGNet (Lawhern et al. 2018): filters in time, one depthwise convolution over all electrodes, a separable one; (batch, 1, electrodes, time)."""

    def __init__(self, electrodes: int = 6, time: int = 64, classes: int = 4) -> None:
        super().__init__()
        self.temporal = nn.Sequential(nn.Conv2d(1, 4, (1, 15), padding=(0, 7), bias=False), nn.BatchNorm2d(4))
        self.spatial = nn.Sequential(
            nn.Conv2d(4, 8, (electrodes, 1), groups=4, bias=False),
            nn.BatchNorm2d(8),
            nn.ELU(),
            nn.AvgPool2d((1, 4)),
            nn.Dropout(),
        )
        self.separable = nn.Sequential(
            nn.Conv2d(8, 8, (1, 7), padding=(0, 3), groups=8, bias=False),
            nn.Conv2d(8, 8, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ELU(),
        )
        self.pool, self.head = nn.AvgPool2d((1, 4)), nn.Linear(8 * (time // 16), classes)

    def features(self, x: Tensor) -> Tensor:
        """The last maps."""
        return self.separable(self.spatial(self.temporal(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))


class Unsqueezed(nn.Module):
    """EEGNet for (batch, electrodes, time), the shape of recordings."""

    def __init__(self) -> None:
        super().__init__()
        self.net = EEGNet()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.unsqueeze(1))


class DenseNet(nn.Module):
    """A DenseNet as MONAI's, in small: dense blocks that concatenate, transitions that halve, any number of dimensions."""

    def __init__(self, positions: int = 3, channels: int = 1, classes: int = 4) -> None:
        super().__init__()
        conv, norm, pool, average, largest = _BY_POSITIONS[positions]

        def layer(count: int) -> nn.Sequential:
            return nn.Sequential(
                norm(count), nn.ReLU(), conv(count, 8, 1, bias=False), norm(8), nn.ReLU(), conv(8, 4, 3, padding=1, bias=False)
            )

        self.stem = nn.Sequential(conv(channels, 6, 3, 1, 1, bias=False), norm(6), nn.ReLU(), largest(3, 2, 1))
        self.block1 = nn.ModuleList([layer(6), layer(10)])
        self.transition = nn.Sequential(norm(14), nn.ReLU(), conv(14, 7, 1, bias=False), average(2, 2))
        self.block2, self.norm5 = nn.ModuleList([layer(7), layer(11)]), norm(15)
        self.pool, self.head = pool(1), nn.Linear(15, classes)

    def features(self, x: Tensor) -> Tensor:
        """The last maps."""
        x = self.stem(x)
        for layer in self.block1:
            x = torch.cat([x, layer(x)], 1)
        x = self.transition(x)
        for layer in self.block2:
            x = torch.cat([x, layer(x)], 1)
        return self.norm5(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(F.relu(self.features(x))).flatten(1))


class Tokens(nn.Module):
    """Patches of a signal, an image or a volume as tokens behind a class token, one block of attention, the class token read."""

    def __init__(self, positions: int, channels: int = 2, classes: int = 4) -> None:
        super().__init__()
        self.patches = _BY_POSITIONS[positions][0](channels, 12, 4, 4)
        self.token, self.norm1, self.norm2 = nn.Parameter(torch.randn(1, 1, 12)), nn.LayerNorm(12), nn.LayerNorm(12)
        self.qkv, self.proj, self.head = nn.Linear(12, 36), nn.Linear(12, 12), nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        return self.from_tokens(torch.cat([self.token.expand(len(x), -1, -1), x], 1))

    def from_tokens(self, x: Tensor) -> Tensor:
        """All after the patches."""
        return self.after_norm(x, self.norm1(x))

    def after_norm(self, x: Tensor, normed: Tensor) -> Tensor:
        """All after the norm before attention."""
        q, k, v = self.qkv(normed).unflatten(-1, (3, 2, 6)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head(self.norm2(x)[:, 0])


MADE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ecg": (lambda: ResNet(1, 12, kernel=7), (12, 50)),
    "eeg": (EEGNet, (1, 6, 64)),
    "eeg without a channel": (Unsqueezed, (6, 64)),
    "spectrogram": (lambda: ResNet(2, 1), (1, 20, 34)),
    "bands": (lambda: ResNet(2, 13), (13, 12, 16)),
    "scan": (DenseNet, (1, 9, 12, 14)),
    "video": (lambda: ResNet(3, 3), (3, 4, 12, 12)),
    "dense signal": (lambda: DenseNet(1, 2), (2, 40)),
    "tokens of a signal": (lambda: Tokens(1), (2, 40)),
    "tokens of a volume": (lambda: Tokens(3), (2, 8, 12, 12)),
}
"""Networks and the shape of their samples."""


@functools.cache
def network(name: str) -> tuple[nn.Module, Tensor]:
    """A network with random weights and norm statistics in double precision, and three samples."""
    build, shape = MADE[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().double().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                module.running_mean.normal_(0, 0.2)  # pyright: ignore[reportOptionalMemberAccess]
                module.running_var.uniform_(0.5, 1.5)  # pyright: ignore[reportOptionalMemberAccess]
        return model, torch.randn(3, *shape, dtype=torch.float64)
