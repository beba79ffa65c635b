"""Constant folding, and dead-code elimination of ops and constants that nothing reads."""

import operator
from typing import Any

import torch
from torch import Tensor, fx

from relprop.graph.nodes import Size, add_constant, call_op, replace, shape_of, tensor_inputs, values_read
from relprop.graph.recording.tape import CONSTANT
from relprop.ops.recorded import is_random
from relprop.ops.table import entry


def depends_on_input(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes whose values depend on the values of the input, not only on its shape."""
    active = set(tensor_inputs(graph))
    for node in graph.nodes:
        if node.op == "call_function" and not active.isdisjoint(values_read(node)):
            active.add(node)
    return active


def fold_constants(module: fx.GraphModule) -> None:
    """Fold constants: take the recorded value of every op that depends on constants alone, or evaluate it, and drop dead code."""
    graph = module.graph
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            values[node] = getattr(module, str(node.target))
        elif CONSTANT in node.meta:
            values[node] = node.meta.pop(CONSTANT)
        elif node.op == "call_function" and _is_constant(node, values):
            values[node] = call_op(node, {**values, **{p: _stand_in(p) for p in node.all_input_nodes if p not in values}})
    for node, value in values.items():
        outside = any(user not in values for user in node.users)
        if node.op == "call_function" and isinstance(value, Tensor) and outside:
            replace(node, add_constant(module, node, "folded", value))
    for node in reversed(list(graph.nodes)):
        if node in values and not node.users:
            graph.erase_node(node)
    drop_unused(module)


def _is_constant(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    if isinstance(node.target, torch._ops.OpOverload) and is_random(node.target, node.args, node.kwargs):  # pyright: ignore[reportPrivateUsage]
        return False
    op = entry(node)
    if op is not None and op.reads == ():
        first, *rest = node.all_input_nodes or [None]
        fixed = isinstance(node.meta["val"], Tensor) and not any(isinstance(n, Size) for n in shape_of(node))
        return fixed and all(p in values for p in rest if p is not first)
    if node.target is operator.getitem or node.all_input_nodes:
        return all(p in values for p in node.all_input_nodes)
    return isinstance(node.meta.get("val"), Tensor)


def _stand_in(node: fx.Node) -> Tensor:
    """An empty tensor in place of a value of which only shape and dtype are read."""
    return torch.empty(node.meta["val"].shape, dtype=node.meta["val"].dtype)


def drop_unused(module: fx.GraphModule) -> None:
    """Eliminate dead code: ops and constants that nothing reads."""
    graph = module.graph
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op in {"call_function", "get_attr"}:
            graph.erase_node(node)
    used = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    for name, _ in list(module.named_buffers(remove_duplicate=False)):
        if name not in used:
            delattr(module, name)
