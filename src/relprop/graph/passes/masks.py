"""Constant masks: added −∞ becomes ``masked_fill``, which absorbs no relevance."""

import math

import torch
from torch import Tensor, fx

from relprop.graph.nodes import add_constant, insert, replace

aten = torch.ops.aten


def fill_infinite_masks(module: fx.GraphModule) -> None:
    """Rewrite ``x + mask``, with a constant mask of numbers and −∞, as ``(x + numbers).masked_fill(−∞ there, −∞)``."""
    for node in list(module.graph.nodes):
        if node.target is not aten.add.Tensor or node.kwargs.get("alpha", 1) != 1:
            continue
        for x, other in (node.args, node.args[::-1]):
            mask = _constant(module, other)
            if isinstance(x, fx.Node) and mask is not None and bool((there := mask == -math.inf).any()):
                numbers = add_constant(module, node, "mask", mask.masked_fill(there, 0.0))
                filled = add_constant(module, node, "masked", there)
                replace(node, insert(node, aten.masked_fill.Scalar, insert(node, aten.add.Tensor, x, numbers), filled, -math.inf))
                break


def _constant(module: fx.GraphModule, node: object) -> Tensor | None:
    value = getattr(module, str(node.target)) if isinstance(node, fx.Node) and node.op == "get_attr" else None
    return value if isinstance(value, Tensor) else None
