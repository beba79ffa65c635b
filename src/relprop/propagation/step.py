"""One op of a plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from relprop.ops.layout import SampleLayout
from relprop.ops.op import BackwardFunction, MultiplierRule, Op, Role


@dataclass(frozen=True)
class Step:
    """One op of the plan, in the order of the forward pass.

    Attributes:
        node: The op's name in the graph.
        path: The path of the module that it belongs to.
        op: The op, such as ``aten::conv2d``.
        role: Its role.
        rule: The rule's name; empty where no relevance arrives.
        shape: The shape of its output for a batch of one, ``B`` standing for multiples of the batch in print.
        backward: The rule, or None where no relevance arrives.
        arguments: Arguments by schema name, nodes standing for values.
        operands: Arguments that take relevance.
        needs: Arguments, and ``"output"``, whose values the rule reads.
        nonnegative: Arguments that cannot be negative.
        entry: What is known of the op; None where the table has no entry.
        layout: Layout of the samples in the output.
        layouts: Layout of the samples in each tensor argument.
        multiplier: How the rule turns the output's multiplier into those of the operands, where it can; see :mod:`relprop.propagation.multipliers`.
        multiplier_needs: The values that this reads, like ``needs``.
    """

    node: fx.Node
    path: str
    op: str
    role: Role
    rule: str
    shape: tuple[str, ...]
    backward: BackwardFunction | None
    arguments: Mapping[str, Any]
    operands: tuple[str, ...]
    needs: frozenset[str]
    nonnegative: frozenset[str]
    entry: Op | None
    layout: SampleLayout
    layouts: Mapping[str, SampleLayout]
    multiplier: MultiplierRule | None
    multiplier_needs: frozenset[str]
