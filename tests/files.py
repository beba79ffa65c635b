"""Files of tests: models and photos that they write, and the real weights and images beside the repository."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relprop.zoo import import_torchvision

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
needs_weights = pytest.mark.skipif(
    not (SHARED / "weights").is_dir(), reason="the folder ../shared with real weights is not there"
)

NO_RULE = """
import torch
from torch import nn
from relprop.zoo import Preprocessing

class Odd(nn.Module):
    def forward(self, x):
        return torch.digamma(x.flatten(1))[:, :4]

def no_rule():
    return Odd(), Preprocessing((4, 4), 4)
"""
"""A file of one model, which relevance cannot pass."""

MODELS = f"""{NO_RULE}
class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 6, 3, stride=2), nn.ReLU())
        self.classifier = nn.Linear(6, 4)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))

def net(width, size):
    torch.manual_seed(0)
    return Net(width), Preprocessing((size, size), size), ["tabby, tabby cat", "dog", "horse", "cow"]

def small():
    return net(4, 24)

def large():
    return net(6, 32)
"""
"""The same with two that it passes."""


def save_photos(folder, *names):
    """Save photos of 50 × 40 pixels of noise, the same in every run."""
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / name)


def names(folder):
    """The names of what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def weights_library():
    """The module that loads the real weights beside the repository."""
    import_torchvision()
    return _loaded("shared_weights", SHARED / "weights" / "load.py")


def load_benchmark(name):
    """A module of `benchmarks/`, which is no package."""
    return _loaded(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")


def load_hook(name):
    """A hook of the docs, which MkDocs loads by its path."""
    return _loaded(f"hook_{name}", ROOT / "docs" / "hooks" / f"{name}.py")


def _loaded(name, path):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
