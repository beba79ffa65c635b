"""Fold BatchNorm into the convolution or dense layer before it."""

import torch
from torch import Tensor, fx

from relprop.graph.nodes import TWIN, add_constant, replace, twin_of, value_of
from relprop.graph.passes.constants import drop_unused
from relprop.ops.table import entry

aten = torch.ops.aten


def fold_batchnorm(module: fx.GraphModule) -> None:
    """Fold every BatchNorm whose input is a convolution or dense layer that nothing else reads."""
    for node in list(module.graph.nodes):
        if node.target is aten.batch_norm.default and _foldable(node):
            _fold(module, node)
    drop_unused(module)


def _foldable(node: fx.Node) -> bool:
    feeder, training, mean = node.args[0], node.args[5], node.args[3]
    constants = [a for a in (*feeder.args[1:3], *node.args[1:5]) if isinstance(a, fx.Node)]  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    return (
        isinstance(feeder, fx.Node)
        and _output_dim(feeder) is not None
        and len(feeder.users) == 1
        and not training
        and mean is not None
        and all(c.op == "get_attr" for c in constants)
    )


def _output_dim(feeder: fx.Node) -> int | None:
    """The dimension of a layer's weight that counts the output channels; None where the op is no such layer."""
    op = entry(feeder)
    return None if op is None else op.weight_outputs


def _fold(module: fx.GraphModule, node: fx.Node) -> None:
    feeder, *norm = node.args[:5]

    def read(argument: object) -> Tensor | None:
        return getattr(module, str(argument.target)) if isinstance(argument, fx.Node) else None

    gamma, beta, mean, variance = (read(a) for a in norm)
    scale = torch.rsqrt(variance + node.args[7])  # pyright: ignore[reportArgumentType, reportOperatorIssue]
    scale = scale if gamma is None else scale * gamma
    weight, bias = read(feeder.args[1]), read(feeder.args[2]) if len(feeder.args) > 2 else None  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    offset = -mean if bias is None else bias - mean  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    offset = offset * scale if beta is None else offset * scale + beta
    transposed = _output_dim(feeder) == 1  # pyright: ignore[reportArgumentType]
    groups = feeder.args[6] if transposed and len(feeder.args) > 6 else 1  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    folded = _scaled(weight, scale, transposed=transposed, groups=groups)  # pyright: ignore[reportArgumentType]
    constants = [add_constant(module, node, name, value) for name, value in (("weight", folded), ("bias", offset))]
    with module.graph.inserting_before(node):
        new = module.graph.call_function(feeder.target, (feeder.args[0], *constants, *feeder.args[3:]), feeder.kwargs)  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues, reportAttributeAccessIssue, reportOptionalMemberAccess]
    new.meta.update({**feeder.meta, "val": value_of(node), TWIN: twin_of(node)})  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess] - the shape stays
    replace(node, new)
    module.graph.erase_node(feeder)  # pyright: ignore[reportArgumentType]


def _scaled(weight: Tensor, scale: Tensor, *, transposed: bool, groups: int) -> Tensor:
    """Scale the output channels of a weight; a transposed convolution has them in dimension 1, counted within each group."""
    if not transposed:
        return weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
    by_group = weight.reshape(groups, -1, *weight.shape[1:]) * scale.reshape(groups, 1, -1, *[1] * (weight.dim() - 2))
    return by_group.reshape(weight.shape)
