"""Multipliers ``c = R / x``: signed rules without a stabilizer divide by the value that the next rule multiplies by.

Between such ops the plan carries ``c`` alone. Where every operand takes relevance in proportion to its signed value, as in LRP-0, a value
``x`` has the relevance ``R = x c``, and the rule of the op that computed it needs ``c`` only (Montavon et al. 2019; LXT computes it as a modified
gradient; DeepLIFT has the name). A value's multiplier is carried where all ops that read the value, and the op that computed it, support it.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx

from relprop.graph.nodes import nodes_in
from relprop.ops.op import ABSORBED, BackwardFunction, Call, Relevances, Role
from relprop.propagation.step import Step
from relprop.rules.kernel import divide_signed


def carried_as_multipliers(
    steps: Sequence[Step], carriers: Collection[fx.Node], *, whole: Collection[fx.Node]
) -> frozenset[fx.Node]:
    """Find the values whose multiplier is carried, among those that relevance reaches; never those in ``whole``."""
    readers = dict[fx.Node, list[Step]]()
    for step in steps:
        for value in _operands(step, carriers):
            readers.setdefault(value, []).append(step)
    found = {
        s.node for s in steps if s.multiplier and s.node not in whole and all(r.multiplier for r in readers.get(s.node, [s]))
    }
    throughout = [s for s in steps if s.multiplier and s.multiplier.throughout]
    while True:  # such an op needs the multipliers of its output and of its operands
        both = [{s.node, *_operands(s, carriers)} for s in throughout]
        wrong = set[fx.Node]().union(*(nodes & found for nodes in both if not nodes <= found))
        if not wrong:
            return frozenset(found)
        found -= wrong


def _operands(step: Step, carriers: Collection[fx.Node]) -> list[fx.Node]:
    return [node for name in step.operands for node in nodes_in(step.arguments[name]) if node in carriers]


def with_multipliers(step: Step, carried: Collection[fx.Node]) -> Step:
    """Return a step that receives the multiplier of its output, and returns those of its operands, where they are ``carried``."""
    names = [name for name in step.operands if isinstance(value := step.arguments[name], fx.Node) and value in carried]
    receives = step.node in carried
    if step.multiplier is None or not (receives or names):
        return step
    needs = step.multiplier_needs.union(set(step.operands).difference(names), () if receives else ("output",))
    return replace(step, backward=_converted(step, step.multiplier.backward, names, receives=receives), needs=needs)


def _converted(step: Step, multipliers_of: BackwardFunction, names: Collection[str], *, receives: bool) -> BackwardFunction:
    """Convert at the borders: ``c = R / z`` on the way in (where ``z = 0`` relevance is absorbed), ``R_i = x_i c_i`` on the way out."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        factor = relevance if receives else divide_signed(relevance, call.output)
        found = dict(multipliers_of(call, factor))
        if not receives:
            absorbed = call.layout.sum(relevance, call.batch) - call.layout.dot(factor, call.output, call.batch)
            found[ABSORBED] = found[ABSORBED] + absorbed
        return {
            name: part if name == ABSORBED or name in names else part * _finite(call[name], step) for name, part in found.items()
        }

    return backward


def _finite(value: Tensor, step: Step) -> Tensor:
    """A summand without −∞, which a mask of attention holds, so that no multiplier of zero makes it undefined."""
    return value.clamp(min=torch.finfo(value.dtype).min) if step.role is Role.BIAS else value
