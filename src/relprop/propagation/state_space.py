"""State-space models: which factor of their products is the value, the others being parameters computed from the input.

``h_t = exp(Δ_t A) h_{t−1} + Δ_t B_t x_t``, ``y_t = C_t h_t`` is linear in ``x`` where Δ, B and C count as constants (Jafari et al. 2024). What
gives such a model away, as a loop, in parallel or in chunks, is a decay: the exponential of a step Δ, which is never negative, times
constants. From there the factors are told apart op by op:

* a step or a decay is never the value;
* of two other factors, one that a layer computes from the other, as ``B`` from ``x``, is a parameter; else that one which was multiplied by
  a decay, or by a step of another shape;
* what multiplies a state with broadcasting or as a matrix is the readout ``C``; elementwise products of equal shapes are gates.
"""

import operator
from collections.abc import Collection, Mapping
from enum import IntEnum

from torch import fx

from relprop.graph.nodes import shape_of
from relprop.ops.op import Op, Role
from relprop.ops.table import arguments_of, known_op

_LINEAR = frozenset({Role.SHAPE, Role.SCALE, Role.BIAS, Role.ADD, Role.POOL, Role.SELECT})
"""Roles of ops through which values stay what they are: moved, added up, or scaled by constants."""


class Part(IntEnum):
    """What a value is in a state-space model."""

    OTHER = 0
    STEP = 1  # Δ, and what is computed from it alone
    DECAY = 2  # exp(Δ A), likewise
    SCALED = 3  # x times Δ
    PARAMETER = 4  # Δ B, or anything else times a decay
    STATE = 5  # x times a parameter, summed up over time
    OUTPUT = 6  # a state that was read


_RATES = (Part.STEP, Part.DECAY)


def find_values(graph: fx.Graph, carriers: Collection[fx.Node]) -> dict[fx.Node, str]:
    """Find the products of values and parameters of state-space models; return the argument that is the value, by product."""
    parts = _rates(graph, carriers)
    search = _Search(carriers, parts, {node: i for i, node in enumerate(graph.nodes)})
    if parts:
        for node in graph.nodes:
            if node.op == "call_function" and node in carriers and node not in parts:
                parts[node] = search.part_of(node)
    return search.values


# --- steps and decays ----------------------------------------------------------------------------------------------------------------


def _rates(graph: fx.Graph, carriers: Collection[fx.Node]) -> dict[fx.Node, Part]:
    """All decays, exponentials of sums of steps times constants, and their steps."""
    rates = dict[fx.Node, Part]()
    for node in graph.nodes:
        op = known_op(node) if node.op == "call_function" else None
        if op is not None and op.exponential and node in carriers:
            steps = _steps(node.all_input_nodes[0], carriers)
            rates |= dict.fromkeys(steps, Part.STEP) | ({node: Part.DECAY} if steps else {})
    return rates


def _steps(node: fx.Node, carriers: Collection[fx.Node]) -> set[fx.Node]:
    """The activations that are never negative from which alone a value comes, by ops that are linear, or clip; none where it has other sources."""
    found, queue, seen = set[fx.Node](), [node], {node}
    while queue:
        node = queue.pop()
        op = known_op(node) if node.op == "call_function" else None
        parents = [p for p in node.all_input_nodes if p in carriers]
        if op is not None and op.role is Role.ACTIVATION and op.nonnegative == "always":
            found.add(node)
            continue
        one = len(parents) == 1 and op is not None and (op.role is Role.GATE or op.bounded)
        if not parents or not (one or _is_linear(node, op)):
            return set()
        queue += [p for p in parents if p not in seen]
        seen.update(parents)
    return found


def _is_linear(node: fx.Node, op: Op | None) -> bool:
    return node.target is operator.getitem or (op is not None and op.role in _LINEAR)


# --- products ------------------------------------------------------------------------------------------------------------------------


