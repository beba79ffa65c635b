"""How far convolutions carry relevance over the grid on which they work."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, fx

from relprop.graph.facts import Facts
from relprop.graph.nodes import value_of, values_read
from relprop.ops.affine import as_list
from relprop.ops.op import Role
from relprop.ops.table import arguments_of
from relprop.propagation.roles import Roles


class Extent(NamedTuple):
    """What lies before a value.

    Attributes:
        strides: The number of strides: values of as many lie on one grid.
        reach: How many positions the convolutions behind the last of them carry relevance to either side, at most.
    """

    strides: int
    reach: int


def find_extents(roles: Roles, facts: Facts) -> Mapping[fx.Node, Extent]:
    """Find the extent of every value that carries relevance, from the inputs on."""
    found: dict[fx.Node, Extent] = {}
    for node in roles.graph.nodes:
        if node in facts.carriers:
            ways = (_through(node, n, found[n], roles) for n in values_read(node) if n in found)
            # a gate of means over the image has more strides behind it than what it multiplies
            found[node] = max(ways, key=lambda way: (-way.strides, way.reach), default=Extent(0, 0))
    return found


def _through(node: fx.Node, before: fx.Node, extent: Extent, roles: Roles) -> Extent:
    """The extent of a value along the way through one that it is computed from."""
    kind = roles.kinds.get(node)
    if kind is Role.CONV:
        arguments = arguments_of(node)
        sizes = value_of(arguments["weight"]).shape[2:]
        strides, dilations = (as_list(arguments[name], len(sizes)) for name in ("stride", "dilation"))
        if max(strides) > 1:
            return Extent(extent.strides + 1, 0)
        return extent._replace(reach=extent.reach + max((n - 1) * d // 2 for n, d in zip(sizes, dilations, strict=True)))
    return Extent(extent.strides + 1, 0) if kind in {Role.POOL, Role.SELECT} and _coarser(node, before) else extent


def _coarser(node: fx.Node, before: fx.Node) -> bool:
    """Whether a pooled value has far fewer positions along a dimension: fewer than a pooling without a stride leaves."""
    new, old = value_of(node), value_of(before)
    if not (isinstance(new, Tensor) and isinstance(old, Tensor)):
        return False
    return any(5 * few <= 3 * many for few, many in zip(new.shape[2:], old.shape[2:], strict=False))
