"""Decompose ops without an entry in the table, by our definitions or torch's own, into ops with one."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch._decomp import decomposition_table

from relprop.ops.decompositions import definition_of
from relprop.ops.op import op_name
from relprop.ops.recorded import REWRITTEN
from relprop.ops.table import OPS


def definition(func: Any, args: Sequence[Any]) -> Callable[..., Any] | None:  # noqa: ANN401 - an overload of an op
    """Return the definition of an op without an entry by other ops; None where it stays as it is."""
    name, own = op_name(func), definition_of(func, args)
    if own is not None:
        return own
    if name == "aten::to":
        return func.decompose
    if name in OPS or name in REWRITTEN or f"{name}.{func._overloadname}" in OPS:
        return None
    return _known_definition(func)


@cache
def _known_definition(func: Any) -> Callable[..., Any] | None:  # noqa: ANN401
    if func in decomposition_table:
        return decomposition_table[func]
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")  # pyright: ignore[reportPrivateUsage]
    return func.decompose if composite else None
