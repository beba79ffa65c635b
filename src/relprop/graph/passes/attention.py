"""Expand fused attention: scores, softmax, weighted sum of the values."""

import math

import torch
from torch import fx

from relprop.graph.nodes import add_constant, insert, replace, value_of
from relprop.ops.table import arguments_of

aten = torch.ops.aten


def expand_attention(module: fx.GraphModule) -> None:
    """Replace ``scaled_dot_product_attention`` by matmul, softmax, matmul."""
    for node in list(module.graph.nodes):
        if node.target is aten.scaled_dot_product_attention.default:
            replace(node, _expanded(module, node))


def _expanded(module: fx.GraphModule, node: fx.Node) -> fx.Node:
    arguments = arguments_of(node)
    query, key, value, mask = (arguments[name] for name in ("query", "key", "value", "attn_mask"))
    if arguments["enable_gqa"]:
        groups = value_of(query).shape[-3] // value_of(key).shape[-3]
        key, value = (insert(node, aten.repeat_interleave.self_int, v, groups, -3) for v in (key, value))
    scale = arguments["scale"] if arguments["scale"] is not None else 1 / math.sqrt(value_of(query).shape[-1])
    scores = insert(
        node, aten.matmul.default, insert(node, aten.mul.Tensor, query, scale), insert(node, aten.transpose.int, key, -2, -1)
    )
    if arguments["is_causal"]:
        rows, columns = value_of(scores).shape[-2:]
        mask = add_constant(
            module,
            node,
            "causal_mask",
            torch.ones(rows, columns, dtype=torch.bool, device=next(module.buffers(), torch.empty(0)).device).tril(),
        )
    if mask is not None:
        scores = _masked(node, scores, mask)
    weights = insert(node, aten.softmax.int, scores, -1)
    return insert(node, aten.matmul.default, weights, value)


def _masked(node: fx.Node, scores: fx.Node, mask: fx.Node) -> fx.Node:
    if value_of(mask).dtype == torch.bool:
        return insert(node, aten.masked_fill.Scalar, scores, insert(node, aten.logical_not.default, mask), -math.inf)
    return insert(node, aten.add.Tensor, scores, mask)
