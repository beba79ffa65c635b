"""Functionalize: in-place ops on values become out-of-place, so that every node is one value."""

import torch
from torch import fx

from relprop.graph.aliasing import depends_on_values, mutated


def make_out_of_place(module: fx.GraphModule) -> None:
    """Replace every in-place op on a value that depends on the input by its out-of-place variant."""
    for node in list(module.graph.nodes):
        target = mutated(node)
        if target is None or not depends_on_values(node):
            continue
        base, overload = str(node.target._schema.name).removeprefix("aten::"), node.target._overloadname
        twin = getattr(torch.ops.aten, base.removesuffix("_"), None)
        if twin is None or overload not in twin.overloads():
            continue
        node.target = getattr(twin, overload)
        later = list(module.graph.nodes)
        later = later[later.index(node) + 1 :]
        target.replace_all_uses_with(node, delete_user_cb=lambda user, allowed=set(later): user in allowed)
