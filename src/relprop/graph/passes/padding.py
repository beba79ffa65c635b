"""Padded token numbers: what is looked up is padded in their place, so that a map has the tokens of the input, and no padding of the model's own."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from relprop.graph.nodes import add_constant, insert, replace, shape_of
from relprop.graph.passes.constants import depends_on_input
from relprop.ops.table import arguments_of

aten = torch.ops.aten


def pad_what_is_looked_up(module: fx.GraphModule) -> None:
    """Rewrite ``embedding(pad(numbers))`` as ``where(padding, the padding's row, pad(embedding(numbers)))``."""
    active = depends_on_input(module.graph)
    for node in list(module.graph.nodes):
        if node.target is not aten.embedding.default:
            continue
        weight, padded, *rest = node.args
        if padded in active and padded.target is aten.constant_pad_nd.default and weight.op == "get_attr":
            numbers, pad = padded.args[:2]
            there = _padding(numbers, pad)
            if there is not None:
                row = getattr(module, str(weight.target)).detach()[int(arguments_of(padded)["value"])]
                mask = add_constant(module, node, "padding", there.unsqueeze(-1).to(row.device))
                found = insert(node, aten.embedding.default, weight, numbers, *rest)
                found = insert(node, aten.constant_pad_nd.default, found, [0, 0, *pad])
                replace(node, insert(node, aten.where.self, mask, add_constant(module, node, "row", row), found))


def _padding(numbers: Any, pad: Sequence[int]) -> Tensor | None:  # noqa: ANN401 - an argument of an op
    """Where numbers are padded, the batch as one sample; None where the size of another dimension depends on it, or some are cut off."""
    sizes = shape_of(numbers)[1:]
    static = [size for size in sizes if isinstance(size, int)]
    if len(static) < len(sizes) or len(pad) > 2 * len(sizes) or min(pad) < 0:
        return None
    return torch.nn.functional.pad(torch.zeros([1, *static], dtype=torch.bool), list(pad), value=True)
