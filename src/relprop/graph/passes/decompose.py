"""Decompose ops without an entry in the table into ops with one, by our definitions or torch's own, and complex values into real ones."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch._decomp import decomposition_table
from torch.fx.experimental.proxy_tensor import make_fx

from relprop.graph.aliasing import mutated
from relprop.graph.nodes import PATH, insert, replace, value_of
from relprop.graph.passes.complex import separate_complex
from relprop.ops.decompositions import definition_of
from relprop.ops.op import op_name
from relprop.ops.table import OPS

_ROUNDS = 4


def decompose_unknown(module: fx.GraphModule) -> None:
    """Replace ops without an entry by their decompositions, several levels deep."""
    for _ in range(_ROUNDS):
        unknown = [n for n in module.graph.nodes if n.op == "call_function" and _definition(n) is not None]
        for node in unknown:
            _take_apart(node)
        if not unknown:
            break
    separate_complex(module)


def _definition(node: fx.Node) -> Callable[..., Any] | None:
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable:  # pyright: ignore[reportPrivateUsage]
        return None
    if (own := definition_of(target, node.args)) is not None:
        return own
    if op_name(target) in OPS or f"{op_name(target)}.{target._overloadname}" in OPS:  # pyright: ignore[reportPrivateUsage]
        return None
    if target in decomposition_table:
        return decomposition_table[target]
    if torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd"):  # pyright: ignore[reportPrivateUsage]
        return target.decompose
    return None


def _take_apart(node: fx.Node) -> None:
    definition = _definition(node)
    leaves = list(node.all_input_nodes)

    def run(*values: object) -> object:
        lookup = dict(zip(leaves, values, strict=True))
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lookup.__getitem__)  # pyright: ignore[reportAttributeAccessIssue]
        return definition(*args, **kwargs)  # pyright: ignore[reportOptionalCall]

    with contextlib.suppress(NotImplementedError, RuntimeError, TypeError):
        # a composite op traced before dispatch would record itself
        pre_dispatch = definition != node.target.decompose  # pyright: ignore[reportFunctionMemberAccess, reportAttributeAccessIssue]
        body = make_fx(run, pre_dispatch=pre_dispatch, record_module_stack=False)(*[value_of(n) for n in leaves])
        _splice(body, node, leaves)


def _splice(body: fx.GraphModule, node: fx.Node, leaves: list[fx.Node]) -> None:
    # a decomposition with in-place writes would hide dependences; one into primitives would hide the op's name from the user
    if any(n.op == "get_attr" or mutated(n) is not None or str(n.target).startswith("prims") for n in body.graph.nodes):
        return
    copies: dict[fx.Node, Any] = dict(zip(body.graph.find_nodes(op="placeholder"), leaves, strict=True))
    for inner in body.graph.nodes:
        if inner.op == "call_function":
            args, kwargs = fx.node.map_arg((inner.args, inner.kwargs), copies.__getitem__)  # pyright: ignore[reportAttributeAccessIssue]
            copies[inner] = insert(node, inner.target, *args, **kwargs)
            copies[inner].meta[PATH] = node.meta.get(PATH, "")
    result: Any = body.graph.output_node().args[0]
    if isinstance(result, fx.Node):
        replace(node, copies[result])
    else:
        for user in list(node.users):
            replace(user, copies[result[user.args[1]]])
        node.graph.erase_node(node)
