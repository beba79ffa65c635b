"""Gradients of the model's own: ``detach``, regions without gradients, and ``torch.autograd.Function``."""

from torch import fx

from relprop.graph.nodes import TWIN, replace, twin_of, value_of
from relprop.graph.passes.constants import drop_unused
from relprop.graph.recording.custom_gradients import Applied, CustomGradient, stop_gradient


def follow_values(module: fx.GraphModule) -> None:
    """Pass relevance through the ops that compute a value, whatever gradient the model gives it."""
    for node in list(module.graph.nodes):
        if node.target is stop_gradient or isinstance(node.target, CustomGradient):
            replace(node, node.args[0])  # pyright: ignore[reportArgumentType]
    drop_unused(module)


def follow_gradients(module: fx.GraphModule) -> None:
    """Call every ``torch.autograd.Function`` in place of the ops that it runs."""
    for node in list(module.graph.nodes):
        if isinstance(node.target, CustomGradient):
            with module.graph.inserting_before(node):
                applied = module.graph.call_function(Applied(node.target), node.args[1:])
            applied.meta.update({**node.meta, "val": value_of(node), TWIN: twin_of(node)})
            replace(node, applied)
    drop_unused(module)
