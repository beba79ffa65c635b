"""What does not depend on the input is computed once."""

import operator
from typing import Any

import torch
from torch import Tensor, fx

from relprop.graph.aliasing import mutated
from relprop.graph.nodes import add_constant, nodes_in, replace, tensor_inputs
from relprop.ops.op import op_name

METADATA_ONLY = frozenset(
    f"aten::{name}"
    for name in [
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "zeros_like",
        "ones_like",
        "full_like",
        "empty_like",
        "sym_size",
    ]
)
"""Ops that read the shape of a tensor, not its values."""

_SHAPE_OF_OTHER = {"aten::expand_as": 0, "aten::view_as": 0, "aten::reshape_as": 0, "aten::type_as": 0, "aten::copy": 1}
"""By op with two tensors, which one it reads; of the other it takes the shape or the dtype."""

_RANDOM = ("rand", "bernoulli", "dropout", "normal")


def values_read(node: fx.Node) -> list[fx.Node]:
    """Return the values that an op reads, leaving out those of which only the shape matters to it."""
    name = op_name(node.target)
    if name in METADATA_ONLY:
        return []
    return nodes_in(node.args[_SHAPE_OF_OTHER[name]]) if name in _SHAPE_OF_OTHER else node.all_input_nodes


def depends_on_input(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes whose values depend on the values of the input, not only on its shape."""
    active = set(tensor_inputs(graph))
    for node in graph.nodes:
        if node.op == "call_function" and not active.isdisjoint(values_read(node)):
            active.add(node)
            target = mutated(node)
            if target is not None:
                active.add(target)
    return active


def fold_constants(module: fx.GraphModule) -> None:
    """Evaluate every op that depends on constants alone, once and for all, and drop what is no longer used."""
    graph = module.graph
    values: dict[fx.Node, Any] = {}
    copy = any(mutated(node) is not None for node in graph.nodes)
    for node in graph.nodes:
        if node.op == "get_attr" and isinstance(getattr(module, str(node.target)), Tensor):
            value = getattr(module, str(node.target))
            values[node] = value.clone() if copy else value
        elif node.op == "call_function" and _is_constant(node, values):
            lookup = {**values, **{p: _stand_in(p) for p in node.all_input_nodes if p not in values}}
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lookup.__getitem__)  # pyright: ignore[reportAttributeAccessIssue]
            values[node] = node.target(*args, **kwargs)
    for node, value in values.items():
        outside = any(user not in values for user in node.users)
        if node.op == "call_function" and isinstance(value, Tensor) and outside:
            replace(node, add_constant(module, node, "folded", value))
    for node in reversed(list(graph.nodes)):
        if node in values and not node.users:
            graph.erase_node(node)
    drop_unused(module)


def _is_constant(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    name = op_name(node.target)
    if any(sign in name for sign in _RANDOM):
        return False
    if name in METADATA_ONLY:
        first, *rest = node.all_input_nodes
        fixed = all(isinstance(n, int) for n in getattr(node.meta["val"], "shape", [torch.SymInt]))
        return fixed and all(p in values for p in rest if p is not first) and name != "aten::sym_size"
    if node.target is operator.getitem or node.all_input_nodes:
        return all(p in values for p in node.all_input_nodes)
    return isinstance(node.meta.get("val"), Tensor)


def _stand_in(node: fx.Node) -> Tensor:
    """A tensor with the dtype of a value whose shape alone matters."""
    fake = node.meta["val"]
    return torch.empty([n if isinstance(n, int) else 2 for n in fake.shape], dtype=fake.dtype, device=fake.device)


def drop_unused(module: fx.GraphModule) -> None:
    """Erase ops and constants that nothing reads."""
    graph = module.graph
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op in {"call_function", "get_attr"}:
            graph.erase_node(node)
    used = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    for name, _ in list(module.named_buffers(remove_duplicate=False)):
        if name not in used:
            delattr(module, name)
