"""Remove a final softmax or sigmoid: the logit is explained."""

from torch import fx

from relprop.graph.passes.constants import drop_unused
from relprop.ops.table import entry


def take_off_final_softmax(module: fx.GraphModule) -> bool:
    """Let the graph return logits; return whether a final softmax or sigmoid was removed."""
    output = module.graph.output_node()
    (result,) = output.args[0] if isinstance(output.args[0], tuple | list) else (output.args[0],)
    op = entry(result) if isinstance(result, fx.Node) and result.op == "call_function" else None
    if op is None or not op.probabilities:
        return False
    output.args = ((result.args[0],),)
    drop_unused(module)
    return True
