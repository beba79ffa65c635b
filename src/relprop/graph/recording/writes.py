"""Writes in place, made functional: the op that returns the new value, and the way back from a view to the whole."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from relprop.errors import UnsupportedOpError
from relprop.graph.recording.traced import View
from relprop.ops.op import op_name
from relprop.ops.table import entry

aten = torch.ops.aten


def _given(op: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """All arguments of a call by name."""
    given = {a.name: a.default_value for a in op._schema.arguments}
    return given | dict(zip(given, args, strict=False)) | dict(kwargs)


def written(op: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], where: str) -> Tensor:  # noqa: ANN401
    """Return the tensor that an op, called in a module, writes to.

    Raises:
        UnsupportedOpError: There are several.
    """
    given = _given(op, args, kwargs)
    names = [a.name for a in op._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    targets = [given[name] for name in names if isinstance(given[name], Tensor)]
    if len(targets) != 1:
        raise UnsupportedOpError(
            f"{op_name(op)} (in {where}) writes to several tensors at once, which cannot be captured; write to one after the other."
        )
    return targets[0]


def functional(
    op: Any,  # noqa: ANN401
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    where: str,
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the op that computes what another, called in a module, writes, with its arguments.

    Raises:
        UnsupportedOpError: There is none.
    """
    schema = op._schema
    outs = {a.name for a in schema.arguments if a.is_out}
    wanted = [str(a.type) for a in schema.arguments if a.name not in outs]
    name = schema.name.removeprefix("aten::").removesuffix("_")
    packets = [packet for twin in (name, f"{name}_functional") if (packet := getattr(aten, twin, None)) is not None]
    overloads = [getattr(packet, overload) for packet in packets for overload in packet.overloads()]
    for twin in sorted(overloads, key=lambda twin: twin._overloadname != op._overloadname):
        if not twin._schema.is_mutable and [str(a.type) for a in twin._schema.arguments] == wanted:
            return twin, args, {name: value for name, value in kwargs.items() if name not in outs}
    raise UnsupportedOpError(
        f"{op_name(op)} (in {where}) writes in place and has no functional form, so it cannot be captured; write to a new tensor."
    )


def is_view(node: fx.Node) -> bool:
    """Whether an op may return a view of its first argument, or the argument itself."""
    op = entry(node)
    schema: Any = getattr(node.target, "_schema", None)
    aliases = schema is not None and any(r.alias_info is not None for r in schema.returns)
    return node.op == "call_function" and bool(aliases or (op is not None and op.identity == "alias"))


def item_view(op: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, index: int) -> View:  # noqa: ANN401
    """Return one item of the list of views that an op returns (``chunk``, ``split``, ``unbind``) as a view of its own."""
    dim = _given(op, args, kwargs).get("dim", 0)
    if op_name(op) == "aten::unbind":
        return View(aten.select.int, (dim, index), {})
    start = sum(part.shape[dim] for part in result[:index])
    return View(aten.slice.Tensor, (dim, start, start + result[index].shape[dim]), {})


def put_back(view: View, whole: Tensor, part: Tensor, where: str) -> Tensor:
    """Return the whole with its view replaced by ``part``, which a module wrote.

    Raises:
        UnsupportedOpError: The view cannot be written through.
    """
    name = op_name(view.op).removeprefix("aten::")
    back = _BACK.get(name)
    if back is None:
        raise UnsupportedOpError(
            f"A write (in {where}) through the view that aten::{name} returns cannot be captured; write to a copy."
        )
    return back(_given(view.op, (whole, *view.args), view.kwargs), whole, part)


Back = Callable[[Mapping[str, Any], Tensor, Tensor], Tensor]


def _slice(given: Mapping[str, Any], whole: Tensor, part: Tensor) -> Tensor:
    return aten.slice_scatter(whole, part, given["dim"], given["start"], given["end"], given["step"])


def _narrow(given: Mapping[str, Any], whole: Tensor, part: Tensor) -> Tensor:
    return aten.slice_scatter(whole, part, given["dim"], given["start"], given["start"] + given["length"])


def _select(given: Mapping[str, Any], whole: Tensor, part: Tensor) -> Tensor:
    return aten.select_scatter(whole, part, given["dim"], given["index"])


def _diagonal(given: Mapping[str, Any], whole: Tensor, part: Tensor) -> Tensor:
    return aten.diagonal_scatter(whole, part, given["offset"], given["dim1"], given["dim2"])


def _reshape(_: Mapping[str, Any], whole: Tensor, part: Tensor) -> Tensor:
    return part.reshape(whole.shape)


def _permute(given: Mapping[str, Any], whole: Tensor, part: Tensor) -> Tensor:
    order = [d % whole.dim() for d in given["dims"]]
    return part.permute([order.index(d) for d in range(whole.dim())])


def _transpose(given: Mapping[str, Any], _: Tensor, part: Tensor) -> Tensor:
    return part.transpose(given["dim0"], given["dim1"])


def _same(_: Mapping[str, Any], __: Tensor, part: Tensor) -> Tensor:
    return part


_BACK: Mapping[str, Back] = {
    "slice": _slice,
    "narrow": _narrow,
    "select": _select,
    "diagonal": _diagonal,
    "permute": _permute,
    "transpose": _transpose,
    "t": lambda _, __, part: part.t(),
    "view_as_real": lambda _, __, part: torch.view_as_complex(part.contiguous()),
    "view_as_complex": lambda _, __, part: torch.view_as_real(part),
    **dict.fromkeys(
        ["view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "_unsafe_view"], _reshape
    ),
    **dict.fromkeys(["alias", "detach", "contiguous", "expand", "expand_as", "positive", "lift", "lift_fresh"], _same),
}
"""By view, ``(arguments, whole, part) -> whole``: the whole with its view replaced."""
