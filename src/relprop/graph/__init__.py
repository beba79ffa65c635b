"""From an ``nn.Module`` to a normalized graph of ATen ops."""

from relprop.lazy import submodules

__getattr__ = submodules(__name__, __path__)
