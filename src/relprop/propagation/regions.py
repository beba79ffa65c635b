"""Where the regions are: the value at which evidence is counted by region, and which of its dimensions holds the channels."""

import math
import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor, fx

from relprop.errors import OptionError, UnsupportedOpError, suggestion
from relprop.graph.channels import find_channels
from relprop.graph.facts import Facts
from relprop.graph.nodes import OUTPUTS, PATH, Size, is_floating, module_outputs, nodes_in, shape_of, value_of, values_read
from relprop.ops.op import Role, op_name
from relprop.propagation.composite import Regional
from relprop.propagation.extents import find_extents
from relprop.propagation.roles import Roles


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
    def width(self) -> int:
        """How many channels there are."""
        return value_of(self.node).shape[self.channels]

    @property
    def grid(self) -> tuple[int, ...]:
        """The sizes of the dimensions behind those of batch and channels, in layouts with the channels first."""
        return tuple(value_of(self.node).shape[2:]) if self.channels == 1 else ()

    @property
    def where(self) -> str:
        """The value in words, for notes."""
        paths = self.node.meta.get(OUTPUTS) or ()
        return f"the output of module {min(paths, key=len)!r}" if paths else _described(self.node)


def _described(node: fx.Node) -> str:
    return f"{op_name(node.target).removeprefix('aten::')} in {node.meta.get(PATH) or 'the model itself'}"


def find_regions(method: str, settings: Regional, roles: Roles, facts: Facts) -> Regions:
    """Find the value at which evidence is counted by region, among those through which all relevance passes.

    Args:
        method: The method's name, for errors.
        settings: Where the value is to be. Without attention, that is the last value with several regions before the last layer, or one
            that is some blocks further back: another value through which all relevance passes, with weighted layers in between. Where
            no number of blocks is given it is one, or where the convolutions of a grid carry relevance from a region to any other, as many
            as lead to the first value of that grid. It may be the value before the pools that lead to it.
        roles: The roles of the graph's ops.
        facts: The analysis of its values.

    Raises:
        UnsupportedOpError: There is no such value.
        OptionError: The module does not exist, or its output is no such value.
    """
    walk = _Walk.of(roles, facts)
    if settings.layer is not None:
        return _chosen(method, roles, facts, walk.passed, settings.layer)
    attention = [node for node, kind in roles.kinds.items() if kind is Role.ATTENTION]
    last = walk.last(attention, settings.depth)
    if last is not None and attention:
        return last
    if last is not None:
        found = walk.usual(last) if settings.blocks is None else walk.back(settings.blocks, last)
        return walk.unpooled(found) if settings.unpooled else found
    raise UnsupportedOpError(
        f"Method {method!r} counts evidence by region, and no value of this model that all relevance passes has several positions or tokens "
        "before the last layer; take rap with start=signed, which needs none."
    )


_LINEAR = frozenset({Role.OUTPUT, Role.POOL, Role.NORM, Role.BIAS, Role.SCALE, Role.SHAPE, Role.BLOCK})
"""The ops of a linear head, in which a norm counts as a multiplication by constants."""


def find_tested(settings: Regional, regions: Regions, roles: Roles, facts: Facts) -> Regions:
    """Find the value at which evidence is tested: the last one with regions if one layer alone, and nothing that cuts, lies behind it.

    There the evidence of a region is exact, and costs little for any class. Elsewhere it is tested where it is counted.
    """
    if not settings.rule.tests or settings.rule.reads_value or Role.ATTENTION in roles.kinds.values():
        return regions  # behind the last attention the class token has all evidence
    walk = _Walk.of(roles, facts)
    last = walk.last()
    if last is None or walk.order[last.node] <= walk.order[regions.node]:
        return regions
    behind = [roles.of(node) for node in roles.kinds if walk.order[node] > walk.order[last.node]]
    return last if behind.count(Role.OUTPUT) == 1 and _LINEAR.issuperset(behind) else regions


def reads_flattened(roles: Roles, facts: Facts) -> bool:
    """Whether a hidden dense layer reads every place of every channel of the last value with regions, as in VGG."""
    walk = _Walk.of(roles, facts)
    last = walk.last()
    if last is None:
        return False
    dense = [node for node, kind in roles.kinds.items() if kind is Role.DENSE and walk.order[node] > walk.order[last.node]]
    channels = value_of(last.node).shape[last.channels]
    return len(dense) > 1 and any(value_of(n).shape[-1] > channels for n in values_read(dense[0]) if n in facts.carriers)


def _bottlenecks(roles: Roles, facts: Facts) -> Iterator[fx.Node]:
    """The values through which all relevance passes, from the output back: whenever only one value waits for its readers."""
    waiting = {roles.output}
    for node in reversed(roles.graph.nodes):
        if node in waiting:
            if len(waiting) == 1:
                yield node
            waiting.remove(node)
            waiting.update(n for n in values_read(node) if n in facts.carriers)


@dataclass(frozen=True)
class _Walk:
    """The values with regions through which all relevance passes, from the last one back."""

    order: Mapping[fx.Node, int]
    passed: Sequence[fx.Node]
    roles: Roles
    facts: Facts

    @classmethod
    def of(cls, roles: Roles, facts: Facts) -> Self:
        """The values of a graph."""
        return cls({node: i for i, node in enumerate(roles.graph.nodes)}, list(_bottlenecks(roles, facts)), roles, facts)

    def last(self, attention: Sequence[fx.Node] = (), depth: float = 0.0) -> Regions | None:
        """The last one before the last layers, or before the attention layer at ``depth``."""
        return self._last_before(self.order[_end(self.roles, attention, depth)])

    def back(self, blocks: int, last: Regions) -> Regions:
        """A value so many blocks before another, or as many as there are."""
        for _ in range(blocks):
            before = self._before(last)
            if before is None:
                break
            last = before
        return last

    def usual(self, last: Regions) -> Regions:
        """The value one block before another; or the first one of its grid, if relevance of a region could reach any other."""
        found, extents = self.back(1, last), find_extents(self.roles, self.facts)
        extent = extents[found.node]
        if not found.grid or extent.reach < max(found.grid):
            return found
        while (before := self._before(found)) is not None and extents[before.node].strides == extent.strides:
            found = before
        return found

    def unpooled(self, pooled: Regions) -> Regions:
        """The value before the pools that lead to another, which read all of its places; that one itself where there are none."""
        found = pooled
        while self._pools(found.node) and (before := self._last_before(self.order[found.node])) is not None:
            found = before
        return found

    def _pools(self, node: fx.Node) -> bool:
        """Whether a value is made by a pool, indices of maxima beside it or not."""
        made = nodes_in(node.args)[0] if node.target is operator.getitem else node
        return self.roles.kinds.get(made) in {Role.POOL, Role.SELECT}

    def _before(self, last: Regions) -> Regions | None:
        weighted = (self.order[node] for node, kind in self.roles.kinds.items() if kind in {Role.CONV, Role.DENSE})
        return self._last_before(max((place for place in weighted if place <= self.order[last.node]), default=0))

    def _last_before(self, end: int) -> Regions | None:
        candidates = (_as_regions(node, self.roles, self.facts) for node in self.passed if self.order[node] < end)
        return next((found for found in candidates if found is not None), None)


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
    channels = find_channels(node)
    if channels is None or channels == facts.layouts[node].dim:
        return None
    sizes = [n.per_sample if isinstance(n, Size) else n for d, n in enumerate(shape_of(node)) if d != channels]
    count = math.prod(sizes)
    return Regions(node, channels, count) if count > 1 else None
