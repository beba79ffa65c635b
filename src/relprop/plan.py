"""The plan: one role and one rule for every op that relevance reaches, printable before anything runs."""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from relprop.analysis import Facts, analyze, arguments_of, known_op
from relprop.errors import UnsupportedOpError
from relprop.graph import PATH
from relprop.methods import Method
from relprop.ops.elementwise import BOUNDED
from relprop.ops.registry import LinearFunction, Op, RelevanceFunction, Role, op_name
from relprop.rules import Rule
from relprop.samples import SampleLayout

_THROUGH = frozenset({Role.SHAPE, Role.SCALE, Role.BIAS})
"""Roles between the input and the first layer, through which a box of input values is carried."""

_TO_OUTPUT = _THROUGH | {Role.POOL, Role.ADD, Role.ACTIVATION, Role.GATE, Role.SELECT}
"""Roles between the last weighted layer and the output."""


@dataclass(frozen=True)
class Step:
    """One op of the plan, in the order of the forward pass.

    Attributes:
        node: The op's name in the graph.
        path: The path of the module that it belongs to.
        op: The op, such as ``aten::conv2d``.
        role: Its role.
        rule: The rule's name; empty where relevance does not come.
        shape: The shape of its output for a batch of one, ``B`` standing for multiples of the batch in print.
        relevance: The rule, or None where relevance does not come.
        arguments: Arguments by schema name, nodes standing for values.
        operands: Arguments that take relevance.
        needs: Arguments, and ``"output"``, whose values the rule reads.
        nonnegative: Arguments that cannot be negative.
        linear: See :class:`relprop.ops.registry.Op`.
        layout: Where the samples lie in the output.
        layouts: Where they lie in each tensor argument.
    """

    node: fx.Node
    path: str
    op: str
    role: Role
    rule: str
    shape: tuple[str, ...]
    relevance: RelevanceFunction | None
    arguments: Mapping[str, Any]
    operands: tuple[str, ...]
    needs: frozenset[str]
    nonnegative: frozenset[str]
    linear: LinearFunction | None
    layout: SampleLayout
    layouts: Mapping[str, SampleLayout]


@dataclass(frozen=True)
class Plan:
    """A method applied to a captured model: what every op will do.

    Attributes:
        module: The normalized graph.
        method: The method.
        steps: One per op, in forward order.
        facts: What is known of the values.
        leaves: Per tensor input, the value at which its relevance is read: the input itself, or the first floating value made from it.
        output: The explained value.
        dynamic: Whether the graph takes any batch size.
        before: The nodes between the input and the first layers, in forward order, through which bounds of the input are carried.
        notes: What the user should know.
    """

    module: fx.GraphModule
    method: Method
    steps: tuple[Step, ...]
    facts: Facts
    leaves: tuple[fx.Node, ...]
    output: fx.Node
    dynamic: bool
    before: tuple[fx.Node, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """Return the table of ops: module path, op, role, rule, shape."""
        rows = [("module", "op", "role", "rule", "output")]
        rows += [(s.path or "·", s.op.removeprefix("aten::"), s.role, s.rule or "–", "×".join(s.shape)) for s in self.steps]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("─" * width for width in widths))
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


def arguments_with(arguments: Mapping[str, Any], chosen: Callable[[fx.Node], bool]) -> tuple[str, ...]:
    """Names of the arguments that are, or in a list contain, a node that ``chosen`` accepts."""

    def has(value: object) -> bool:
        if isinstance(value, list | tuple):
            return any(has(item) for item in value)
        return isinstance(value, fx.Node) and chosen(value)

    return tuple(name for name, value in arguments.items() if has(value))


