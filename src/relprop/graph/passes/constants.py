"""Constant folding, and dead-code elimination of ops and constants that nothing reads."""

import operator
from typing import Any

import torch
from torch import Tensor, fx

from relprop.graph.aliasing import mutated, values_read
from relprop.graph.nodes import add_constant, replace, tensor_inputs
from relprop.ops.table import arguments_of, entry


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
    """Fold constants: evaluate every op that depends on constants alone, and drop dead code."""
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
    if _is_random(node):
        return False
    op = entry(node)
    if op is not None and op.reads == ():
        first, *rest = node.all_input_nodes
        fixed = all(isinstance(n, int) for n in getattr(node.meta["val"], "shape", [torch.SymInt]))
        return fixed and all(p in values for p in rest if p is not first)
    if node.target is operator.getitem or node.all_input_nodes:
        return all(p in values for p in node.all_input_nodes)
    return isinstance(node.meta.get("val"), Tensor)


def _is_random(node: fx.Node) -> bool:
    """Whether a call draws random numbers: torch tags such ops, some of which draw none in evaluation mode."""
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    arguments = arguments_of(node)
    return not any(arguments.get(name, True) in (False, 0.0) for name in ("train", "training", "dropout_p"))


def _stand_in(node: fx.Node) -> Tensor:
    """An empty tensor in place of a value of which only shape and dtype are read."""
    fake = node.meta["val"]
    return torch.empty([n if isinstance(n, int) else 2 for n in fake.shape], dtype=fake.dtype, device=fake.device)


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
