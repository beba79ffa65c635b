"""Relevance per unit: what one rule multiplies by a value, the next would divide by it again; so it is carried without.

Where every operand takes relevance in proportion to its signed value, as in LRP-0, a value ``x`` has the relevance ``x c``, and the rule of
the op that made it asks for ``c`` alone (Montavon et al. 2019 call it so; LXT builds on it as a modified gradient). The plan marks the
values whose relevance is carried as ``c``: all ops that read them, and the op that made them, understand it.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from torch import Tensor, fx

from relprop.graph.nodes import nodes_in
from relprop.ops.op import ABSORBED, BackwardFunction, Call, Relevances
from relprop.propagation.step import Step
from relprop.rules.kernel import divide_signed


def carried_as_multipliers(
    steps: Sequence[Step], carriers: Collection[fx.Node], *, whole: Collection[fx.Node]
) -> frozenset[fx.Node]:
    """The values whose relevance is carried per unit, among those that relevance reaches; never that of the values in ``whole``."""
    readers = dict[fx.Node, list[Step]]()
    for step in steps:
        for value in _operands(step, carriers):
            readers.setdefault(value, []).append(step)
    found = {
        s.node for s in steps if s.multiplier and s.node not in whole and all(r.multiplier for r in readers.get(s.node, [s]))
    }
    throughout = [s for s in steps if s.multiplier and s.multiplier.throughout]
    while True:  # such an op needs it on both sides
        both = [{s.node, *_operands(s, carriers)} for s in throughout]
        wrong = set[fx.Node]().union(*(nodes & found for nodes in both if not nodes <= found))
        if not wrong:
            return frozenset(found)
        found -= wrong


def _operands(step: Step, carriers: Collection[fx.Node]) -> list[fx.Node]:
    return [node for name in step.operands for node in nodes_in(step.arguments[name]) if node in carriers]


def with_multipliers(step: Step, multiplier: Collection[fx.Node]) -> Step:
    """Return a step that takes its output's relevance per unit where it is carried so, and hands it on per unit where it is to be."""
    names = [name for name in step.operands if isinstance(value := step.arguments[name], fx.Node) and value in multiplier]
    comes = step.node in multiplier
    if step.multiplier is None or not (comes or names):
        return step
    needs = step.multiplier_needs.union(set(step.operands).difference(names), () if comes else ("output",))
    return replace(step, backward=_converted(step.multiplier.backward, names, comes=comes), needs=needs)


def _converted(relevance_of: BackwardFunction, names: Collection[str], *, comes: bool) -> BackwardFunction:
    """Divide what comes whole by the output, where zeros keep theirs, and multiply what is handed on whole by its operand."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        factor = relevance if comes else divide_signed(relevance, call.output)
        found = dict(relevance_of(call, factor))
        if not comes:
            absorbed = call.layout.sum(relevance, call.batch) - call.layout.dot(factor, call.output, call.batch)
            found[ABSORBED] = found[ABSORBED] + absorbed
        return {name: part if name == ABSORBED or name in names else part * call[name] for name, part in found.items()}

    return backward
