"""A captured model as a differentiable function: its logits, its ops, and intermediate values."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from relprop.graph.nodes import change_dtypes, copy_module, explained, interpret, is_floating, nodes_in
from relprop.graph.passes.constants import depends_on_input
from relprop.graph.watch import Watch
from relprop.inputs import Inputs, batch_size
from relprop.ops.table import arguments_of, entry

_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Handler = Callable[..., Any]
"""A replacement of one op: ``(*args, **kwargs) -> value``, with the op's own arguments."""


@dataclass(frozen=True)
class CapturedModel:
    """A captured model as a function of its inputs; gradients reach the inputs and never the user's parameters.

    Attributes:
        module: The normalized graph.
        example: The inputs that it was captured on, floating ones hollow: shapes without values.
        dynamic: Whether it takes any batch size; if not, samples are run one at a time.
        original: The user's own model, for registered functions.
        notes: Notes for the user.
        chosen: The tensor that the user chose among the model's outputs.
        watch: Watches the user's model; None for a copy with tensors of its own, which does not follow it.
        activation: The activation of the model's head, see :mod:`relprop.heads`; None where it is not known.
        labels: The names of the classes; None where they are not known.
        caches: Names of the buffers that the model fills anew, whatever they hold; they are not watched.
    """

    module: fx.GraphModule
    example: Inputs
    dynamic: bool
    original: nn.Module
    notes: tuple[str, ...] = ()
    chosen: str | int | None = None
    watch: Watch | None = None
    activation: str | None = None
    labels: tuple[str, ...] | None = None
    caches: frozenset[str] = frozenset()

    def copy(self) -> Self:
        """Return the same model with a graph of its own; tensors are shared."""
        return replace(self, module=copy_module(self.module))

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return the model with ``function`` applied to every tensor; a new dtype holds for the whole graph and for later inputs."""
        module = copy_module(self.module, function)
        dtypes = {dtype: new for dtype in _FLOATING if (new := function(torch.empty(0, dtype=dtype)).dtype) != dtype}
        if dtypes:
            change_dtypes(module.graph, dtypes)
        own = any(a is not b for a, b in zip(self.module.buffers(), module.buffers(), strict=True))
        example = self.example.map(lambda v: v.to(dtypes.get(v.dtype, v.dtype)))
        return replace(self, module=module, example=example, watch=None if own or dtypes else self.watch)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the graph with its tensors; the user's model, which only registered methods call, stays shared."""
        copied = memo[id(self)] = self.map(torch.clone)
        return copied

    @property
    def output(self) -> fx.Node:
        """The explained value."""
        return explained(self.module.graph)

    @cached_property
    def _active(self) -> set[fx.Node]:
        return depends_on_input(self.module.graph)

    @property
    def ops(self) -> list[fx.Node]:
        """All ops, in forward order."""
        return [n for n in self.module.graph.nodes if n.op == "call_function"]

    @property
    def active(self) -> list[fx.Node]:
        """The ops that depend on the values of the input, in forward order."""
        return [n for n in self.ops if n in self._active]

    def carriers(self, node: fx.Node) -> list[fx.Node]:
        """The floating values that depend on the input and that ``node`` reads, once per argument."""
        return [n for n in nodes_in((*node.args, *node.kwargs.values())) if n in self._active and is_floating(n)]

    def __call__(self, given: Inputs, handlers: Mapping[fx.Node, Handler] | None = None) -> Tensor:
        """Return the logits, ``(B, C)``; ``handlers`` are those of :meth:`run`."""
        if self.dynamic:
            return self.run(given, handlers)[0]
        return torch.cat([self.run(given.sample(i), handlers)[0] for i in range(batch_size(given))])

    def run(
        self, given: Inputs, handlers: Mapping[fx.Node, Handler] | None = None, keep: Collection[fx.Node] = ()
    ) -> tuple[Tensor, dict[fx.Node, Any]]:
        """Run the graph; return its output and the values of the nodes in ``keep``.

        Args:
            given: The inputs of one batch.
            handlers: Replacements of ops, by node.
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


def is_rectifier(node: fx.Node) -> bool:
    """Whether an op is ReLU, however it is written, or one of its relatives."""
    op = entry(node)
    return op is not None and op.rectifies(arguments_of(node))
