"""What the model computes of its integer and boolean inputs, for the example."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from relprop.graph.nodes import PATH, is_floating, sources_of
from relprop.graph.recording.traced import Entry
from relprop.ops.recorded import is_random


class Examples:
    """The values of what depends on integer and boolean inputs alone.

    Args:
        constants: The tensors that the graph reads, by name.
    """

    def __init__(self, constants: Mapping[str, Tensor]) -> None:
        self._constants = constants
        self._given: dict[fx.Node, Tensor] = {}

    def add(self, node: fx.Node, value: Tensor) -> None:
        """Add an input, unless its numbers are floating."""
        if not value.is_floating_point() and not value.is_complex():
            self._given[node] = value

    def value_of(self, node: fx.Node) -> Tensor | None:
        """Compute a node for the example; None where it depends on floating inputs, or on chance."""
        values: dict[fx.Node, Any] = {}
        needed = sources_of(node)
        for one in (n for n in node.graph.nodes if n in needed):
            if one.op == "placeholder":
                if one not in self._given:
                    return None
                values[one] = self._given[one]
            elif one.op == "get_attr":
                values[one] = self._constants[str(one.target)]
            elif one.op == "call_function":
                if is_random(one.target, one.args, one.kwargs):
                    return None
                args, kwargs = fx.node.map_arg((one.args, one.kwargs), values.__getitem__)  # pyright: ignore[reportAttributeAccessIssue]
                values[one] = one.target(*args, **kwargs)  # pyright: ignore[reportCallIssue]
        return values[node]

    def without_weights(self, entry: Entry) -> Tensor | None:
        """The same, None also where it is computed with weights of the model, as the choice of a router is."""
        if not entry.symbolic:
            return entry.value
        learned = any(n.op == "get_attr" and bool(n.meta[PATH]) and is_floating(n) for n in sources_of(entry.node))
        return None if learned else self.value_of(entry.node)
