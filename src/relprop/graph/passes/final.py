"""Remove a final softmax or sigmoid: the logit is explained."""

from collections.abc import Collection

from torch import fx

from relprop.graph.passes.constants import drop_unused
from relprop.ops.op import op_name
from relprop.ops.table import entry

TAKEN_OFF = {name: f"The final {name} was taken off: logits are explained." for name in ("softmax", "sigmoid")}
"""The note of each activation that is removed."""


def take_off_final_softmax(module: fx.GraphModule) -> str | None:
    """Remove a final softmax or sigmoid, so that the graph returns logits; return a note if there was one."""
    output = module.graph.output_node()
    (result,) = output.args[0] if isinstance(output.args[0], tuple | list) else (output.args[0],)
    if not isinstance(result, fx.Node) or result.op != "call_function":
        return None
    op = entry(result)
    if op is None or not op.probabilities:
        return None
    output.args = ((result.args[0],),)
    drop_unused(module)
    return TAKEN_OFF["sigmoid" if "sigmoid" in op_name(result.target) else "softmax"]


def final_activation(notes: Collection[str]) -> str | None:
    """Return the activation that was removed, from the notes of a captured model."""
    return next((name for name, note in TAKEN_OFF.items() if note in notes), None)
