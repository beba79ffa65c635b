"""A final softmax or sigmoid is taken off: the logit is explained."""

from torch import fx

from relprop.graph.passes.constants import drop_unused
from relprop.ops.op import op_name

_FINAL = frozenset(
    {"aten::softmax", "aten::_softmax", "aten::log_softmax", "aten::_log_softmax", "aten::sigmoid", "aten::log_sigmoid"}
)


def take_off_final_softmax(module: fx.GraphModule) -> str | None:
    """Let the graph return logits; return a note where anything had to be taken off."""
    output = module.graph.output_node()
    (result,) = output.args[0] if isinstance(output.args[0], tuple | list) else (output.args[0],)
    if not (isinstance(result, fx.Node) and result.op == "call_function" and op_name(result.target) in _FINAL):
        return None
    output.args = ((result.args[0],),)
    drop_unused(module)
    return "The final softmax or sigmoid was taken off: logits are explained."