class _Search:
    """Goes through a graph in forward order.

    Attributes:
        values: By product, the argument that is the value.
    """

    def __init__(self, carriers: Collection[fx.Node], parts: Mapping[fx.Node, Part], order: Mapping[fx.Node, int]) -> None:
        self._carriers, self._parts, self._order = carriers, parts, order
        self.values: dict[fx.Node, str] = {}

    def part_of(self, node: fx.Node) -> Part:
        """Say what the result of an op is; note which factor of a product is the value."""
        op = known_op(node)
        factors = {} if op is None else self._factors(node, op)
        if op is None or len(factors) != 2:
            return self._passed_on(node, op)
        names = sorted(factors, key=lambda name: self._part(factors[name]))
        low, high = (factors[name] for name in names)
        value, part = self._product(node, low, high, elementwise=op.linear is None)
        if value is not None:
            self.values[node] = names[0] if value is low else names[1]
        return part

    def _part(self, node: fx.Node) -> Part:
        return self._parts.get(node, Part.OTHER)

    def _factors(self, node: fx.Node, op: Op) -> dict[str, fx.Node]:
        """The factors of a product, elementwise or of matrices, that carry relevance."""
        if op.role is not Role.GATE and not op.pairwise:
            return {}
        arguments = arguments_of(node)
        return {name: n for name in op.data if isinstance(n := arguments.get(name), fx.Node) and n in self._carriers}

    def _passed_on(self, node: fx.Node, op: Op | None) -> Part:
        """What comes out of an op of one value, of a sum, or of one that moves elements: what goes in."""
        parts = [self._part(n) for n in node.all_input_nodes if n in self._carriers]
        linear = _is_linear(node, op) or (op is not None and op.role is Role.GATE)
        if parts and all(part in _RATES for part in parts) and (linear or (op is not None and op.role is Role.ACTIVATION)):
            return max(parts)
        if not linear:
            return Part.OTHER
        if op is not None and op.role is Role.ADD and len(parts) > 1 and Part.PARAMETER in parts:
            return max(Part.STATE, *parts)  # a recurrence
        return max((part for part in parts if part not in _RATES), default=Part.OTHER)

    def _product(self, node: fx.Node, low: fx.Node, high: fx.Node, *, elementwise: bool) -> tuple[fx.Node | None, Part]:
        """Return the factor that is the value, None in a product that has nothing to do with states, and what the product is."""
        if self._part(high) in _RATES:
            low, high = high, low
        if self._part(low) in _RATES:
            return self._rated(node, low, high)
        if self._part(high) in {Part.OTHER, Part.OUTPUT}:
            return None, Part.OTHER
        gate = elementwise and shape_of(low) == shape_of(high)
        if self._part(high) is Part.STATE:
            return (None, Part.OTHER) if gate else (high, Part.OUTPUT)
        made = [value for value, parameter in ((low, high), (high, low)) if self._makes(value, parameter)]
        if gate and not made:
            return None, Part.OTHER
        return (made[0] if made else low if self._part(high) is Part.PARAMETER else high), Part.STATE

    def _rated(self, node: fx.Node, rate: fx.Node, other: fx.Node) -> tuple[fx.Node | None, Part]:
        """The same for a product with a step or a decay."""
        if self._part(other) in _RATES:
            return None, max(self._part(rate), self._part(other))
        grows = self._part(rate) is Part.DECAY or shape_of(node) != shape_of(other)
        return other, max(self._part(other), Part.PARAMETER if grows else Part.SCALED)

    def _makes(self, value: fx.Node, parameter: fx.Node) -> bool:
        """Whether a layer computes a parameter from the value, other than by its steps and decays."""
        root = self._root(value)
        queue, seen = [parameter], {parameter}
        while queue:
            node = queue.pop()
            op = known_op(node) if node.op == "call_function" else None
            if op is not None and op.role in {Role.DENSE, Role.CONV} and self._root(node.all_input_nodes[0]) is root:
                return True
            later = [p for p in node.all_input_nodes if self._order[p] > self._order[root] and self._part(p) not in _RATES]
            queue += [p for p in later if p in self._carriers and p not in seen]
            seen.update(later)
        return False

    def _root(self, node: fx.Node) -> fx.Node:
        """The value that was moved, or scaled by constants, steps and decays."""
        while node.op == "call_function":
            op, parents = known_op(node), [p for p in node.all_input_nodes if p in self._carriers]
            if node in self.values:
                node = arguments_of(node)[self.values[node]]
            elif len(parents) == 1 and (
                node.target is operator.getitem or (op is not None and op.role in {Role.SHAPE, Role.SCALE, Role.GATE})
            ):
                node = parents[0]
            else:
                break
        return node
