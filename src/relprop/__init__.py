"""Explain what an image classifier saw, by relevance propagation: RAP, LRP and their family."""

import importlib
from typing import TYPE_CHECKING, Any

from relprop.errors import RelpropError
from relprop.lazy import submodules
from relprop.version import __version__

if TYPE_CHECKING:
    from relprop import (
        concepts,
        datasets,
        errors,
        evaluation,
        graph,
        heads,
        images,
        integrations,
        meaning,
        methods,
        metrics,
        ops,
        propagation,
        rules,
        targets,
        viz,
        zoo,
    )
    from relprop.datasets import register_dataset
    from relprop.explainer import Explainer, capture, explain
    from relprop.explanation import Explanation, concatenate
    from relprop.methods import Method, register_method
    from relprop.metrics import register_metric
    from relprop.ops.table import register_op
    from relprop.rules import register_rule

__all__ = [
    "Explainer",
    "Explanation",
    "Method",
    "RelpropError",
    "__version__",
    "capture",
    "concatenate",
    "concepts",
    "datasets",
    "errors",
    "evaluation",
    "explain",
    "graph",
    "heads",
    "images",
    "integrations",
    "meaning",
    "methods",
    "metrics",
    "ops",
    "propagation",
    "register_dataset",
    "register_method",
    "register_metric",
    "register_op",
    "register_rule",
    "rules",
    "targets",
    "viz",
    "zoo",
]

# Imported on first use, so that `relprop --help` need not wait for torch.
_HOME = {
    "Explainer": "relprop.explainer",
    "Explanation": "relprop.explanation",
    "Method": "relprop.methods",
    "capture": "relprop.explainer",
    "concatenate": "relprop.explanation",
    "explain": "relprop.explainer",
    "register_dataset": "relprop.datasets",
    "register_method": "relprop.methods",
    "register_metric": "relprop.metrics",
    "register_op": "relprop.ops.table",
    "register_rule": "relprop.rules",
}
_submodule = submodules(__name__, __path__)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOME:
        return _submodule(name)
    globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
