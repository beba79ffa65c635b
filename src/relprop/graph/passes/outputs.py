"""Mark outputs of modules: the values at the return, before later in-place ops write to them."""

from collections.abc import Mapping, Sequence

from torch import fx

from relprop.graph.nodes import OUTPUTS, Returns, is_floating, returns
from relprop.graph.recording.record import Returned


def mark_outputs(module: fx.GraphModule, returned: Sequence[Returned]) -> None:
    """Mark every node with the modules whose output it is.

    Of a module that is called several times the last output is marked; of several tensors the last one computed that is read.
    """
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    calls: dict[str, list[Returned]] = {}
    for call in returned:
        calls.setdefault(call.path, []).append(call)
    # outer modules first, where several return one value
    for path in sorted(calls, key=lambda path: path.count(".")):
        for call in reversed(calls[path]):
            read = _read(call, order)
            if read:
                read[-1].meta.setdefault(OUTPUTS, []).append(path)
                returns(module)[path] = Returns(len(calls[path]), len(read), call.passes_on)
                break


def _read(call: Returned, order: Mapping[fx.Node, int]) -> Sequence[fx.Node]:
    """The values of a return that later ops read, in forward order, floating ones if there are any."""
    read = [v for v in dict.fromkeys(call.values) if any(order[user] > order[call.last] for user in v.users)]
    return sorted([v for v in read if is_floating(v)] or read, key=order.__getitem__)
