"""Networks whose weights are set by hand, so that the right map is known: they see in which of four colors the squares of a picture are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from relprop.zoo.preprocessing import Preprocessing

COLORS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "yellow": (1, 1, -1)}
"""The classes, and their colors as a network sees them; the background is black, all −1, and gray does not count."""
SIDE = 64
"""Height and width of the pictures."""
SQUARE = 8
"""Side of a square."""
PREPROCESSING = Preprocessing((SIDE, SIDE), (SIDE, SIDE), "nearest", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)

Truth = tuple[Tensor, Tensor]
"""The pixels that speak for a class, and those that speak against it, boolean ``(H, W)``."""


@dataclass(frozen=True)
class Design:
    """A network and its right map.

    Attributes:
        name: The name in ``DESIGNS``.
        what: What the logit of a class is.
        build: () → the network.
        truth: The color at each pixel as the index of a class, −1 elsewhere, ``(H, W)``, and a class → the right map.
        signed: Whether the sign of the right map is known; if not, only which pixels matter.
    """

    name: str
    what: str
    build: Callable[[], nn.Module]
    truth: Callable[[Tensor, int], Truth]
    signed: bool = True


def _conv(weight: Tensor, bias: float | Tensor = 0.0, padding: int = 0) -> nn.Conv2d:
    """A convolution of given weights ``(out, in, h, w)``."""
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), padding=padding)  # pyright: ignore[reportArgumentType]
    return _filled(layer, weight, bias)


def _dense(weight: Tensor, bias: float | Tensor = 0.0) -> nn.Linear:
    return _filled(nn.Linear(weight.shape[1], weight.shape[0]), weight, bias)


def _filled(layer: Layer, weight: Tensor, bias: float | Tensor) -> Layer:
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(torch.as_tensor(bias).expand(layer.bias.shape))
    return layer


def _palette() -> Tensor:
    return torch.tensor(list(COLORS.values()), dtype=torch.float32)


def _detectors() -> nn.Conv2d:
    """One channel per color, 1 where a pixel has it and at most 0 elsewhere: ``Σ_c p_c x_c − 2``."""
    return _conv(_palette()[:, :, None, None], -2.0)


def _total() -> nn.Module:
    """Sum over all pixels, in units of a square."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), _dense(torch.eye(len(COLORS)) * (SIDE / SQUARE) ** 2))


def _against() -> Tensor:
    """The matrix of which color counts against a class: that of the next class."""
    return torch.eye(len(COLORS)).roll(1, 1)


def count() -> nn.Module:
    """Return the network whose logits are the numbers of squares in each color."""
    return nn.Sequential(_detectors(), nn.ReLU(), _total())


def difference() -> nn.Module:
    """Return the network whose logits are the squares in a color minus those in the next color."""
    return nn.Sequential(_detectors(), nn.ReLU(), _total(), _dense(torch.eye(len(COLORS)) - _against()))


class Redundant(nn.Module):
    """Counts squares as ``count`` does, by a residual network with channels that copy, cancel, or lead nowhere."""

    def __init__(self) -> None:
        super().__init__()
        colors, unit = len(COLORS), torch.eye(len(COLORS))
        gray = torch.full((1, 3), 1.0)  # reacts to any bright pixel, and nothing reads it
        self.stem = nn.Sequential(
            _conv(torch.cat([_palette(), gray])[:, :, None, None], torch.tensor([-2.0] * colors + [1.0])), nn.ReLU()
        )
        none = torch.zeros(colors, 1)
        paths = torch.cat([torch.cat([unit, none], 1), torch.cat([unit, none], 1), torch.cat([0 * unit, none + 1], 1)])
        centered = torch.zeros(*paths.shape, 3, 3)
        centered[:, :, 1, 1] = paths
        self.branch = nn.Sequential(_conv(centered, padding=1), nn.ReLU())
        self.join = _conv(torch.cat([0.5 * unit, -0.5 * unit, 0 * unit], 1)[:, :, None, None])
        self.narrow = _conv(torch.cat([unit, none], 1)[:, :, None, None])
        self.head = nn.Sequential(
            _total(), _dense(torch.cat([unit, unit])), nn.ReLU(), _dense(torch.cat([0.5 * unit, 0.5 * unit], 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.stem(x)
        return self.head(self.join(self.branch(x)) + self.narrow(x))


def pairs() -> nn.Module:
    """Return the network whose logits are in proportion to the pixels of a color with a gray pixel to the right: an AND of two neighbors."""
    colors = len(COLORS)
    first = nn.Sequential(_conv(torch.cat([_palette(), torch.ones(1, 3)])[:, :, None, None], -2.0), nn.ReLU())
    both = torch.zeros(colors, colors + 1, 1, 2)
    both[:, :colors, 0, 0], both[:, colors, 0, 1] = torch.eye(colors), 1.0
    return nn.Sequential(first, _conv(both, -1.0), nn.ReLU(), _total())


def parity() -> nn.Module:
    """Return the network whose logits are the numbers of squares in each color modulo two, for up to four squares."""
    colors, steps = len(COLORS), torch.arange(5.0)
    ramps = torch.eye(colors).repeat_interleave(len(steps), 0)
    heights = torch.tensor([1.0, -2.0, 2.0, -2.0, 2.0])
    sums = torch.block_diag(*[heights[None]] * colors)
    return nn.Sequential(_detectors(), nn.ReLU(), _total(), _dense(ramps, -steps.repeat(colors)), nn.ReLU(), _dense(sums))


def _own(colors: Tensor, label: int) -> Truth:
    return colors == label, torch.zeros_like(colors, dtype=torch.bool)


def _own_and_next(colors: Tensor, label: int) -> Truth:
    return colors == label, colors == (label + 1) % len(COLORS)


def _left_of_gray(colors: Tensor, label: int) -> Truth:
    """Both pixels of each pair speak for the class; gray is ``len(COLORS)`` in the map of colors."""
    left = (colors[:, :-1] == label) & (colors[:, 1:] == len(COLORS))
    found = torch.zeros_like(colors, dtype=torch.bool)
    found[:, :-1] |= left
    found[:, 1:] |= left
    return found, torch.zeros_like(found)


DESIGNS: Mapping[str, Design] = {
    design.name: design
    for design in (
        Design("count", "the number of squares in its color", count, _own),
        Design("difference", "the squares in its color minus those in the next color", difference, _own_and_next),
        Design("redundant", "the number of squares in its color, by channels that copy, cancel or lead nowhere", Redundant, _own),
        Design("pairs", "in proportion to the pixels in its color that have a gray pixel to the right", pairs, _left_of_gray),
        Design("parity", "the number of squares in its color modulo two", parity, _own, signed=False),
    )
}
"""The networks by name."""
