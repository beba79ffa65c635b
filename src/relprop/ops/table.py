"""The table of ops, how a user adds one, and what is looked up in it."""

import operator
from collections.abc import Sequence
from typing import Any

from torch import fx

from relprop.errors import OptionError
from relprop.ops.op import AFFINE, BackwardFunction, LinearFunction, Op, Role, op_name

OPS: dict[str, Op] = {}
"""Every known op by its qualified name, such as ``"aten::conv2d"``."""


def add_ops(names: Sequence[str], op: Op) -> None:
    """Enter ``op`` under every one of ``names`` of the ATen namespace."""
    OPS.update({f"aten::{name}": op for name in names})


def register_op(
    name: str,
    backward: BackwardFunction | None = None,
    *,
    role: Role | str = Role.ACTIVATION,
    linear: LinearFunction | None = None,
    data: tuple[str, ...] | None = None,
    needs: tuple[str, ...] = (),
) -> None:
    """Teach relprop an op, for example one of a custom kernel; see ``docs/extending.md``.

    Args:
        name: Qualified name as an error or a plan prints it, such as ``"mylib::swish"``.
        backward: ``(call, relevance) -> {argument name: relevance of that argument}``. None with a role whose rule the method
            chooses, such as ``"activation"`` (pass unchanged) or, with ``linear``, ``"dense"``.
        role: What the op does, one of :class:`Role`.
        linear: For ops that are linear in one argument: ``call -> (Linear, bias or None)``.
        data: Arguments that can carry relevance; the first tensor argument where left out.
        needs: Arguments whose values ``backward`` reads; ``"output"`` for the result.

    Raises:
        OptionError: The role is unknown or needs ``linear``, or the name has no namespace.
    """
    if not isinstance(name, str) or "::" not in name:  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise OptionError(f"Op name {name!r} has no namespace; write it as in 'mylib::swish'.")
    for function in (backward, linear):
        if function is not None and not callable(function):
            raise OptionError(f"Op {name!r} needs functions as `backward` and `linear`, not {type(function).__name__}.")
    try:
        known = Role(role)
    except ValueError:
        raise OptionError(f"Unknown role {role!r} for op {name!r}; known roles: {', '.join(Role)}.") from None
    if known in AFFINE and linear is None and backward is None:
        raise OptionError(f"Op {name!r} has the role {known!r} and so needs `linear` or `backward`.")
    OPS[name] = Op(known, backward, linear, data or (), needs)


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """All arguments of a call by schema name, with nodes in place of values and defaults filled in."""
    if node.target is operator.getitem:
        return {"self": node.args[0], "index": node.args[1]}
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {f"arg{i}": a for i, a in enumerate(node.args)}
    filled = {a.name: a.default_value for a in schema.arguments}
    filled.update(dict(zip(filled, node.args, strict=False)))
    filled.update(node.kwargs)
    return filled


def known_op(node: fx.Node) -> Op | None:
    """The table's entry for a node, by overload first, then by name; None where there is none, or it does not cover the call."""
    op = _entry(node)
    return None if op is None or op.limit(arguments_of(node)) else op


def limit_of(node: fx.Node) -> str:
    """What sets a call apart from those that the table's entry of its op covers; empty where nothing does."""
    op = _entry(node)
    return "" if op is None else op.limit(arguments_of(node))


def _entry(node: fx.Node) -> Op | None:
    name = op_name(node.target)
    return OPS.get(f"{name}.{getattr(node.target, '_overloadname', '')}") or OPS.get(name)