class _Planner:
    """Refines roles, follows relevance from the output backwards, and binds rules."""

    def __init__(self, module: fx.GraphModule, method: Method, *, dynamic: bool) -> None:
        self.module, self.method = module, method
        self.facts = analyze(module, dynamic=dynamic)
        self.dynamic = dynamic
        self.nodes = [n for n in module.graph.nodes if n.op == "call_function"]
        self.output: fx.Node = next(n for n in module.graph.nodes if n.op == "output").args[0][0]
        self.roles = {n: self._role(n) for n in self.nodes if n in self.facts.active}
        self.kinds = dict(self.roles)

    # --- roles -----------------------------------------------------------------------------------------------------------------

    def _role(self, node: fx.Node) -> Role:
        if node.target is operator.getitem:
            return Role.SHAPE
        op = known_op(node)
        if op is None or not _floating(node):
            return Role.BLOCK
        operands = self._carriers(node, op)
        if op.role is Role.ADD and len(operands) == 1:
            return Role.BIAS
        if op.role is Role.GATE and len(operands) == 1:
            return Role.SCALE
        if op.role is Role.DENSE and len(operands) > 1:
            return Role.ATTENTION if any(self._is_attention_weight(node, name) for name in operands) else Role.PRODUCT
        return op.role

    def _carriers(self, node: fx.Node, op: Op) -> tuple[str, ...]:
        """The arguments of ``node`` that could take relevance: floating, dependent on the input, and meant to by the op."""
        arguments = arguments_of(node)
        active = arguments_with(arguments, lambda n: n in self.facts.active and _floating(n))
        return tuple(name for name in (op.data or tuple(arguments)[:1]) if name in active)

    def _is_attention_weight(self, node: fx.Node, name: str) -> bool:
        """Whether an argument comes from a softmax by ops with one input each."""
        source: Any = arguments_of(node)[name]
        while isinstance(source, fx.Node) and source.op == "call_function":
            if op_name(source.target) in {"aten::softmax", "aten::_softmax"}:
                return True
            parents = [p for p in source.all_input_nodes if p in self.facts.active]
            if len(parents) != 1:
                return False
            source = parents[0]
        return False

    def _gated(self, node: fx.Node, operands: tuple[str, ...]) -> tuple[str, ...]:
        """The operands of a product of two values that are no gates: not bounded, not broadcast."""
        arguments = arguments_of(node)
        a, b = (arguments[name] for name in operands)
        if a is b:
            return operands[:1]
        sizes = [_per_sample(value) for value in (a, b)]
        gates = [self._is_gate(value) for value in (a, b)]
        if gates[0] != gates[1]:
            return (operands[gates.index(False)],)
        if sizes[0] != sizes[1]:
            return (operands[0 if sizes[0] > sizes[1] else 1],)
        return operands

    def _is_gate(self, node: fx.Node) -> bool:
        """Whether a value comes from an activation of limited range, by ops that work on every element or move it."""
        while node.op == "call_function":
            if op_name(node.target) in BOUNDED:
                return True
            parents = [p for p in node.all_input_nodes if p in self.facts.active]
            if len(parents) != 1 or self.roles.get(node) not in {Role.SCALE, Role.BIAS, Role.SHAPE}:
                return False
            node = parents[0]
        return False

    # --- first and last layers ---------------------------------------------------------------------------------------------------

    def _mark_first_layers(self) -> set[fx.Node]:
        """Mark weighted layers that see an input through moves and constants alone; return the nodes before them."""
        before: set[fx.Node] = {n for n in self.module.graph.nodes if n.op == "placeholder" and _floating(n)}
        for node in self.nodes:
            if node not in self.roles:
                continue
            parents = [p for p in node.all_input_nodes if p in self.facts.active]
            if parents and all(p in before for p in parents):
                if self.roles[node] in _THROUGH:
                    before.add(node)
                elif self.roles[node] in {Role.CONV, Role.DENSE}:
                    self.roles[node] = Role.INPUT
        return before

    def _mark_last_layers(self) -> None:
        """Mark the weighted layers from which relevance-carrying paths lead to the output without another one."""
        queue, seen = [self.output], {self.output}
        while queue:
            node = queue.pop()
            role = self.roles.get(node)
            if role in {Role.CONV, Role.DENSE, Role.INPUT}:
                self.roles[node] = Role.OUTPUT
            elif role in _TO_OUTPUT:
                arguments = arguments_of(node)
                for name in self._operands(node):
                    parents = [p for p in _nodes_in(arguments[name]) if p in self.facts.active and p not in seen]
                    seen.update(parents)
                    queue.extend(parents)

    # --- flow ----------------------------------------------------------------------------------------------------------------------

    def _operands(self, node: fx.Node) -> tuple[str, ...]:
        if node.target is operator.getitem:
            return ("self",)
        op, role = known_op(node), self.roles[node]
        if op is None:  # followed further back all the same, so that every unknown op is listed at once
            return arguments_with(arguments_of(node), lambda n: n in self.facts.active and _floating(n))
        operands = self._carriers(node, op)
        if role is Role.GATE:
            return self._gated(node, operands)
        if role is Role.ATTENTION:
            values = tuple(name for name in operands if not self._is_attention_weight(node, name))
            return values or operands[-1:]
        if op.linear is not None and role is not Role.PRODUCT:
            return operands[:1]
        return operands

    def _step(self, node: fx.Node, *, reached: bool) -> Step:
        arguments, role = arguments_of(node), self.roles.get(node, Role.BLOCK)
        op = known_op(node)
        rule = (
            self.method.rule(role, self.kinds.get(node, role), op_name(node.target), str(node.meta.get(PATH, "")))
            if reached and op is not None
            else None
        )
        relevance = rule.relevance if rule else op.relevance if reached and op is not None else None
        operands = self._operands(node) if reached else ()
        if rule is not None and rule.all_operands and op is not None:
            operands = self._carriers(node, op)
        needs = set(op.needs) if op is not None and (op.linear or op.relevance) else set[str]()
        if rule is not None:
            needs |= set(rule.needs)
        if "x" in needs:
            needs = (needs - {"x"}) | set(operands)
        moves = rule is None and op is not None and op.relevance is not None
        return Step(
            node=node,
            path=str(node.meta.get(PATH, "")),
            op=op_name(node.target),
            role=role,
            rule=_rule_name(role, rule, moves=moves) if reached else "",
            shape=_printed_shape(node),
            relevance=relevance,
            arguments=arguments,
            operands=operands,
            needs=frozenset(needs) if reached else frozenset(),
            nonnegative=frozenset(n for n in arguments if self._nonnegative(arguments[n])),
            linear=op.linear if op else None,
            layout=self.facts.layouts.get(node, SampleLayout(None)),
            layouts={
                k: self.facts.layouts[v] for k, v in arguments.items() if isinstance(v, fx.Node) and v in self.facts.layouts
            },
        )

    def _nonnegative(self, value: object) -> bool:
        return isinstance(value, fx.Node) and value in self.facts.nonnegative

    def plan(self, notes: Iterable[str]) -> Plan:
        before = self._mark_first_layers()
        self._mark_last_layers()
        reached, steps = {self.output}, dict[fx.Node, Step]()
        for node in reversed(self.nodes):
            active = node in reached and node in self.roles
            steps[node] = self._step(node, reached=active)
            for name in steps[node].operands:
                reached.update(n for n in _nodes_in(steps[node].arguments[name]) if n in self.facts.active)
        ordered = tuple(steps[n] for n in self.nodes)
        layers = [s.path for s in ordered if s.node in reached and self.kinds.get(s.node) in {Role.CONV, Role.DENSE}]
        self.method.check_matches([s.op for s in ordered if s.node in reached], layers)
        leaves, leaf_notes = _leaves(self.module.graph, reached)
        _refuse_unsupported(ordered, reached, leaves, self.dynamic)
        carriers = tuple(n for n in self.module.graph.nodes if n in before)
        return Plan(
            self.module, self.method, ordered, self.facts, leaves, self.output, self.dynamic, carriers, (*notes, *leaf_notes)
        )


