"""Constant masks: boolean masks become indices, so that sizes are static; added −∞ becomes ``masked_fill``, which absorbs no relevance."""

import math

import torch
from torch import Tensor, fx

from relprop.graph.nodes import add_constant, insert, recompute, replace

aten = torch.ops.aten


def index_by_constant_masks(module: fx.GraphModule) -> None:
    """Rewrite ``x[:, mask]`` with a constant mask as ``x[:, positions]``, and recompute the shapes of its descendants."""
    rewritten: set[fx.Node] = set()
    for node in list(module.graph.nodes):
        if node.target not in {aten.index.Tensor, aten.index_put.default}:
            continue
        masks = {index: _mask(module, index) for index in node.args[1]}
        if any(mask is not None for mask in masks.values()):
            indices = [part for index in node.args[1] for part in _positions(module, node, index, masks[index])]
            node.args = (node.args[0], indices, *node.args[2:])
            rewritten.add(node)
    recompute(module.graph, rewritten)


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


def _mask(module: fx.GraphModule, index: fx.Node | None) -> Tensor | None:
    value = _constant(module, index)
    return value if value is not None and value.dtype in {torch.bool, torch.uint8} else None


def _positions(module: fx.GraphModule, node: fx.Node, index: fx.Node | None, mask: Tensor | None) -> list[fx.Node | None]:
    """The indices of a mask, one per dimension; any other index as it is."""
    if mask is None:
        return [index]
    return [add_constant(module, node, "positions", places) for places in mask.nonzero(as_tuple=True)]
