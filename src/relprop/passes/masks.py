"""Boolean masks that are constants become indices, so that the size of what they pick is known."""

import torch
from torch import Tensor, fx

from relprop.graph import add_constant, recompute
from relprop.ops.registry import op_name

_BY_INDEX = frozenset({"aten::index", "aten::index_put"})


def index_by_constant_masks(module: fx.GraphModule) -> None:
    """Rewrite ``x[:, mask]`` with a constant mask as ``x[:, positions]``, and work out the shapes of all that follows anew."""
    rewritten: set[fx.Node] = set()
    for node in list(module.graph.nodes):
        if node.op != "call_function" or op_name(node.target) not in _BY_INDEX:
            continue
        masks = {index: _mask(module, index) for index in node.args[1]}
        if any(mask is not None for mask in masks.values()):
            indices = [part for index in node.args[1] for part in _positions(module, node, index, masks[index])]
            node.args = (node.args[0], indices, *node.args[2:])
            rewritten.add(node)
    recompute(module.graph, rewritten)


def _mask(module: fx.GraphModule, index: fx.Node | None) -> Tensor | None:
    value = getattr(module, str(index.target)) if isinstance(index, fx.Node) and index.op == "get_attr" else None
    return value if isinstance(value, Tensor) and value.dtype in {torch.bool, torch.uint8} else None


def _positions(module: fx.GraphModule, node: fx.Node, index: fx.Node | None, mask: Tensor | None) -> list[fx.Node | None]:
    """One index per dimension of a mask, or the index as it is."""
    if mask is None:
        return [index]
    return [add_constant(module, node, "positions", places) for places in mask.nonzero(as_tuple=True)]
