"""Remove a final softmax or sigmoid: the logit is explained."""

from collections.abc import Collection

from torch import fx

from relprop.graph.nodes import explained
from relprop.graph.passes.constants import drop_unused
from relprop.ops.op import Role, op_name
from relprop.ops.table import entry

TAKEN_OFF = {name: f"The final {name} was taken off: logits are explained." for name in ("softmax", "sigmoid")}
"""The note of each activation that is removed."""


def take_off_final_softmax(module: fx.GraphModule) -> str | None:
    """Remove a final softmax or sigmoid, so that the graph returns logits; return a note if there was one.

    Views may follow a sigmoid, as in ``sigmoid(x).squeeze(1)``: it is taken off before them.
    """
    found = _activation(explained(module.graph))
    if found is None:
        return None
    found.replace_all_uses_with(found.args[0])  # pyright: ignore[reportArgumentType]
    drop_unused(module)
    return TAKEN_OFF["sigmoid" if _is_sigmoid(found) else "softmax"]


def _activation(result: object) -> fx.Node | None:
    """The softmax or sigmoid that a model ends in."""
    node = result
    while isinstance(node, fx.Node) and node.op == "call_function":
        op = entry(node)
        if op is None or (node is not result and len(node.users) > 1):
            return None
        if op.probabilities:
            return node if node is result or _is_sigmoid(node) else None
        if op.role is not Role.SHAPE or len(node.all_input_nodes) != 1:
            return None
        (node,) = node.all_input_nodes
    return None


def _is_sigmoid(node: fx.Node) -> bool:
    return "sigmoid" in op_name(node.target)


def final_activation(notes: Collection[str]) -> str | None:
    """Return the activation that was removed, from the notes of a captured model."""
    return next((name for name, note in TAKEN_OFF.items() if note in notes), None)
