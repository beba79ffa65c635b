"""Explain what an image classifier saw, by relevance propagation: RAP, LRP and their family."""

import importlib
from typing import TYPE_CHECKING, Any

from relprop.errors import RelpropError
from relprop.version import __version__

if TYPE_CHECKING:
    from relprop.explainer import Explainer, explain
    from relprop.explanation import Explanation
    from relprop.methods import Method
    from relprop.methods.custom import register_method
    from relprop.ops.table import register_op

__all__ = ["Explainer", "Explanation", "Method", "RelpropError", "__version__", "explain", "register_method", "register_op"]

# Imported on first use, so that `relprop --help` need not wait for torch.
_HOME = {
    "Explainer": "relprop.explainer",
    "Explanation": "relprop.explanation",
    "Method": "relprop.methods",
    "explain": "relprop.explainer",
    "register_method": "relprop.methods.custom",
    "register_op": "relprop.ops.table",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOME:
        raise AttributeError(f"module 'relprop' has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return globals()[name]
