"""Remove a final softmax or sigmoid: the logit is explained."""

from torch import fx

from relprop.graph.passes.constants import drop_unused
from relprop.ops.table import entry


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
    return "The final softmax or sigmoid was taken off: logits are explained."
