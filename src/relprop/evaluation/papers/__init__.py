"""The papers' experiments: their settings, their published numbers and their reproduction."""

from relprop.lazy import submodules

__getattr__ = submodules(__name__, __path__)
