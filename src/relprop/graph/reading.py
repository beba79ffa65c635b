"""The model that a target reads: a captured model that ends at an inner module, less a reference, or in vectors of length one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, fx

from relprop.errors import TargetError, suggestion
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import add_constant, explained, insert, is_floating, module_outputs, output_notes
from relprop.graph.passes.constants import depends_on_input, drop_unused
from relprop.ops.op import Role, op_name
from relprop.ops.table import entry
from relprop.targets import Reading

aten = torch.ops.aten
Model = TypeVar("Model", bound=CapturedModel)

_SHORTEST = 1e-12
"""The least length that a vector is divided by, as in ``torch.nn.functional.normalize``."""


def read_at(captured: Model, reading: Reading) -> Model:
    """Return the captured model that a target reads; it shares its tensors with the other.

    Raises:
        TargetError: There is no such module, its output does not depend on the input, or the output is no number or no vector.
    """
    if reading == Reading():
        return captured
    own = captured.copy()
    if reading.layer is not None:
        own = replace(own, notes=(*own.notes, *output_notes(own.module, [reading.layer])), activation=None, labels=None)
        _end_at(own.module, _output_of(own, reading.layer))
        drop_unused(own.module)
    if reading.reference:
        _subtract(own.module, reading.reference)
    if reading.unit:
        _divide_by_length(own.module)
    own.module.graph.lint()
    return own


def _end_at(module: fx.GraphModule, node: fx.Node) -> None:
    end: Any = module.graph.output_node()
    _, *checks = end.args[0]
    end.args = ((node, *checks),)


def _output_of(captured: CapturedModel, path: str) -> fx.Node:
    """The output of a module.

    Raises:
        TargetError: There is none.
    """
    known: Mapping[str, fx.Node] = module_outputs(captured.module.graph)
    node = known.get(path)
    if node is None:
        raise TargetError(f"The model has no module {path!r} with an output of its own.{suggestion(str(path), known)}")
    if not is_floating(node) or not isinstance(node.meta["val"], Tensor) or node not in depends_on_input(captured.module.graph):
        raise TargetError(f"The output of module {path!r} is no number that depends on the input; name another module.")
    return node


def _subtract(module: fx.GraphModule, reference: float) -> None:
    """Subtract a number from the output: from the bias of the last layer where only views follow it, so that rules see it as bias."""
    output = explained(module.graph)
    last = _last_layer(output)
    if last is None:
        number = torch.tensor(reference, dtype=output.meta["val"].dtype)
        end = module.graph.output_node()
        _end_at(module, insert(end, aten.sub.Tensor, output, add_constant(module, end, "reference", number)))
        return
    weight, *bias = [getattr(module, str(node.target)) for node in last.all_input_nodes[1:]]
    less = (bias[0] if bias else weight.new_zeros(weight.shape[0])) - reference
    last.args = (last.args[0], last.args[1], add_constant(module, last, "bias_less_reference", less))
    drop_unused(module)


def _last_layer(node: fx.Node) -> fx.Node | None:
    """The linear layer with constant weights from which the output comes through views alone."""
    while node.op == "call_function" and len(node.users) == 1:
        if op_name(node.target) == "aten::linear":
            constants = [n for n in node.args[1:] if n is not None]
            return node if not node.kwargs and all(isinstance(n, fx.Node) and n.op == "get_attr" for n in constants) else None
        op = entry(node)
        if op is None or op.role is not Role.SHAPE or len(node.all_input_nodes) != 1:
            return None
        node = node.all_input_nodes[0]
    return None


def _divide_by_length(module: fx.GraphModule) -> None:
    output: Any = explained(module.graph)
    if output.meta["val"].dim() != 2:
        return  # the target refuses it, and says the shape
    end = module.graph.output_node()
    length = insert(end, aten.linalg_vector_norm.default, output, 2, [1], True)
    _end_at(module, insert(end, aten.div.Tensor, output, insert(end, aten.clamp_min.default, length, _SHORTEST)))
