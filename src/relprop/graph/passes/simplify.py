"""Eliminate identities (dropout, copies, checks), and canonicalize ops: rare forms become the common one."""

import math
import operator
import sys
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import fx

from relprop.graph.nodes import DEVICE, OUTPUTS, insert, replace, shape_of, value_of
from relprop.ops.op import Role
from relprop.ops.table import arguments_of, entry

aten, own = torch.ops.aten, torch.ops.relprop
_CONV = {1: aten.conv1d.default, 2: aten.conv2d.default, 3: aten.conv3d.default}
_CONV_TRANSPOSE = {1: aten.conv_transpose1d.default, 2: aten.conv_transpose2d.input, 3: aten.conv_transpose3d.input}
_SUMS = frozenset({aten.scatter_add.default, aten.index_add.default})
_PUTS = frozenset({aten.index_put.default, aten.index_put.hacked_twin})
_CHECKS = ("_assert", "sym_constrain", "_check")


def drop_identities(module: fx.GraphModule) -> None:
    """Remove identities, and runtime assertions."""
    for node in reversed(list(module.graph.nodes)):
        if node.op != "call_function":
            continue
        if any(sign in str(node.target) for sign in _CHECKS):
            module.graph.erase_node(node)
        elif _is_identity(node) and isinstance(node.args[0], fx.Node):
            replace(node, node.args[0])


def _is_identity(node: fx.Node) -> bool:
    op = entry(node)
    if op is not None and op.identity:
        return value_of(node.args[0]).dtype == value_of(node).dtype and DEVICE not in node.meta
    return node.target is aten.slice.Tensor and _takes_all(arguments_of(node))


def _takes_all(given: Mapping[str, Any]) -> bool:
    """Whether a slice takes the whole dimension, as the first of ``x[:, 0]`` does."""
    size, end = value_of(given["self"]).shape[given["dim"]], given["end"]
    to_the_end = end is None or (isinstance(end, int) and (end == sys.maxsize or (isinstance(size, int) and end >= size)))
    return to_the_end and given["start"] in {None, 0} and given["step"] == 1


def _rewrite_subtraction(node: fx.Node) -> fx.Node | None:
    """``a − αb`` as ``a + (−α)b``: contributions then carry their sign."""
    if node.target is aten.rsub.Scalar:
        x, number, alpha = arguments_of(node).values()
        return insert(node, aten.add.Tensor, insert(node, aten.mul.Tensor, x, -alpha), number)
    if node.target not in {aten.sub.Tensor, aten.rsub.Tensor}:
        return None
    alpha = -node.kwargs.get("alpha", 1)  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    a, b = node.args[:2] if node.target is aten.sub.Tensor else node.args[1::-1]
    if not isinstance(b, fx.Node):
        return insert(node, aten.add.Tensor, a, alpha * b)
    return insert(node, aten.add.Tensor, a, b, alpha=alpha)


