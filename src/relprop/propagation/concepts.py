"""Concepts: relevance that passes chosen channels or heads of a layer only on its way back (Achtibat et al. 2023, conditional relevance)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from relprop.errors import OptionError, suggestion
from relprop.graph.grids import channel_dim
from relprop.graph.nodes import module_outputs
from relprop.ops.op import Role
from relprop.propagation.plan import Plan
from relprop.propagation.roles import Roles

HEADS = ":heads"
"""The end of a key that names the heads of the attention in a module, such as ``"blocks.5.attn:heads"``."""


@dataclass(frozen=True)
class Restriction:
    """What relevance may pass at one value.

    Attributes:
        dim: The dimension of channels or heads.
        chosen: Their indices.
    """

    dim: int
    chosen: tuple[int, ...]

    def mask(self, like: Tensor) -> Tensor:
        """One at what is chosen, zero elsewhere; broadcasts over the value."""
        flags = torch.zeros(like.shape[self.dim], dtype=like.dtype, device=like.device)
        flags[list(self.chosen)] = 1
        shape = [1] * like.dim()
        shape[self.dim] = -1
        return flags.reshape(shape)


def find_restrictions(plan: Plan, concepts: Mapping[str, Sequence[int]]) -> dict[fx.Node, Restriction]:
    """Resolve ``{module: channels}`` and ``{"module:heads": heads}`` in a plan.

    Raises:
        OptionError: An unknown module, one whose output relevance does not pass or that has no channels, or an index out of range.
    """
    found: dict[fx.Node, Restriction] = {}
    for key, indices in concepts.items():
        node, dim = _heads(plan, key.removesuffix(HEADS)) if key.endswith(HEADS) else _channels(plan, key)
        count = int(node.meta["val"].shape[dim])
        chosen = tuple(_index(key, i, count) for i in indices) if isinstance(indices, list | tuple) else ()
        if not chosen:
            raise OptionError(f"concepts[{key!r}] must be a list of indices, and at least one, not {indices!r}.")
        found[node] = Restriction(dim, chosen)
    return found


def _index(key: str, index: Any, count: int) -> int:  # noqa: ANN401 - users may give anything
    if not isinstance(index, int) or isinstance(index, bool) or not -count <= index < count:
        raise OptionError(f"concepts[{key!r}] has no index {index!r}; there are 0 to {count - 1}.")
    return index % count


def _channels(plan: Plan, path: str) -> tuple[fx.Node, int]:
    """The output of a module, and the dimension of its channels."""
    node = plan.layers.get(path)
    if node is None:
        known = module_outputs(plan.module.graph)
        why = "no relevance passes its output" if path in known else "there is no such module with an output of its own"
        raise OptionError(f"concepts: {path!r}: {why}.{suggestion(path, plan.layers)} explainer.plan lists the modules.")
    return node, channel_dim(plan.model, node)


def _heads(plan: Plan, path: str) -> tuple[fx.Node, int]:
    """The weighted values of the attention in a module, ``(B, heads, N, d)``."""
    roles = Roles(plan.module.graph)
    inside = [
        s.node
        for s in plan.steps
        if roles.kinds.get(s.node) is Role.ATTENTION and (s.path == path or s.path.startswith(f"{path}.")) and s.operands
    ]
    inside = [n for n in inside if n.meta["val"].dim() == 4]
    if len(inside) != 1:
        raise OptionError(f"concepts: {path + HEADS!r}: the module must hold one attention with heads; it holds {len(inside)}.")
    return inside[0], 1
