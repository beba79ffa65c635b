"""Which dimension of a value holds its channels, as the ops around it tell."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, fx

from relprop.graph.nodes import is_floating, nodes_in, value_of
from relprop.ops.op import Role, op_name
from relprop.ops.table import arguments_of, entry

_ELEMENTWISE = frozenset({Role.ADD, Role.BIAS, Role.GATE, Role.ACTIVATION, Role.SCALE, Role.NORM})


def find_channels(node: fx.Node, *, constants: bool = True) -> int | None:
    """The dimension of a value's channels, as the nearest op tells that has channels: among those that read the value, or that made it.

    Args:
        node: The value.
        constants: Whether a constant that is applied to every position tells too, as a layer scale; a window over time would tell wrongly.
    """
    start = tuple(range(value_of(node).dim()))
    queue, seen = [(node, start)], {node}
    for current, dims in queue:  # dims: by dimension of this value, that of the first value
        neighbors = [*current.users, current]
        told = next((d for op in neighbors if (d := _told(op, current, constants=constants)) is not None), None)
        if told is not None:
            return dims[told]
        for other, moved in _alike(current, dims):
            if other not in seen:
                seen.add(other)
                queue.append((other, moved))
    return None


def _told(op: fx.Node, value: fx.Node, *, constants: bool) -> int | None:
    """The dimension of a value's channels, as an op tells that reads it, or made it."""
    known = entry(op) if op.op == "call_function" else None
    if known is None:
        return None
    arguments, dims = arguments_of(op), value_of(value).dim()
    if known.channels:
        return known.channel_dim(arguments, dims)
    if op_name(op.target) in {"aten::mean", "aten::sum"} and op is not value:
        reduced = {d % dims for d in arguments.get("dim") or range(dims)}
        kept = [d for d in range(1, dims) if d not in reduced]
        return kept[0] if len(kept) == 1 else None
    return _of_constant(op, value, arguments, dims) if constants and known.role in {Role.GATE, Role.ADD} else None


def _of_constant(op: fx.Node, value: fx.Node, arguments: dict[str, Any], dims: int) -> int | None:
    """The only dimension of a constant that an elementwise op applies to every region, as a layer scale."""
    for constant in nodes_in(list(arguments.values())):
        shape = value_of(constant).shape if constant.op == "get_attr" and isinstance(value_of(constant), Tensor) else ()
        wide = [dims - len(shape) + d for d, size in enumerate(shape) if size != 1]
        if len(wide) == 1 and value_of(op).shape == value_of(value).shape:
            return wide[0]
    return None


def _alike(node: fx.Node, dims: Sequence[int]) -> Iterator[tuple[fx.Node, tuple[int, ...]]]:
    """The values that an elementwise op, a permutation or a cut connects with a value, and their dimensions likewise."""
    for op in (*node.users, node):
        known = entry(op) if op.op == "call_function" else None
        others = [op] if op is not node else [n for n in op.all_input_nodes if _is_computed(n)]
        if known is None:
            continue
        if known.order is not None:
            permutation = known.order(arguments_of(op), len(dims))
            for other in others:
                yield other, tuple(dims[d] for d in permutation) if op is not node else _unpermuted(dims, permutation)
        elif known.cuts:
            yield from ((other, tuple(dims)) for other in others)
        elif known.role in _ELEMENTWISE:
            yield from ((other, tuple(dims)) for other in others if _same_shape(other, node))


def _is_computed(node: fx.Node) -> bool:
    return node.op == "call_function" and isinstance(value_of(node), Tensor) and is_floating(node)


def _unpermuted(dims: Sequence[int], permutation: Sequence[int]) -> tuple[int, ...]:
    """The dimensions of a permuted value's source."""
    found = [0] * len(dims)
    for place, source in enumerate(permutation):
        found[source] = dims[place]
    return tuple(found)


def _same_shape(a: fx.Node, b: fx.Node) -> bool:
    values = value_of(a), value_of(b)
    return all(isinstance(v, Tensor) for v in values) and values[0].shape == values[1].shape
