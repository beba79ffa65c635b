"""Mark outputs of modules: the values at the return, before later in-place ops write to them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import fx

from relprop.graph.modules import RETURNED
from relprop.graph.nodes import OUTPUTS, Returns, is_floating, returns


class _Call(NamedTuple):
    """A noted return; ``read``: the returned values that later ops read, in forward order."""

    read: list[fx.Node]
    passes_on: bool


def mark_outputs(module: fx.GraphModule) -> None:
    """Mark every node with the modules whose output it is, and erase the notes of returns.

    Of a module that is called several times the last output is marked; of several tensors the last one computed that is read.
    """
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    notes = module.graph.find_nodes(op="call_function", target=RETURNED)
    calls: dict[str, list[_Call]] = {}
    for note in notes:
        _, path, passes_on = note.args
        calls.setdefault(str(path), []).append(_Call(_read(note, order), bool(passes_on)))
    for note in notes:
        module.graph.erase_node(note)
    # outer modules first, where several return one value
    for path in sorted(calls, key=lambda path: path.count(".")):
        call = next((call for call in reversed(calls[path]) if call.read), None)
        if call is not None:
            call.read[-1].meta.setdefault(OUTPUTS, []).append(path)
            returns(module)[path] = Returns(len(calls[path]), len(call.read), call.passes_on)


def _read(note: fx.Node, order: Mapping[fx.Node, int]) -> list[fx.Node]:
    """The values of a noted return that later ops read, in forward order, floating ones if there are any."""
    values: Any = note.args[0]
    read = [v for v in dict.fromkeys(values) if any(u.target is not RETURNED and order[u] > order[note] for u in v.users)]
    return sorted([v for v in read if is_floating(v)] or read, key=order.__getitem__)
