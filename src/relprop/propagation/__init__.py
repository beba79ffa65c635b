"""Rules on a graph: a method becomes a plan, and the plan is run."""

from relprop.lazy import submodules

__getattr__ = submodules(__name__, __path__)
