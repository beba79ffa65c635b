"""A captured model as a function: its logits, what computes them, and values on the way; gradients reach the inputs."""

import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from relprop.graph.capture import capture
from relprop.graph.nodes import copy_module, explained, interpret, is_floating, nodes_in
from relprop.graph.passes import normalize
from relprop.graph.passes.constants import depends_on_input
from relprop.inputs import Inputs, batch_size
from relprop.ops.op import AFFINE, Role
from relprop.ops.table import arguments_of, entry, known_op

Handler = Callable[..., Any]
"""Computes one op in another way: ``(*args, **kwargs) -> value``, as the op itself takes them."""


@dataclass(frozen=True)
class CapturedModel:
    """A captured model as a function of its inputs; gradients reach the inputs and never the user's parameters.

    Attributes:
        module: The normalized graph.
        dynamic: Whether it takes any batch size; if not, samples are run one at a time.
        original: The user's own model, for registered functions.
        notes: What the user should know of the capture.
    """

    module: fx.GraphModule
    dynamic: bool
    original: nn.Module
    notes: tuple[str, ...] = ()

    def copy(self, *, tensors: bool) -> "CapturedModel":
        """The same model with a graph of its own, and ``tensors`` of its own or shared ones."""
        return replace(self, module=copy_module(self.module, tensors=tensors))

    @property
    def output(self) -> fx.Node:
        """The explained value."""
        return explained(self.module.graph)

    @cached_property
    def _active(self) -> set[fx.Node]:
        return depends_on_input(self.module.graph)

    @property
    def active(self) -> list[fx.Node]:
        """The ops that depend on the values of the input, in forward order."""
        return [n for n in self.module.graph.nodes if n.op == "call_function" and n in self._active]

    def carriers(self, node: fx.Node) -> list[fx.Node]:
        """The floating values that depend on the input and that ``node`` reads, once per argument."""
        return [n for n in nodes_in((*node.args, *node.kwargs.values())) if n in self._active and is_floating(n)]

    def __call__(self, given: Inputs) -> Tensor:
        """Return the logits, ``(B, C)``."""
        if self.dynamic:
            return self.run(given)[0]
        return torch.cat([self.run(given.sample(i))[0] for i in range(batch_size(given))])

    def run(
        self, given: Inputs, handlers: Mapping[fx.Node, Handler] | None = None, keep: Collection[fx.Node] = ()
    ) -> tuple[Tensor, dict[fx.Node, Any]]:
        """Run the graph; return its output and the values of the nodes in ``keep``.

        Args:
            given: The inputs of one batch.
            handlers: What computes an op in place of the op itself.
            keep: Nodes whose values are returned; all others are dropped at their last use.
        """
        kept = {self.output, *keep}
        pending = {n: len(n.users) for n in self.module.graph.nodes}
        values: dict[fx.Node, Any] = {}
        for node, values in interpret(self.module, given.flat, handlers):
            for parent in node.all_input_nodes:
                pending[parent] -= 1
                if not pending[parent] and parent not in kept:
                    del values[parent]
        return values[self.output], {node: values[node] for node in keep}


def captured_model(model: nn.Module, inputs: Inputs, output: str | int | None = None) -> CapturedModel:
    """Capture a model and bring its graph to the form that plans are made for; arguments and errors are those of ``capture``."""
    captured = normalize(capture(model, inputs, output))
    return CapturedModel(captured.module, captured.dynamic, model, captured.notes)


def is_rectifier(node: fx.Node) -> bool:
    """Whether an op is ReLU, however it is written, or one of its relatives."""
    op = entry(node)
    return op is not None and op.rectifies(arguments_of(node))


def role_of(model: CapturedModel, node: fx.Node) -> Role | None:
    """The role of an op as attribution functions see it; None where relprop does not know the op.

    A product with a constant scales, a sum with one shifts; a product of two values of the input is a gate, or summed over, a product.
    """
    if node.target is operator.getitem:
        return Role.SHAPE
    op = known_op(node)
    if op is None:
        return None
    if len(model.carriers(node)) > 1:
        return Role.GATE if op.role is Role.SCALE else Role.PRODUCT if op.role in AFFINE else op.role
    return {Role.ADD: Role.BIAS, Role.GATE: Role.SCALE}.get(op.role, op.role)
