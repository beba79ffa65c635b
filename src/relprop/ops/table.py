"""The table of ops, how users add one, and look-ups of the entry and the arguments of a node."""

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from relprop.errors import OptionError, suggestion
from relprop.ops.op import (
    AFFINE,
    BackwardFunction,
    GradientFunction,
    LinearFunction,
    Op,
    Role,
    Sign,
    op_name,
    slices_with_broadcasting,
)

OPS: dict[str, Op] = {}
"""Every known op by its qualified name, such as ``"aten::conv2d"``."""


def add_ops(names: Sequence[str], op: Op) -> None:
    """Enter ``op`` under every one of ``names`` of the ATen namespace."""
    OPS.update({f"aten::{name}": op for name in names})


def register_op(  # noqa: PLR0913 - facts by keyword
    name: str,
    backward: BackwardFunction | None = None,
    *,
    role: Role | str | None = None,
    linear: LinearFunction | None = None,
    gradient: GradientFunction | None = None,
    data: tuple[str, ...] | None = None,
    needs: tuple[str, ...] = (),
    nonnegative: Sign = "never",
    bounded: bool = False,
    elementwise: bool = False,
    override: bool = False,
) -> None:
    """Add an op to the table, for example one of a custom kernel; see ``docs/extending.md``.

    Args:
        name: Qualified name as an error or a plan prints it, such as ``"mylib::swish"``; torch must know the op.
        backward: ``(call, relevance) -> {argument name: relevance of that argument}``. None with a role whose rule the method
            chooses, such as ``"activation"`` (pass unchanged) or, with ``linear``, ``"dense"``.
        role: What the op does, one of :class:`Role`; where left out, ``"select"`` for an op with a ``backward`` of its own, which no method
            replaces, and ``"activation"`` for others.
        linear: For ops that are linear in one argument: ``call -> (Linear, bias or None)``.
        gradient: ``(call, c) -> ∂(Σ c y)/∂x`` of an activation, for the rules that read it (absLRP); without it they pass relevance unchanged.
        data: Arguments that can carry relevance; the first tensor argument where left out.
        needs: Arguments whose values ``backward`` reads; ``"output"`` for the result.
        nonnegative: When the output cannot be negative, see :class:`relprop.ops.op.Op`.
        bounded: Whether the output's range is limited, so that it gates what it is multiplied with.
        elementwise: Whether every output depends on the same element of each tensor argument alone, with broadcasting.
        override: Whether the entry may replace one that the table holds.

    Raises:
        OptionError: The role is unknown or needs ``linear``, the name has no namespace, torch has no such op, or the table has it already.
    """
    _check_name(name, override=override)
    for function in (backward, linear, gradient):
        if function is not None and not callable(function):
            wanted = "`backward`, `linear` and `gradient`"
            raise OptionError(f"Op {name!r} needs functions as {wanted}, not {type(function).__name__}.")
    if nonnegative not in {"always", "inherits", "never"} and not callable(nonnegative):
        wanted = "'always', 'inherits', 'never' or a function"
        raise OptionError(f"Op {name!r}: `nonnegative` must be {wanted}, not {nonnegative!r}.")
    try:
        known = Role(role or (Role.SELECT if backward is not None else Role.ACTIVATION))
    except ValueError:
        near = suggestion(str(role), map(str, Role))
        raise OptionError(f"Unknown role {role!r} for op {name!r}.{near} Known roles: {', '.join(Role)}.") from None
    if known in AFFINE and linear is None and backward is None:
        raise OptionError(f"Op {name!r} has the role {known!r} and so needs `linear` or `backward`.")
    OPS[name] = Op(
        known,
        backward,
        linear,
        gradient,
        data or (),
        needs,
        nonnegative=nonnegative,
        bounded=bounded,
        slices=slices_with_broadcasting if elementwise else None,
    )


def _check_name(name: str, *, override: bool) -> None:
    if not isinstance(name, str) or "::" not in name:  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise OptionError(f"Op name {name!r} has no namespace; write it as in 'mylib::swish'.")
    if not exists(name):
        raise OptionError(f"torch has no op {name!r}; define it first, for example with torch.library.custom_op.")
    if name in OPS and not override:
        raise OptionError(f"relprop has an entry for op {name!r} already; say override=True to replace it.")


def exists(name: str) -> bool:
    """Whether torch has an op of a qualified name, with or without an overload."""
    namespace, _, rest = name.partition("::")
    op, _, overload = rest.partition(".")
    packet = getattr(getattr(torch.ops, namespace), op, None)
    return packet is not None and (not overload or overload in packet.overloads())


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """Return all arguments of a call by schema name, with nodes in place of values and defaults filled in."""
    if node.target is operator.getitem:
        return {"self": node.args[0], "index": node.args[1]}
    if getattr(node.target, "_schema", None) is None:
        return {f"arg{i}": a for i, a in enumerate(node.args)}
    filled = dict(_defaults(node.target))
    filled.update(dict(zip(filled, node.args, strict=False)))
    filled.update(node.kwargs)
    return filled


@functools.cache
def _defaults(function: Any) -> Mapping[str, Any]:  # noqa: ANN401 - an op
    """The arguments of an op by schema name, with their defaults; torch makes new objects at every look at its schemas."""
    return {argument.name: argument.default_value for argument in function._schema.arguments}


def known_op(node: fx.Node) -> Op | None:
    """Return the table's entry for a node, by overload first, then by name; None where there is none, or it does not cover the call."""
    op = entry(node)
    return None if op is None or limit_of(node) else op


def limit_of(node: fx.Node) -> str:
    """Return what sets a call apart from those that its op's entry covers; empty where nothing does."""
    op = entry(node)
    if op is not None and any(_is_complex(n) for n in (node, *node.all_input_nodes)):
        return "on complex values"  # a pass writes ops on complex values in real ones, where it can
    return "" if op is None else op.limit(arguments_of(node))


def _is_complex(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_complex()


def entry(node: fx.Node) -> Op | None:
    """Return the table's entry for a node, whether it covers the call or not."""
    name = op_name(node.target)
    return OPS.get(f"{name}.{getattr(node.target, '_overloadname', '')}") or OPS.get(name)
