"""Working on ``fx`` graphs: what nodes are marked with, and how passes make, replace and add nodes."""

import itertools
from typing import Any

from torch import Tensor, fx

OUTPUTS = "module_outputs"
"""Key of ``node.meta``: the paths of the modules whose output a node is."""

PATH = "module_path"
"""Key of ``node.meta``: the path of the module that an op belongs to."""


def value_of(node: object) -> Any:  # noqa: ANN401 - a fake tensor, a list of them, or a plain argument
    """The fake value of a node; anything else stands for itself."""
    return node.meta["val"] if isinstance(node, fx.Node) else node


def insert(before: fx.Node, target: Any, *args: Any, **kwargs: Any) -> fx.Node:  # noqa: ANN401 - an op and its arguments
    """Insert a call before a node and on behalf of it: same module path, shape worked out on fake tensors."""
    with before.graph.inserting_before(before):
        node = before.graph.call_function(target, args, kwargs)
    node.meta[PATH] = before.meta.get(PATH, "")
    node.meta["val"] = target(*fx.node.map_arg(args, value_of), **fx.node.map_arg(kwargs, value_of))  # pyright: ignore[reportAttributeAccessIssue]
    return node


def replace(node: fx.Node, new: fx.Node) -> None:
    """Let ``new`` stand for ``node`` everywhere, as a module's output too, and drop ``node``."""
    if OUTPUTS in node.meta:
        new.meta[OUTPUTS] = [*new.meta.get(OUTPUTS, []), *node.meta[OUTPUTS]]
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def add_constant(module: fx.GraphModule, before: fx.Node, name: str, value: Tensor) -> fx.Node:
    """Register ``value`` as a buffer under a free name like ``name`` and return a node that reads it."""
    free = next(c for i in itertools.count() if not hasattr(module, c := f"{name}_{i}"))
    module.register_buffer(free, value)
    with module.graph.inserting_before(before):
        node = module.graph.create_node("get_attr", free)
    node.meta[PATH] = before.meta.get(PATH, "")
    node.meta["val"] = fake_like(before, value)
    return node


def fake_like(node: fx.Node, value: Tensor) -> Tensor:
    """A fake tensor shaped like ``value``, of the graph's own fake mode."""
    for other in node.graph.nodes:
        fake = other.meta.get("val")
        if isinstance(fake, Tensor) and hasattr(fake, "fake_mode"):
            return fake.fake_mode.from_tensor(value, static_shapes=True)  # pyright: ignore[reportAttributeAccessIssue]
    raise RuntimeError("the graph has no fake values")
