"""Liveness: a run frees each value at its last use."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import fx

from relprop.propagation.step import Step

Forget = Mapping[fx.Node, Sequence[fx.Node]]
"""By node, the values that are dead once the node has run."""


@dataclass(frozen=True)
class Schedule:
    """When values are freed.

    Attributes:
        forward: By op of the forward pass, the values whose last reader it is and which the backward pass does not need.
        backward: By op of the backward pass, the values whose last reader it is.
    """

    forward: Forget
    backward: Forget


def make_schedule(graph: fx.Graph, steps: Sequence[Step], kept: Collection[fx.Node]) -> Schedule:
    """Find the last use of every value; those in ``kept`` are never freed."""
    needed = {s.node: _needed(s) for s in steps if s.backward}
    readers = {parent: node for node in graph.nodes for parent in node.all_input_nodes}
    held = {*kept, *(value for values in needed.values() for value in values)}
    forward = _grouped({value: reader for value, reader in readers.items() if value not in held})
    first = {value: s.node for s in reversed(steps) for value in needed.get(s.node, ())}
    return Schedule(forward, _grouped({value: node for value, node in first.items() if value not in kept}))


def _needed(step: Step) -> list[fx.Node]:
    """The nodes whose values the backward pass of a step reads."""
    nodes = [step.node] if "output" in step.needs else []
    for name in step.needs - {"output"}:
        value = step.arguments.get(name)
        nodes += [v for v in (value if isinstance(value, list | tuple) else [value]) if isinstance(v, fx.Node)]
    return nodes


def _grouped(last: Mapping[fx.Node, fx.Node]) -> Forget:
    """The values, grouped by their last reader; inputs and constants are never freed."""
    grouped: dict[fx.Node, list[fx.Node]] = {}
    for value, node in last.items():
        if value.op == "call_function":
            grouped.setdefault(node, []).append(value)
    return grouped
