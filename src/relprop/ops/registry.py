"""What an op is to relevance propagation, the table of all ops, and how a user adds one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from relprop.errors import OptionError
from relprop.kernel import Linear
from relprop.samples import SampleLayout

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
        box: For the first layer, the bounds of its input where the user fixed them: two tensors that broadcast over ``x``.
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
    box: tuple[Tensor, Tensor] | None = None

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - an argument may be anything
        """Return the argument called ``name``."""
        return self.arguments[name]

    @property
    def x(self) -> Tensor:
        """The operand that carries relevance."""
        return self.arguments[self.data]


RelevanceFunction = Callable[[Call, Any], Relevances]
LinearFunction = Callable[[Call], tuple[Linear, Tensor | None]]


@dataclass(frozen=True)
class PerUnit:
    """How relevance per unit of the output becomes relevance per unit of the operands, where shares are in proportion to their values.

    Attributes:
        relevance: As a relevance function, but for relevance that is divided by the value that it belongs to; what it returns as
            ``ABSORBED`` is not divided.
        needs: Values that it reads: ``"x"`` (the operands), ``"constants"`` (the other arguments), or ``"output"``.
        throughout: Whether it serves only where the relevance of output and operands both is carried per unit.
        of: Operands for which it holds; any where empty.
    """

    relevance: RelevanceFunction
    needs: tuple[str, ...] = ()
    throughout: bool = False
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Op:
    """How one ATen op passes relevance.

    Attributes:
        role: Its default role; the plan refines it (first layer, attention, gate).
        relevance: Fixed way back, for ops on which methods agree (shapes, selections); None where the method's rule decides.
        linear: ``call -> (Linear, bias)`` for ops that are linear in ``call.data``.
        data: Arguments that can carry relevance, in order of preference.
        needs: Names of arguments whose values ``relevance`` or ``linear`` reads, ``"output"`` included.
        limit: ``arguments -> ""`` for calls that the entry covers, else what sets a call apart, such as ``"with accumulate=True"``.
        keeps_sign: ``"always"``: the output is never negative; ``"inherits"``: it is not where no active argument is; ``"never"``.
        per_unit: For ops that move the elements of an operand, or multiply them by constants: what that does to relevance per unit.
    """

    role: Role
    relevance: RelevanceFunction | None = None
    linear: LinearFunction | None = None
    data: tuple[str, ...] = ("self",)
    needs: tuple[str, ...] = ()
    limit: Callable[[Mapping[str, Any]], str] = lambda _: ""
    keeps_sign: str = "never"
    per_unit: PerUnit | None = None


OPS: dict[str, Op] = {}
"""Every known op by its qualified name, such as ``"aten::conv2d"``."""


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


def add_ops(names: Sequence[str], op: Op) -> None:
    """Enter ``op`` under every one of ``names`` of the ATen namespace."""
    OPS.update({f"aten::{name}": op for name in names})


def register_op(
    name: str,
    relevance: RelevanceFunction | None = None,
    *,
    role: Role | str = Role.ACTIVATION,
    linear: LinearFunction | None = None,
    data: tuple[str, ...] | None = None,
    needs: tuple[str, ...] = (),
) -> None:
    """Teach relprop an op, for example one of a custom kernel; see ``docs/extending.md``.

    Args:
        name: Qualified name as an error or a plan prints it, such as ``"mylib::swish"``.
        relevance: ``(call, relevance) -> {argument name: relevance of that argument}``. None with a role whose rule the method
            chooses, such as ``"activation"`` (pass unchanged) or, with ``linear``, ``"dense"``.
        role: What the op does, one of :class:`Role`.
        linear: For ops that are linear in one argument: ``call -> (Linear, bias or None)``.
        data: Arguments that can carry relevance; the first tensor argument where left out.
        needs: Arguments whose values ``relevance`` reads; ``"output"`` for the result.

    Raises:
        OptionError: The role is unknown or needs ``linear``, or the name has no namespace.
    """
    if not isinstance(name, str) or "::" not in name:  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise OptionError(f"Op name {name!r} has no namespace; write it as in 'mylib::swish'.")
    for function in (relevance, linear):
        if function is not None and not callable(function):
            raise OptionError(f"Op {name!r} needs functions as `relevance` and `linear`, not {type(function).__name__}.")
    try:
        known = Role(role)
    except ValueError:
        raise OptionError(f"Unknown role {role!r} for op {name!r}; known roles: {', '.join(Role)}.") from None
    if known in AFFINE and linear is None and relevance is None:
        raise OptionError(f"Op {name!r} has the role {known!r} and so needs `linear` or `relevance`.")
    OPS[name] = Op(known, relevance, linear, data or (), needs)
