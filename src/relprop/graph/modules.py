"""Modules in a graph: the module that every op belongs to, and the value that each module returned, noted at its return."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.fx.node import has_side_effect

from relprop.graph.aliasing import family, is_view, mutated
from relprop.graph.nodes import PATH
from relprop.ops.op import op_name


def _returned(_values: list[Tensor], _path: str, _passes_on: bool) -> None:
    return None


def _returned_in_vmap(*_: object) -> tuple[None, None]:
    return None, None


_LIBRARY = torch.library.Library("relprop", "FRAGMENT")
_LIBRARY.define("returned(Tensor[] values, str path, bool passes_on) -> ()")
_LIBRARY.impl("returned", _returned, "CompositeExplicitAutograd")
torch.library.register_vmap("relprop::returned", _returned_in_vmap, lib=_LIBRARY)  # vmap hides a dimension of the values

RETURNED = torch.ops.relprop.returned.default
"""Notes a return: an op without a result that reads ``(values, path, passes_on)`` when the module at ``path`` returns ``values``.

``passes_on``: whether the module returns its input or a view of it.
"""
has_side_effect(RETURNED)  # else it is dropped as dead code


@contextlib.contextmanager  # pyright: ignore[reportDeprecated]
def noted_returns(model: nn.Module) -> Iterator[None]:
    """While the model is exported, note the values that modules return, unless it is the last value that they computed."""
    handles = [
        module.register_forward_hook(_note) for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _note(_module: nn.Module, _inputs: object, output: object) -> None:
    mode = get_proxy_mode()
    if mode is None:  # not traced: a call in another thread
        return
    tracer: Any = mode.tracer
    proxies = [tracer.unwrap_proxy(value) for value in _tensors(output)]
    nodes = [proxy.node for proxy in proxies if isinstance(proxy, fx.Proxy)]  # constants have none
    call, last = next(reversed(tracer.module_stack), None), next(reversed(tracer.graph.nodes))
    if nodes and (nodes != [last] or call not in last.meta.get("nn_module_stack", ())):
        tracer.create_node("call_function", RETURNED, (nodes, "", False), {})


def _tensors(value: Any) -> list[Tensor]:  # noqa: ANN401 - whatever a module returns
    """The tensors in what a module returns, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    elif dataclasses.is_dataclass(value):
        value = list(vars(value).values())
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, list | tuple) else []


def note_returns(module: fx.GraphModule) -> None:
    """Complete the notes of an exported graph: every call of a module has one, with its path and whether it passes on its input."""
    seen: set[str] = set()
    for graph in _graphs(module):
        last: dict[str, Any] = {}
        for node in list(graph.nodes):
            *_, call = _calls(node) or [""]
            if node.target is RETURNED:
                seen.add(call)
                _complete(node, call)
            elif node.op == "call_function" and isinstance(node.meta.get("val"), Tensor):
                last |= dict.fromkeys(_calls(node), node)
        for call, node in reversed(last.items()):
            if call not in seen:
                with graph.inserting_after(node):
                    _complete(graph.call_function(RETURNED, ([node], "", False)), call)
        seen.update(last)


def _complete(note: fx.Node, call: str) -> None:
    path = _path(call)
    if path:
        note.args = (note.args[0], path, all(_is_passed_on(value, path) for value in note.all_input_nodes))
    else:
        note.graph.erase_node(note)


def _graphs(module: fx.GraphModule) -> list[fx.Graph]:
    """The graph of a module and the graphs nested in it: bodies of autocast and grad-mode regions."""
    return [child.graph for child in module.modules() if isinstance(child, fx.GraphModule)]


def _is_passed_on(value: fx.Node, path: str) -> bool:
    """Whether the ``value`` that a module returns is its unchanged input, or a view of it."""
    origin = value
    while path in module_stack(origin):
        if _writes(origin) or not (is_view(origin) and isinstance(origin.args[0], fx.Node)):
            return False
        origin = origin.args[0]
    if origin.op == "get_attr" or origin.meta["val"].dtype != value.meta["val"].dtype:
        return False
    relatives = family(value)
    return not any(_writes(node) and mutated(node) in relatives and path in module_stack(node) for node in value.graph.nodes)


def _writes(node: fx.Node) -> bool:
    """Whether an op changes its argument; dropout in place does not at inference."""
    return mutated(node) is not None and not any(name in op_name(node.target) for name in ("dropout", "detach"))


def module_stack(node: fx.Node) -> list[str]:
    """The paths of the modules in whose calls an op was run, outermost first; ``""`` is the model itself."""
    return [_path(call) for call in _calls(node)]


def _calls(node: fx.Node) -> list[str]:
    """The calls of modules in which an op was run, outermost first: paths in the exported wrapper, with ``@n`` from the second call on."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [(entry[0] if isinstance(entry, tuple) else str(entry), key) for key, entry in stack.items()]
    # the path is that of the module; the key numbers its calls
    return ["@".join([path, *key.split("@")[1:]]) for path, key in paths if path == "model" or path.startswith("model.")]


def _path(call: str) -> str:
    return call.removeprefix("model").removeprefix(".").split("@")[0]


def mark_paths(module: fx.GraphModule) -> None:
    """Mark every op with the path of its module."""
    for graph in _graphs(module):
        for node in graph.nodes:
            if node.op == "call_function":
                stack = module_stack(node)
                node.meta[PATH] = stack[-1] if stack else ""