def _rule_name(role: Role, rule: Rule | None, *, moves: bool) -> str:
    if rule is not None:
        return rule.name
    return "move" if role is Role.SHAPE else "winner" if moves else ""


def _nodes_in(value: object) -> list[fx.Node]:
    if isinstance(value, list | tuple):
        return [n for item in value for n in _nodes_in(item)]
    return [value] if isinstance(value, fx.Node) else []


def _floating(node: fx.Node) -> bool:
    value = node.meta.get("val")
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, Tensor) and first.is_floating_point()


def _per_sample(node: fx.Node) -> int:
    """Number of elements, with a batch of one."""
    total = 1
    for size in node.meta["val"].shape:
        total *= size if isinstance(size, int) else _coefficient(size)
    return total


def _coefficient(size: torch.SymInt) -> int:
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


def _printed_shape(node: fx.Node) -> tuple[str, ...]:
    value = node.meta.get("val")
    if isinstance(value, list | tuple) and value:
        value = value[0]
    if not isinstance(value, Tensor):
        return ()

    def name(size: int | torch.SymInt) -> str:
        if isinstance(size, int):
            return str(size)
        factor = _coefficient(size)
        return "B" if factor == 1 else f"{factor}B"

    return tuple(name(size) for size in value.shape)


def _leaves(graph: fx.Graph, reached: set[fx.Node]) -> tuple[tuple[fx.Node, ...], list[str]]:
    leaves, notes = [], []
    for node in graph.nodes:
        if node.op != "placeholder" or not isinstance(node.meta.get("val"), Tensor):
            continue
        if _floating(node):
            leaves.append(node)
            continue
        made = next((n for n in graph.nodes if n in reached and _floating(n) and node in n.all_input_nodes), None)
        leaves.append(made if made is not None else node)
        where = (
            f"at {made.meta.get(PATH) or made.name!r}, the first floating value made from it" if made is not None else "nowhere"
        )
        notes.append(f"Input {node.name!r} is not floating point; its relevance is read {where}.")
    return tuple(leaves), notes


