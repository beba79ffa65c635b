"""The plan: one role and one rule for every op that relevance reaches, printable before anything runs."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from relprop.errors import UnsupportedOpError
from relprop.graph.facts import Facts, analyze
from relprop.graph.lookups import Lookups, find_lookups
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import (
    BATCHES,
    PATH,
    Size,
    for_one,
    is_floating,
    module_outputs,
    nodes_in,
    tensor_inputs,
    twin_of,
    value_of,
)
from relprop.ops.layout import SampleLayout
from relprop.ops.op import MultiplierRule, Op, Role, op_name
from relprop.ops.table import arguments_of, known_op, limit_of
from relprop.propagation.composite import Composite
from relprop.propagation.multipliers import carried_as_multipliers, with_multipliers
from relprop.propagation.regions import Regions, find_regions, find_tested, reads_flattened
from relprop.propagation.roles import Roles
from relprop.propagation.schedule import Schedule, make_schedule
from relprop.propagation.step import Step
from relprop.rules.affine import unchanged
from relprop.rules.discoveries import CHEAP, COSTLY, Directions
from relprop.rules.regional import RegionRule
from relprop.rules.rule import Rule
from relprop.text import draw_table, html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEADER = ("module", "op", "role", "rule", "output")


@dataclass(frozen=True)
class Plan:
    """A method applied to a captured model: the role and the rule of every op.

    Attributes:
        model: The captured model after the method's passes.
        method: The method.
        steps: One per op, in forward order.
        facts: The static analysis of the graph's values.
        leaves: Per tensor input, the value at which its relevance is read: the input itself, or the first floating value computed from it
            where it holds integers and is looked up once.
        output: The explained value.
        before: The nodes between the input and the first layers, in forward order, through which the input's bounds are computed.
        multipliers: The values whose multiplier is carried in place of their relevance, see :mod:`relprop.propagation.multipliers`.
        regions: The value where evidence is counted by region, if it is.
        tested: The value where evidence is tested before, which may be the same.
        notes: Notes for the user.
    """

    model: CapturedModel
    method: Composite
    steps: tuple[Step, ...]
    facts: Facts
    leaves: tuple[fx.Node, ...]
    output: fx.Node
    before: tuple[fx.Node, ...]
    multipliers: frozenset[fx.Node]
    regions: Regions | None
    tested: Regions | None
    notes: tuple[str, ...]

    @property
    def module(self) -> fx.GraphModule:
        """The graph."""
        return self.model.module

    @property
    def region_rule(self) -> RegionRule:
        """How evidence is counted by region."""
        return self.method.regional.rule  # pyright: ignore[reportOptionalMemberAccess]

    @property
    def directions(self) -> Directions:
        """What tells how far evidence spreads where it is tested."""
        return COSTLY if self.tested is self.regions else CHEAP

    @cached_property
    def layers(self) -> Mapping[str, fx.Node]:
        """The values at which relevance can be returned, by the path of the module whose output they are, in forward order."""
        passed = {s.node for s in self.steps if s.operands or s.node in self.leaves}
        return {path: node for path, node in module_outputs(self.module.graph).items() if node in passed}

    @cached_property
    def schedule(self) -> Schedule:
        """When a run frees each value."""
        return make_schedule(self.module.graph, self.steps, {self.output})

    @cached_property
    def inspected_schedule(self) -> Schedule:
        """The schedule of runs that are watched or audited: relevance ``R = x c`` is computed from multipliers, so their values stay."""
        return make_schedule(self.module.graph, self.steps, {self.output, *self.multipliers})

    def __str__(self) -> str:
        """Return the table of ops: module path, op, role, rule, shape."""
        return "\n".join([*draw_table(_HEADER, self._rows), *(f"Note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._rows, [f"Note: {note}" for note in self.notes])

    def plot(self) -> "Figure":
        """Draw which rule shares the relevance of which op, from the input to the output; notebooks show it."""
        from relprop.viz import plot_plan

        return plot_plan([s.path or s.op for s in self.steps], [s.rule for s in self.steps], title=self.method.name)

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        return [(s.path or "·", s.op.removeprefix("aten::"), s.role, s.rule or "–", "×".join(s.shape)) for s in self.steps]


def make_plan(model: CapturedModel, method: Composite) -> Plan:
    """Give every op of a captured model its role and rule, following relevance from the output backwards.

    Raises:
        UnsupportedOpError: Relevance reaches ops that have no rule (all are listed), or no input.
        OptionError: The method has rules for ops or modules that the model lacks.
    """
    module = model.module
    facts = analyze(module, dynamic=model.dynamic)
    roles = Roles(module.graph)
    _refuse_without_path(roles, facts)
    method = method.suited(roles.kinds.values())
    method, regions, tested = _with_regions(method, roles, facts)
    steps, reached = _steps(method, regions, roles, facts)
    ordered = tuple(steps)
    passed = [s for s in ordered if s.node in reached]
    layers = [s.path for s in passed if roles.kinds.get(s.node) in {Role.CONV, Role.DENSE}]
    method.check_matches([s.op for s in passed], layers)
    leaves, notes = _leaves(module.graph, facts, reached)
    _refuse_unsupported([s for s in passed if s.node not in leaves])
    whole = {roles.output, *leaves}
    if regions is not None and tested is not None:
        whole |= {regions.node, tested.node}
        notes.append(_note(regions, tested))
    multipliers = carried_as_multipliers(passed, facts.carriers, whole=whole)
    ordered = tuple(with_multipliers(s, multipliers) for s in ordered)
    return Plan(
        model, method, ordered, facts, leaves, roles.output, roles.before, multipliers, regions, tested, (*model.notes, *notes)
    )


def _with_regions(method: Composite, roles: Roles, facts: Facts) -> tuple[Composite, Regions | None, Regions | None]:
    """The method as it suits the model's last layers, and the values where it counts evidence by region and tests it, if it does."""
    settings = method.regional
    if settings is None:
        return method, None, None
    if settings.flattened is not None and reads_flattened(roles, facts):
        settings = settings.flattened
    method = replace(method, regional=settings, conserves=method.conserves and settings.rule.conserves)
    regions = find_regions(method.name, settings, roles, facts)
    return method, regions, find_tested(settings, regions, roles, facts)


