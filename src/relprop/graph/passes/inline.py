"""Inline the bodies of autocast and grad-mode regions, which export keeps as nested graphs."""

from typing import Any

from torch import fx

from relprop.graph.nodes import PATH, replace

_BODY_POSITION = {"wrap_with_autocast": 4, "wrap_with_set_grad_enabled": 1}


def inline_regions(module: fx.GraphModule) -> None:
    """Replace every call of a nested graph by its ops."""
    graph = module.graph
    for node in list(graph.nodes):
        position = _BODY_POSITION.get(getattr(node.target, "__name__", str(node.target)))
        if node.op != "call_function" or position is None:
            continue
        body = getattr(module, str(node.args[position].target))
        results = _copy(body, node, list(node.args[position + 1 :]))
        for user in list(node.users):
            replace(user, results[user.args[1]])
        graph.erase_node(node)


def _copy(body: fx.GraphModule, node: fx.Node, arguments: list[fx.Node]) -> list[fx.Node]:
    """Copy the ops of ``body`` before ``node``; return the nodes of its outputs."""
    inputs = list(body.graph.find_nodes(op="placeholder"))
    copies = dict(zip(inputs, arguments, strict=True))
    with node.graph.inserting_before(node):
        for inner in body.graph.nodes:
            if inner.op == "call_function":
                copies[inner] = node.graph.node_copy(inner, copies.__getitem__)
                copies[inner].meta.setdefault(PATH, node.meta.get(PATH, ""))
    outputs: Any = body.graph.output_node().args[0]
    return [copies[n] for n in outputs]
