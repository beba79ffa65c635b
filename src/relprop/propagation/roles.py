"""Roles: what every op of a graph does with relevance, and which of its arguments are operands."""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from relprop.graph.facts import find_carriers, from_softmax
from relprop.graph.nodes import explained, for_one, is_floating, nodes_in, shape_of, tensor_inputs
from relprop.graph.passes.constants import depends_on_input
from relprop.ops.op import AFFINE, Op, Role
from relprop.ops.table import arguments_of, entry, known_op
from relprop.propagation.state_space import find_values

_THROUGH = frozenset({Role.SHAPE, Role.SCALE, Role.BIAS})
"""Roles of ops between the input and the first layer, through which the input's bounds are computed."""

_TO_OUTPUT = _THROUGH | {Role.POOL, Role.ADD, Role.ACTIVATION, Role.GATE, Role.STATE, Role.SELECT, Role.REDUCE}
"""Roles of ops between the last weighted layer and the output."""


class Roles:
    """The roles of a graph's ops.

    Attributes:
        output: The explained value.
        kinds: The role of every op that can carry relevance.
        unknown: Those among them without an entry in the table of ops.
        refined: The roles, with the first and the last layers marked as such.
        before: The nodes between the input and the first layers, in forward order, through which the input's bounds are computed.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self.graph, self.output = graph, explained(graph)
        self._active, self._carriers = depends_on_input(graph), find_carriers(graph)
        self._values_of_states = find_values(graph, self._carriers)
        self.kinds = {n: self._kind(n) for n in graph.nodes if n.op == "call_function" and n in self._carriers}
        self.unknown = {n for n in self.kinds if n.target is not operator.getitem and known_op(n) is None}
        self.refined = dict(self.kinds)
        self.before = self._mark_first_layers()
        self._mark_last_layers()

    def of(self, node: fx.Node) -> Role:
        """The role of any op; one that cannot carry relevance blocks it."""
        return self.refined.get(node, Role.BLOCK)

    def multiplies(self, node: fx.Node) -> bool:
        """Whether an op multiplies several floating values that depend on the input, also where only one of them carries relevance."""
        values = [n for n in nodes_in((*node.args, *node.kwargs.values())) if n in self._active and is_floating(n)]
        return len(values) > 1 and self.kinds.get(node) in AFFINE | {Role.SCALE, Role.GATE, Role.STATE}

    def _kind(self, node: fx.Node) -> Role:
        if node.target is operator.getitem:
            return Role.SHAPE
        op = known_op(node)
        if op is None:
            return Role.BLOCK
        return self._kind_of_states(node, op) or self._kind_by_operands(node, op)

    def _kind_of_states(self, node: fx.Node, op: Op) -> Role | None:
        """The role of products with the parameters of a state-space model."""
        if node not in self._values_of_states:
            return None
        return Role.STATE if op.linear is None else Role.READOUT

    def _kind_by_operands(self, node: fx.Node, op: Op) -> Role:
        operands = self.carriers(node, op)
        if op.role is Role.ADD and len(operands) == 1:
            return Role.BIAS
        if op.role is Role.GATE and len(operands) == 1:
            return Role.SCALE
        if op.role is Role.DENSE and len(operands) > 1:
            return Role.PRODUCT if self._values(node, operands) == operands else Role.ATTENTION
        return op.role

    def carriers(self, node: fx.Node, op: Op) -> tuple[str, ...]:
        """The arguments of ``node`` that could be operands: those that carry relevance, among the entry's ``data``."""
        arguments = arguments_of(node)
        carrying = arguments_with(arguments, self._carriers.__contains__)
        found = tuple(name for name in (op.data or tuple(arguments)[:1]) if name in carrying)
        return found[:1] if op.role is Role.SCALE else found

    def operands(self, node: fx.Node) -> tuple[str, ...]:
        """The operands of an op, unless its rule asks for all carriers: the arguments that take relevance."""
        if node.target is operator.getitem or node in self._values_of_states:
            return (self._values_of_states.get(node, "self"),)
        op, role = known_op(node), self.refined[node]
        if op is None:  # relevance is followed further back, so that one error lists all unknown ops
            return arguments_with(arguments_of(node), self._carriers.__contains__)
        operands = self.carriers(node, op)
        if role is Role.GATE:
            return self._gated(node, operands)
        if role is Role.ATTENTION:
            return self._values(node, operands) or operands[-1:]
        if op.linear is not None and role is not Role.PRODUCT:
            return operands[:1]
        return operands

    # --- gates and attention weights ---------------------------------------------------------------------------------------------

    def _values(self, node: fx.Node, operands: tuple[str, ...]) -> tuple[str, ...]:
        """The operands of a product of two values, without attention weights."""
        arguments = arguments_of(node)
        return tuple(name for name in operands if not from_softmax(arguments[name], self._active))

    def _gated(self, node: fx.Node, operands: tuple[str, ...]) -> tuple[str, ...]:
        """The operands of a product of two values, without its gate: the bounded, or else the broadcast one.

        Of two bounded ones the gate is the one that is never negative, as the sigmoid beside the tanh of an LSTM.
        """
        arguments = arguments_of(node)
        a, b = (arguments[name] for name in operands)
        if a is b:
            return operands[:1]
        sizes = [_per_sample(value) for value in (a, b)]
        gates = [self._gate(value) for value in (a, b)]
        for is_gate in ([g is not None for g in gates], [g is not None and g.nonnegative == "always" for g in gates]):
            if is_gate[0] != is_gate[1]:
                return (operands[is_gate.index(False)],)
        if sizes[0] != sizes[1]:
            return (operands[0 if sizes[0] > sizes[1] else 1],)
        return operands

    def _gate(self, node: fx.Node) -> Op | None:
        """The bounded activation from which a value comes through elementwise and shape ops only, if any."""
        while node.op == "call_function":
            op = entry(node)
            if op is not None and op.bounded:
                return op
            parents = [p for p in node.all_input_nodes if p in self._active]
            if len(parents) != 1 or self.kinds.get(node) not in {Role.SCALE, Role.BIAS, Role.SHAPE}:
                return None
            node = parents[0]
        return None

    # --- first and last layers ---------------------------------------------------------------------------------------------------

    def _mark_first_layers(self) -> tuple[fx.Node, ...]:
        """Mark the weighted layers that read an input through shape ops and constants only; return the nodes before them."""
        before = {n: None for n in tensor_inputs(self.graph) if is_floating(n)}
        for node, kind in self.kinds.items():
            parents = [p for p in node.all_input_nodes if p in self._active]
            if parents and all(p in before for p in parents):
                if kind in _THROUGH:
                    before[node] = None
                    if kind is Role.BIAS:  # a constant of the preprocessing takes no relevance
                        self.refined[node] = Role.SCALE
                elif kind in {Role.CONV, Role.DENSE}:
                    self.refined[node] = Role.INPUT
        return tuple(before)

    def _mark_last_layers(self) -> None:
        """Mark the weighted layers from which a path leads to the output without another weighted layer."""
        queue, seen = [self.output], {self.output}
        while queue:
            node = queue.pop()
            role = self.refined.get(node)
            if role in {Role.CONV, Role.DENSE, Role.INPUT}:
                self.refined[node] = Role.OUTPUT
            elif role in _TO_OUTPUT:
                arguments = arguments_of(node)
                for name in self.operands(node):
                    parents = [p for p in nodes_in(arguments[name]) if p in self._carriers and p not in seen]
                    seen.update(parents)
                    queue.extend(parents)


def arguments_with(arguments: Mapping[str, Any], chosen: Callable[[fx.Node], bool]) -> tuple[str, ...]:
    """Names of the arguments that are a node which ``chosen`` accepts, or a list with such a node."""
    return tuple(name for name, value in arguments.items() if any(chosen(node) for node in nodes_in(value)))


def _per_sample(node: fx.Node) -> int:
    """Number of elements for a batch of one."""
    return math.prod(for_one(size) for size in shape_of(node))