def _note(regions: Regions, tested: Regions) -> str:
    """A sentence on where evidence is counted and tested."""
    where = "" if tested is regions else f", after a test at {tested.where}"
    return f"Evidence is counted in {regions.count} regions of {regions.width} channels, at {regions.where}{where}."


def _steps(method: Composite, regions: Regions | None, roles: Roles, facts: Facts) -> tuple[list[Step], set[fx.Node]]:
    """The steps in forward order, and the values that relevance reaches; those above the regions take the rules that hold there."""
    reached, steps = {roles.output}, list[Step]()
    composite = method.above()
    for node in reversed(roles.graph.nodes):
        if node.op != "call_function":
            continue
        if regions is not None and node is regions.node:
            composite = method
            step = _counted(_step(node, method, roles, facts, reached=True), method.regional.rule)  # pyright: ignore[reportOptionalMemberAccess]
        else:
            step = _step(node, composite, roles, facts, reached=node in reached)
        steps.append(step)
        for name in step.operands:
            reached.update(n for n in nodes_in(step.arguments[name]) if n in facts.carriers)
    return steps[::-1], reached


def _counted(step: Step, rule: RegionRule) -> Step:
    """The step of the value with regions, whose relevance is counted by region before the op's own rule shares it."""
    needs = step.needs | {"output"} if rule.reads_value else step.needs
    return replace(step, rule=f"{rule.name}, {step.rule}", multiplier=None, needs=needs)


def _step(node: fx.Node, method: Composite, roles: Roles, facts: Facts, *, reached: bool) -> Step:
    arguments, role, op = arguments_of(node), roles.of(node), known_op(node)
    name, path = op_name(node.target), str(node.meta.get(PATH, ""))
    rule = method.rule(role, roles.kinds[node], name, path) if reached and op is not None else None
    if reached and op is not None and role is not Role.SHAPE and not is_floating(node):
        rule = unchanged()  # an integer that is looked up takes what its embedding has, whatever it was computed from
    operands = roles.operands(node) if reached else ()
    if rule is not None and rule.all_operands and op is not None:
        operands = roles.carriers(node, op)
    own_needs = op.needs if reached and op is not None and (op.linear or op.backward) else ()
    multiplier = _multiplier_rule(op, rule, operands)

    def needs(*more: str) -> frozenset[str]:
        named = {"x": set(operands), "constants": set(arguments).difference(operands)}
        return frozenset().union(*(named.get(name, {name}) for name in (*own_needs, *more)))

    return Step(
        node=node,
        path=path,
        op=name,
        role=role,
        rule=_rule_name(role, rule, op) if reached else "",
        shape=_printed_shape(node),
        backward=rule.backward if rule else op.backward if reached and op is not None else None,
        arguments=arguments,
        operands=operands,
        needs=needs(*(rule.needs if rule else ())),
        nonnegative=frozenset(k for k, v in arguments.items() if isinstance(v, fx.Node) and v in facts.nonnegative),
        entry=op,
        layout=facts.layouts.get(node, SampleLayout(None)),
        layouts={k: facts.layouts[v] for k, v in arguments.items() if isinstance(v, fx.Node) and v in facts.layouts},
        multiplier=multiplier,
        multiplier_needs=needs(*(multiplier.needs if multiplier else ())),
    )


