"""What an op is to relevance propagation, the table of all ops, and how a user adds one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from relprop.ops.layout import SampleLayout
from relprop.ops.linear import Linear

ABSORBED = "absorbed"
"""Key under which a relevance function returns, per sample, what ended in constants; it is no argument name of any op."""

Relevances = Mapping[str, Any]
"""Relevance by argument name: a tensor, a list with one entry per tensor of a list argument, or ``ABSORBED: (batch,)``."""


class Role(StrEnum):
    """What an op does with relevance; a method chooses one rule per role."""

    INPUT = "input"  # first weighted layer
    OUTPUT = "output"  # last weighted layer
    DENSE = "dense"
    CONV = "conv"
    POOL = "pool"  # average pooling, mean, sum, upsampling: fixed weights
    ATTENTION = "attention"  # softmax weights times values
    PRODUCT = "product"  # two values multiplied and summed, neither of them attention weights
    ADD = "add"
    BIAS = "bias"  # a value plus a constant
    GATE = "gate"  # elementwise product of two values
    NORM = "norm"
    ACTIVATION = "activation"
    SCALE = "scale"  # one contributor: times a constant, casts
    SOFTMAX = "softmax"
    SELECT = "select"  # max pooling, maximum, where: the winner
    SHAPE = "shape"  # moves elements without changing them
    BLOCK = "block"  # lets no relevance through: comparisons, argmax, embedding lookups


AFFINE = frozenset({Role.INPUT, Role.OUTPUT, Role.DENSE, Role.CONV, Role.POOL, Role.ATTENTION, Role.PRODUCT})


@dataclass(frozen=True)
class Call:
    """One run of one op, as its relevance function sees it.

    Attributes:
        arguments: Every argument by its schema name. Tensors whose values the op did not ask to keep are hollow: right shape, no values.
        output: The result, hollow unless the op asked to keep it.
        active: Names of the arguments that depend on the model's input; for list arguments, of the lists with an active entry.
        nonnegative: Names of the arguments that cannot be negative.
        operands: Names of the arguments that take relevance.
        data: The first of them: a layer's input, the values of an attention.
        layout: Where the samples lie in the output.
        layouts: Where the samples lie in every tensor argument.
        batch: Number of samples.
        linear: For ops that are linear in ``x``: ``call -> (Linear, bias or None)``.
        bounds: For the first layer, the bounds of its input where the user fixed them: two tensors that broadcast over ``x``.
    """

    arguments: Mapping[str, Any]
    output: Any
    active: frozenset[str]
    nonnegative: frozenset[str]
    operands: tuple[str, ...]
    data: str
    layout: SampleLayout
    layouts: Mapping[str, SampleLayout]
    batch: int
    linear: "LinearFunction | None" = None
    bounds: tuple[Tensor, Tensor] | None = None

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - an argument may be anything
        """Return the argument called ``name``."""
        return self.arguments[name]

    @property
    def x(self) -> Tensor:
        """The operand that carries relevance."""
        return self.arguments[self.data]


BackwardFunction = Callable[[Call, Any], Relevances]
LinearFunction = Callable[[Call], tuple[Linear, Tensor | None]]


@dataclass(frozen=True)
class MultiplierRule:
    """How relevance per unit of the output becomes relevance per unit of the operands, where shares are in proportion to their values.

    Attributes:
        backward: As a relevance function, but for relevance that is divided by the value that it belongs to; what it returns as
            ``ABSORBED`` is not divided.
        needs: Values that it reads: ``"x"`` (the operands), ``"constants"`` (the other arguments), or ``"output"``.
        throughout: Whether it serves only where the relevance of output and operands both is carried per unit.
        of: Operands for which it holds; any where empty.
    """

    backward: BackwardFunction
    needs: tuple[str, ...] = ()
    throughout: bool = False
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Op:
    """How one ATen op passes relevance.

    Attributes:
        role: Its default role; the plan refines it (first layer, attention, gate).
        backward: Fixed way back, for ops on which methods agree (shapes, selections); None where the method's rule decides.
        linear: ``call -> (Linear, bias)`` for ops that are linear in ``call.data``.
        data: Arguments that can carry relevance, in order of preference.
        needs: Names of arguments whose values ``relevance`` or ``linear`` reads, ``"output"`` included.
        limit: ``arguments -> ""`` for calls that the entry covers, else what sets a call apart, such as ``"with accumulate=True"``.
        keeps_sign: ``"always"``: the output is never negative; ``"inherits"``: it is not where no active argument is; ``"never"``.
        multiplier: For ops that move the elements of an operand, or multiply them by constants: what that does to relevance per unit.
    """

    role: Role
    backward: BackwardFunction | None = None
    linear: LinearFunction | None = None
    data: tuple[str, ...] = ("self",)
    needs: tuple[str, ...] = ()
    limit: Callable[[Mapping[str, Any]], str] = lambda _: ""
    keeps_sign: str = "never"
    multiplier: MultiplierRule | None = None


def hollow(value: Any) -> Any:  # noqa: ANN401 - tensors become hollow, anything else stays
    """Return a tensor with the shape, dtype and device of ``value`` and no storage to speak of."""
    if isinstance(value, Tensor):
        return torch.empty_strided(value.shape, (0,) * value.dim(), dtype=value.dtype, device=value.device)
    if isinstance(value, list | tuple):
        return [hollow(item) for item in value]
    return value


def op_name(target: object) -> str:
    """Return the qualified name of an op, without its overload: ``aten::add`` for ``torch.ops.aten.add.Tensor``."""
    schema = getattr(target, "_schema", None)
    return schema.name if schema is not None else getattr(target, "__name__", str(target))
