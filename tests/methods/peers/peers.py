"""Independent libraries to compare with, and the models to compare on."""

import importlib
from functools import cache
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from relprop.zoo import import_torchvision

MISSING: dict[str, str] = {}
"""Peers that do not import, with the reason; the run's summary lists them."""


def peer(name: str) -> ModuleType:
    """Import a peer; where it does not import, skip the test file and say so in the run's summary."""
    try:
        import_torchvision()
        return importlib.import_module(name)
    except Exception as error:  # a peer may fail in any way
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        MISSING[name] = reason
        pytest.skip(f"the peer {name} does not import ({reason})", allow_module_level=True)


def classifier(name: str) -> nn.Module:
    """A torchvision model in float64 with random weights, biases and norm statistics; VGG with narrow dense layers.

    BatchNorm has a tiny stabilizer: a peer that leaves a BatchNorm behind after folding it would apply the stabilizer twice.
    """
    torch.manual_seed(0)
    model = getattr(import_torchvision().models, name)(weights=None, num_classes=10)
    if name.startswith("vgg"):
        wide, _, drop, _, _, _, _ = model.classifier
        layers = [nn.Linear(wide.in_features, 32), nn.ReLU(), drop, nn.Linear(32, 32), nn.ReLU(), drop, nn.Linear(32, 10)]
        model.classifier = nn.Sequential(*layers)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 1e-12
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
            if getattr(module, "bias", None) is not None:
                module.bias.normal_(0, 0.1)
    return model.double().eval()


model_of = cache(classifier)
"""The model, made once; for tests that leave it as it is."""


class Residual(nn.Module):
    """``x + f(x)``: the sum is no module, so hooks on modules cannot see it."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.f(x))


def residual() -> tuple[Residual, Tensor, Tensor]:
    """A sum that modules cannot see in float64, two inputs ``(2, 4)`` and their targets."""
    torch.manual_seed(3)
    return Residual().double(), torch.rand(2, 4).double(), torch.tensor([0, 2])


def photos() -> tuple[Tensor, Tensor]:
    """Two inputs in [−3, 3], ``(2, 3, 32, 32)`` in float64, and their targets."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, 32, 32, generator=generator).double().clamp(-3, 3), torch.tensor([1, 7])


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The norm of the difference over the norm, for the sample where it is largest."""
    return float(((ours - theirs).flatten(1).norm(dim=1) / theirs.flatten(1).norm(dim=1)).max())
