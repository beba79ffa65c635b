"""Where the regions are: the value at which evidence is counted by region, and which of its dimensions holds the channels."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from relprop.errors import OptionError, UnsupportedOpError, suggestion
from relprop.graph.facts import Facts
from relprop.graph.nodes import OUTPUTS, PATH, Size, is_floating, module_outputs, nodes_in, shape_of, value_of, values_read
from relprop.ops.op import Role, op_name
from relprop.ops.table import arguments_of, entry
from relprop.propagation.composite import Regional
from relprop.propagation.roles import Roles

_ELEMENTWISE = frozenset({Role.ADD, Role.BIAS, Role.GATE, Role.STATE, Role.ACTIVATION, Role.SCALE, Role.NORM})


@dataclass(frozen=True)
class Regions:
    """A value that is made of regions, through which all relevance passes.

    Attributes:
        node: The value.
        channels: The dimension of its channels.
        count: Regions per sample.
    """

    node: fx.Node
    channels: int
    count: int

    @property
    def note(self) -> str:
        """A sentence for the plan."""
        paths = self.node.meta.get(OUTPUTS) or ()
        where = f"the output of module {min(paths, key=len)!r}" if paths else _described(self.node)
        return f"Evidence is counted in {self.count} regions of {value_of(self.node).shape[self.channels]} channels, at {where}."


def _described(node: fx.Node) -> str:
    return f"{op_name(node.target).removeprefix('aten::')} in {node.meta.get(PATH) or 'the model itself'}"


def find_regions(method: str, settings: Regional, roles: Roles, facts: Facts) -> Regions:
    """Find the value at which evidence is counted by region, among those through which all relevance passes.

    Args:
        method: The method's name, for errors.
        settings: Where the value is to be. Without attention, that is the last value with several regions before the last layer, or one
            that is some blocks further back: another value through which all relevance passes, with weighted layers in between.
        roles: The roles of the graph's ops.
        facts: The analysis of its values.

    Raises:
        UnsupportedOpError: There is no such value.
        OptionError: The module does not exist, or its output is no such value.
    """
    passed = list(_bottlenecks(roles, facts))
    if settings.layer is not None:
        return _chosen(method, roles, facts, passed, settings.layer)
    attention = [node for node, kind in roles.kinds.items() if kind is Role.ATTENTION]
    order = {node: i for i, node in enumerate(roles.graph.nodes)}
    end = order[_end(roles, attention, settings.depth)]
    last = _last_before(end, order, passed, roles, facts)
    if last is not None:
        return last if attention else _further_back(settings.blocks, last, order, passed, roles, facts)
    raise UnsupportedOpError(
        f"Method {method!r} counts evidence by region, and no value of this model that all relevance passes has several positions or tokens "
        "before the last layer; take rap with start=signed, which needs none."
    )


def _bottlenecks(roles: Roles, facts: Facts) -> Iterator[fx.Node]:
    """The values through which all relevance passes, from the output back: whenever only one value waits for its readers."""
    waiting = {roles.output}
    for node in reversed(roles.graph.nodes):
        if node in waiting:
            if len(waiting) == 1:
                yield node
            waiting.remove(node)
            waiting.update(n for n in values_read(node) if n in facts.carriers)


def _last_before(end: int, order: Mapping[fx.Node, int], passed: Sequence[fx.Node], roles: Roles, facts: Facts) -> Regions | None:
    """The last value with regions before a place in the graph."""
    candidates = (_as_regions(node, roles, facts) for node in passed if order[node] < end)
    return next((found for found in candidates if found is not None), None)


def _further_back(
    blocks: int, last: Regions, order: Mapping[fx.Node, int], passed: Sequence[fx.Node], roles: Roles, facts: Facts
) -> Regions:
    """A value with regions so many blocks before another, or as many as there are."""
    weighted = [order[node] for node, kind in roles.kinds.items() if kind in {Role.CONV, Role.DENSE}]
    for _ in range(blocks):
        layer = max((place for place in weighted if place <= order[last.node]), default=0)
        before = _last_before(layer, order, passed, roles, facts)
        if before is None:
            break
        last = before
    return last


def _end(roles: Roles, attention: Sequence[fx.Node], depth: float) -> fx.Node:
    """The op before which the value lies: the attention layer at ``depth``, or the first of the last layers."""
    reached = math.floor(depth * len(attention) + 1e-9)
    if reached < len(attention):
        return attention[reached]
    return next((node for node, role in roles.refined.items() if role is Role.OUTPUT), roles.output)


def _chosen(method: str, roles: Roles, facts: Facts, passed: Collection[fx.Node], layer: str) -> Regions:
    known = module_outputs(roles.graph)
    if layer not in known:
        raise OptionError(f"Method {method!r}: no module {layer!r} with an output of its own.{suggestion(layer, known)}")
    found = _as_regions(known[layer], roles, facts)
    if found is None:
        shape = "×".join("B" if isinstance(n, Size) else str(n) for n in shape_of(known[layer]))
        raise OptionError(f"Method {method!r}: the output of module {layer!r} has no regions that it could tell: it is {shape}.")
    if known[layer] not in passed:
        raise OptionError(
            f"Method {method!r}: relevance also passes beside the output of module {layer!r}; choose another layer."
        )
    return found


def _as_regions(node: fx.Node, roles: Roles, facts: Facts) -> Regions | None:
    """Read a value as regions with channels; None where it has not several regions, or its channels cannot be told."""
    value = value_of(node)
    if roles.kinds.get(node, Role.BLOCK) is Role.BLOCK or not isinstance(value, Tensor) or not is_floating(node):
        return None
    channels = _channels(node, roles)
    if channels is None or channels == facts.layouts[node].dim:
        return None
    sizes = [n.per_sample if isinstance(n, Size) else n for d, n in enumerate(shape_of(node)) if d != channels]
    count = math.prod(sizes)
    return Regions(node, channels, count) if count > 1 else None


def _channels(node: fx.Node, roles: Roles) -> int | None:
    """The dimension of a value's channels, as the nearest op tells that has channels: among those that read the value, or that made it."""
    start = tuple(range(value_of(node).dim()))
    queue, seen = [(node, start)], {node}
    for current, dims in queue:  # dims: by dimension of this value, that of the first value
        neighbors = [*current.users, current]
        told = next((d for op in neighbors if (d := _told(op, current)) is not None), None)
        if told is not None:
            return dims[told]
        for other, moved in _alike(current, dims, roles):
            if other not in seen:
                seen.add(other)
                queue.append((other, moved))
    return None


