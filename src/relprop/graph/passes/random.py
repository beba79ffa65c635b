"""Random ops: dropout that is always on is left out, other draws are noted."""

import torch
from torch import fx

from relprop.graph.nodes import PATH, replace
from relprop.graph.passes.constants import drop_unused
from relprop.ops.op import op_name
from relprop.ops.recorded import is_random


def leave_out_dropout(module: fx.GraphModule) -> str | None:
    """Leave out dropout that is on in evaluation mode; return a note if there was any."""
    drop_unused(module)
    dropouts = [n for n in _random(module.graph) if "dropout" in op_name(n.target)]
    for node in dropouts:
        replace(node, node.args[0])  # pyright: ignore[reportArgumentType]
    if not dropouts:
        return None
    return f"Dropout is on in evaluation mode ({_listed(dropouts)}); it is left out, so logits and maps are those of the model without it."


def note_random_ops(module: fx.GraphModule) -> str | None:
    """Return a note on ops that draw random numbers, if there are any."""
    nodes = _random(module.graph)
    return f"The model draws random numbers ({_listed(nodes)}), so logits and maps change from call to call." if nodes else None


def _random(graph: fx.Graph) -> list[fx.Node]:
    overload = torch._ops.OpOverload  # pyright: ignore[reportPrivateUsage]
    return [n for n in graph.nodes if isinstance(n.target, overload) and is_random(n.target, n.args, n.kwargs)]


def _listed(nodes: list[fx.Node]) -> str:
    return ", ".join(dict.fromkeys(f"{op_name(n.target)} in {n.meta.get(PATH) or 'the model itself'}" for n in nodes))
