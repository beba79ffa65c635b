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
        node: The call in the graph.
        path: The path of the module that it belongs to.
        op: The op, such as ``aten::conv2d``.
        role: Its role.
        rule: The rule's name; empty where no relevance arrives.
        shape: The shape of its output in print; ``B`` stands for the batch.
        backward: The rule, or None where no relevance arrives.
        arguments: Arguments by schema name, with nodes in place of values.
        operands: Names of the arguments that take relevance.
        needs: Names of the arguments, ``"output"`` included, whose values the rule reads.
        nonnegative: Names of the arguments that cannot be negative.
        entry: The op's entry in the table; None where it has none.
        layout: Layout of the samples in the output.
        layouts: Layout of the samples in each tensor argument.
        multiplier: The rule for multipliers, where it has one; see :mod:`relprop.propagation.multipliers`.
        multiplier_needs: Like ``needs``, for that rule.
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