def _told(op: fx.Node, value: fx.Node) -> int | None:
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
    return _of_constant(op, value, arguments, dims) if known.role in {Role.GATE, Role.ADD} else None


def _of_constant(op: fx.Node, value: fx.Node, arguments: dict[str, Any], dims: int) -> int | None:
    """The only dimension of a constant that an elementwise op applies to every region, as a layer scale."""
    for constant in nodes_in(list(arguments.values())):
        shape = value_of(constant).shape if constant.op == "get_attr" and isinstance(value_of(constant), Tensor) else ()
        wide = [dims - len(shape) + d for d, size in enumerate(shape) if size != 1]
        if len(wide) == 1 and value_of(op).shape == value_of(value).shape:
            return wide[0]
    return None


def _alike(node: fx.Node, dims: Sequence[int], roles: Roles) -> Iterator[tuple[fx.Node, tuple[int, ...]]]:
    """The values that an elementwise op, a permutation or a cut connects with a value, and their dimensions likewise."""
    for op in (*node.users, node):
        known = entry(op) if op.op == "call_function" else None
        others = [op] if op is not node else [n for n in op.all_input_nodes if n in roles.kinds]
        if known is None:
            continue
        if known.order is not None:
            permutation = known.order(arguments_of(op), len(dims))
            for other in others:
                yield other, tuple(dims[d] for d in permutation) if op is not node else _unpermuted(dims, permutation)
        elif known.cuts:
            yield from ((other, tuple(dims)) for other in others)
        elif roles.kinds.get(op) in _ELEMENTWISE:
            yield from ((other, tuple(dims)) for other in others if _same_shape(other, node))


def _unpermuted(dims: Sequence[int], permutation: Sequence[int]) -> tuple[int, ...]:
    """The dimensions of a permuted value's source."""
    found = [0] * len(dims)
    for place, source in enumerate(permutation):
        found[source] = dims[place]
    return tuple(found)


def _same_shape(a: fx.Node, b: fx.Node) -> bool:
    values = value_of(a), value_of(b)
    return all(isinstance(v, Tensor) for v in values) and values[0].shape == values[1].shape