def _rewrite_same_convolution(node: fx.Node) -> fx.Node | None:
    """``padding="same"`` as padding in numbers; asymmetric padding becomes an op of its own."""
    op = entry(node)
    if op is None or op.role is not Role.CONV or getattr(node.target, "_overloadname", "") != "padding":
        return None
    x, weight, bias, stride, mode, dilation, groups = arguments_of(node).values()
    dims = value_of(weight).dim() - 2
    dilation = list(dilation) * dims if len(dilation) == 1 else dilation  # pyright: ignore[reportArgumentType]
    totals = [0 if mode == "valid" else d * (k - 1) for d, k in zip(dilation, value_of(weight).shape[2:], strict=True)]  # pyright: ignore[reportArgumentType]
    if any(total % 2 for total in totals):
        x = insert(node, aten.constant_pad_nd.default, x, [end for total in reversed(totals) for end in (0, total % 2)])
    return insert(node, _CONV[dims], x, weight, bias, stride, [total // 2 for total in totals], dilation, groups)


def _rewrite_convolution(node: fx.Node) -> fx.Node | None:
    """``convolution``, as in traced TorchScript models, as the ``conv1d``, ``conv2d``, … of its number of dimensions."""
    if node.target not in {aten.convolution.default, aten._convolution.default}:
        return None
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = list(arguments_of(node).values())[:9]
    dims = value_of(weight).dim() - 2
    if transposed:
        rest = (stride, padding, output_padding, groups, dilation)
        return insert(node, _CONV_TRANSPOSE[dims], x, weight, bias, *rest)
    return insert(node, _CONV[dims], x, weight, bias, stride, padding, dilation, groups)


def _rewrite_pad(node: fx.Node) -> fx.Node | None:
    if node.target is not aten.pad.default:
        return None
    x, pad, mode, value = arguments_of(node).values()
    if mode == "constant":
        return insert(node, aten.constant_pad_nd.default, x, pad, 0.0 if value is None else value)
    if mode == "circular":
        return _circular(node, x, pad)  # pyright: ignore[reportArgumentType]
    if mode not in {"reflect", "replicate"}:
        return None
    kind = "reflection" if mode == "reflect" else "replication"
    return insert(node, getattr(aten, f"{kind}_pad{len(pad) // 2}d").default, x, pad)  # pyright: ignore[reportArgumentType]


def _circular(node: fx.Node, x: fx.Node, pad: list[int]) -> fx.Node:
    """Circular padding as a concatenation with slices of the opposite ends."""
    for axis, (left, right) in enumerate(zip(pad[::2], pad[1::2], strict=True), start=1):
        dim = value_of(x).dim() - axis
        size = value_of(x).shape[dim]
        ends = [insert(node, aten.slice.Tensor, x, dim, size - left, size), x, insert(node, aten.slice.Tensor, x, dim, 0, right)]
        x = insert(node, aten.cat.default, ends, dim)
    return x


def _rewrite_view(node: fx.Node) -> fx.Node | None:
    """``view`` as ``reshape``: without the copies that ``contiguous`` makes, strides may not fit a view."""
    return (
        insert(node, aten.reshape.default, *node.args) if node.target in {aten.view.default, aten._unsafe_view.default} else None
    )


def _rewrite_flat_linear(node: fx.Node) -> fx.Node | None:
    """``reshape(linear(reshape(x)))`` as ``linear(reshape(x))``, where only the rows are flattened and unflattened."""
    if node.target is not aten.reshape.default:
        return None
    linear, shape = cast("tuple[fx.Node, list[Any]]", node.args)
    rows = linear.args[0] if linear.target is aten.linear.default and len(linear.users) == 1 else None
    if not isinstance(rows, fx.Node) or rows.target is not aten.reshape.default or OUTPUTS in linear.meta:
        return None
    if value_of(node).shape[-1] != value_of(linear).shape[-1]:
        return None
    inner = insert(node, aten.reshape.default, rows.args[0], [*shape[:-1], value_of(rows).shape[-1]])
    return insert(node, aten.linear.default, inner, *linear.args[1:])


def _rewrite_accumulation(node: fx.Node) -> fx.Node | None:
    """``scatter_add(x, …)``, ``index_add(x, …)`` and ``index_put(x, …, accumulate=True)`` as ``x + scatter_add(0, …)``."""
    start, *rest = node.args or [None]
    if node.target in _PUTS and arguments_of(node)["accumulate"]:
        summed, rest, kwargs = own.index_put_add.default, rest[:2], {}
    elif node.target in _SUMS and not (isinstance(start, fx.Node) and start.target is aten.zeros_like.default):
        summed, kwargs = node.target, node.kwargs
    else:
        return None
    zeros = insert(node, aten.zeros_like.default, start)
    return insert(node, aten.add.Tensor, start, insert(node, summed, zeros, *rest, **kwargs))


def _rewrite_variance(node: fx.Node) -> fx.Node | None:
    """The variance as ``Σ (x − mean)² / (n − correction)``."""
    if node.target not in {aten.var.correction, aten.var.dim}:
        return None
    given = arguments_of(node)
    x, dims, keepdim = given["self"], given["dim"], given["keepdim"]
    dims = list(range(value_of(x).dim())) if dims is None else list(dims)  # pyright: ignore[reportArgumentType]
    sizes = [size for dim in dims if isinstance(size := shape_of(x)[dim], int)]
    if len(sizes) < len(dims):
        return None
    correction = given.get("correction", int(given.get("unbiased", True)))
    degrees = math.prod(sizes) - (1 if correction is None else correction)
    centered = insert(node, aten.add.Tensor, x, insert(node, aten.mean.dim, x, dims, True), alpha=-1)
    total = insert(node, aten.sum.dim_IntList, insert(node, aten.square.default, centered), dims, keepdim)
    return insert(node, aten.div.Tensor, total, degrees)


def _rewrite_cosine(node: fx.Node) -> fx.Node | None:
    """The cosine as ``Σ (x₁/‖x₁‖)(x₂/‖x₂‖)``."""
    if node.target is not aten.cosine_similarity.default:
        return None
    given = arguments_of(node)
    units = [insert(node, aten.div.Tensor, x, _length(node, x, given)) for x in (given["x1"], given["x2"])]
    return insert(node, aten.sum.dim_IntList, insert(node, aten.mul.Tensor, *units), [given["dim"]])


def _rewrite_inverse_root(node: fx.Node) -> fx.Node | None:
    """``a · rsqrt(b)``, as RMS norms are written by hand, as ``a / √b``: a divisor, and no factor that gates or takes half."""
    if node.target is not aten.mul.Tensor:
        return None
    a, b = node.args[:2]
    roots = [n for n in (a, b) if isinstance(n, fx.Node) and n.target is aten.rsqrt.default]
    if len(roots) != 1:
        return None
    return insert(node, aten.div.Tensor, b if roots[0] is a else a, insert(node, aten.sqrt.default, roots[0].args[0]))


def _length(node: fx.Node, x: fx.Node, given: Mapping[str, Any]) -> fx.Node:
    norm = insert(node, aten.linalg_vector_norm.default, x, 2, [given["dim"]], True)
    return insert(node, aten.clamp_min.default, norm, given["eps"])


def _rewrite_native_batch_norm(node: fx.Node) -> fx.Node | None:
    """The output of ``_native_batch_norm_legit_no_training``, as decompositions leave it, as ``batch_norm``."""
    if node.target is not operator.getitem or node.args[1] != 0:
        return None
    norm = cast("fx.Node", node.args[0])
    if norm.target is not aten._native_batch_norm_legit_no_training.default:
        return None
    *statistics, momentum, epsilon = norm.args
    return insert(node, aten.batch_norm.default, *statistics, False, momentum, epsilon, False)


def _rewrite_copy(node: fx.Node) -> fx.Node | None:
    """``copy(x, source)`` as the source, broadcast to the shape of ``x``, in its dtype."""
    if node.target is not aten.copy.default:
        return None
    x, source = cast("tuple[fx.Node, fx.Node]", node.args[:2])
    if value_of(source).shape != value_of(x).shape:
        source = insert(node, aten.expand_as.default, source, x)
    if value_of(source).dtype != value_of(x).dtype:
        source = insert(node, aten._to_copy.default, source, dtype=value_of(x).dtype)
    return source


_REWRITES = (
    _rewrite_native_batch_norm,
    _rewrite_copy,
    _rewrite_subtraction,
    _rewrite_same_convolution,
    _rewrite_convolution,
    _rewrite_pad,
    _rewrite_view,
    _rewrite_flat_linear,
    _rewrite_accumulation,
    _rewrite_variance,
    _rewrite_cosine,
    _rewrite_inverse_root,
)


def use_common_forms(module: fx.GraphModule) -> None:
    """Canonicalize ops: subtraction, convolutions, ``pad``, ``view``, accumulation, variance, cosine, inverse roots."""
    for node in list(module.graph.nodes):
        for rewrite in _REWRITES:
            new = rewrite(node) if node.op == "call_function" else None
            if new is not None:
                replace(node, new)
                break