def _refuse_unsupported(steps: tuple[Step, ...], reached: set[fx.Node], leaves: tuple[fx.Node, ...], dynamic: bool) -> None:
    """Refuse ops that relevance reaches and that have no rule, all of them in one message."""
    lacking = [
        s
        for s in steps
        if s.node in reached
        and s.relevance is None
        and s.node not in leaves
        and s.node.target is not operator.getitem
        and s.node in s.node.graph.nodes
    ]
    lacking = [s for s in lacking if _floating(s.node)]
    if lacking:
        listed = ", ".join(f"{s.op} (in {s.path or 'the model itself'})" for s in lacking)
        raise UnsupportedOpError(
            f"No rule for {len(lacking)} op{'s' if len(lacking) > 1 else ''} that relevance reaches: {listed}; "
            "teach it with relprop.register_op(name, relevance=…)."
        )
    batch_norm = [s for s in steps if s.node in reached and s.op == "aten::batch_norm" and s.arguments["training"]]
    mixed = [s for s in steps if dynamic and s.node in reached and s.layout.dim is None]
    if batch_norm or mixed:
        listed = ", ".join(f"{s.op} (in {s.path or 'the model itself'})" for s in [*batch_norm, *mixed])
        raise UnsupportedOpError(f"These ops mix the samples of a batch, so no sample has a relevance of its own: {listed}.")


def make_plan(module: fx.GraphModule, method: Method, *, dynamic: bool, notes: Iterable[str] = ()) -> Plan:
    """Give every op of a normalized graph its role and rule.

    Raises:
        UnsupportedOpError: Relevance reaches ops that have no rule; all are listed.
    """
    return _Planner(module, method, dynamic=dynamic).plan(notes)