def _multiplier_rule(op: Op | None, rule: Rule | None, operands: tuple[str, ...]) -> MultiplierRule | None:
    """The multiplier rule of the propagation rule, or of the op where that rule passes relevance unchanged or is the op's own."""
    found = (
        rule.multiplier
        if rule is not None and not rule.passes
        else op.multiplier
        if op is not None and len(operands) == 1
        else None
    )
    return found if found is None or not found.of or set(operands) <= set(found.of) else None


def _rule_name(role: Role, rule: Rule | None, op: Op | None) -> str:
    if rule is not None:
        return rule.name
    if role is Role.SHAPE:
        return "move"
    return "" if op is None or op.backward is None else op.shares or "winner"


def _printed_shape(node: fx.Node) -> tuple[str, ...]:
    values: list[Any] = [v[0] if isinstance(v, list | tuple) and v else v for v in (value_of(node), twin_of(node))]
    if not isinstance(values[0], Tensor):
        return ()

    def name(size: int, other: int) -> str:
        return str(size) if size == other else "B" if size == BATCHES[0] else f"{for_one(Size(size, other))}B"

    return tuple(map(name, values[0].shape, values[1].shape))


def _leaves(graph: fx.Graph, facts: Facts, reached: set[fx.Node]) -> tuple[tuple[fx.Node, ...], list[str]]:
    """The node at which the relevance of every tensor input is read, and notes on inputs that are not floating point."""
    leaves, notes = list[fx.Node](), list[str]()
    lookups = find_lookups(graph)
    for node in tensor_inputs(graph):
        if node in lookups:
            leaves.append(node)
            notes.append(_note_on_lookups(node, lookups[node]))
            continue
        made = node if is_floating(node) else facts.first_made.get(node)
        made = made if made in reached or made is node else None
        leaves.append(made or node)
        if made is not node:
            where = f"at {made.meta.get(PATH) or made.name!r}, the first floating value made from it" if made else "nowhere"
            others = _others_made_from(node, graph, facts)
            rest = f", and {', '.join(map(repr, others))} count as constants" if made and others else ""
            notes.append(f"Input {node.name!r} is not floating point; its relevance is read {where}{rest}.")
    return tuple(leaves), notes


def _note_on_lookups(source: fx.Node, lookups: Lookups) -> str:
    readers = ", ".join(repr(str(node.meta.get(PATH) or node.name)) for node in lookups.readers)
    return (
        f"Input {source.name!r} is not floating point; the relevance of what is looked up of it, by {readers}, is summed over its features "
        "and given to its elements."
    )


def _others_made_from(source: fx.Node, graph: fx.Graph, facts: Facts) -> list[str]:
    """The modules whose floating outputs are computed from an integer input, through integers alone, and carry no relevance."""
    family, found = {source}, list[str]()
    for node in graph.nodes:
        if node.op != "call_function" or family.isdisjoint(node.all_input_nodes) or node in facts.carriers:
            continue
        if is_floating(node):
            found.append(str(node.meta.get(PATH) or node.name))
        else:
            family.add(node)
    return list(dict.fromkeys(found))


def _listed(steps: Sequence[Step]) -> str:
    return ", ".join(f"{f'{s.op} {limit_of(s.node)}'.rstrip()} (in {s.path or 'the model itself'})" for s in steps)


def _refuse_without_path(roles: Roles, facts: Facts) -> None:
    if roles.output not in facts.carriers:
        raise UnsupportedOpError(
            "The output depends on the input by comparisons, integers or detached values alone, so no relevance can reach the input; "
            "explain what the model computes in front of them, such as its logits, by output=… or a module that returns it."
        )


def _refuse_unsupported(steps: Sequence[Step]) -> None:
    """Refuse ops that relevance reaches and that have no rule, or no operand that carries it; one message lists them all."""
    lacking = [s for s in steps if (s.backward is None and s.node.target is not operator.getitem) or not s.operands]
    if lacking:
        raise UnsupportedOpError(
            f"No rule for {len(lacking)} op{'s' if len(lacking) > 1 else ''} that relevance reaches: {_listed(lacking)}; "
            "teach it with relprop.register_op(name, backward=…)."
        )
