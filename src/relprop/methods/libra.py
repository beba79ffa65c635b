"""Libra's constant treatments: gradients of transformers whose product with the input misses nothing but biases (Mehri et al. 2025).

Attention weights, the variance of norms, the gates of activations ``x g(x)`` and divisors count as constants, and each factor of a product
of two values takes half of its gradient. Values stay as they are.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from relprop.attribution import Problem
from relprop.graph.model import CapturedModel, Handler
from relprop.methods.slopes import with_slope
from relprop.methods.tokens import find_attention
from relprop.ops.op import Role, op_name
from relprop.ops.table import entry
from relprop.propagation.roles import Roles

_PRODUCTS = frozenset({Role.GATE, Role.PRODUCT, Role.STATE, Role.READOUT})


def libra_handlers(model: CapturedModel) -> dict[fx.Node, Handler]:
    """Replace every op that Libra treats by one with the same value and another gradient."""
    roles, weighted = Roles(model.module.graph), {layer.result for layer in find_attention(model)}
    found: dict[fx.Node, Handler] = {}
    for node in model.active:
        own: Any = node.target
        op, name, two = entry(node), op_name(node.target), len(model.carriers(node)) > 1
        if node in weighted:
            found[node] = partial(_constant_weights, own)
        elif name in _NORMS:
            found[node] = partial(_norm, own, _NORMS[name])
        elif op is not None and op.rectifier == "relative":
            found[node] = partial(_gated, own)
        elif two and name == "aten::div":
            found[node] = partial(_constant_divisor, own)
        elif roles.multiplies(node) and roles.kinds.get(node) in _PRODUCTS:
            found[node] = partial(_halved, own)
    return found


def with_libra(problem: Problem, *, libra: bool) -> Problem:
    """Return the problem with Libra's gradients, where they are wanted."""
    return problem.with_handlers(libra_handlers(problem.model)) if libra else problem


def _constant_weights(multiply: Handler, weights: Tensor, values: Tensor) -> Tensor:
    return multiply(weights.detach(), values)


def _constant_divisor(divide: Handler, a: Tensor, b: Tensor, **settings: object) -> Tensor:
    return divide(a, b.detach(), **settings)


def _halved(multiply: Handler, a: Tensor, b: Tensor, **settings: object) -> Tensor:
    product = multiply(a, b, **settings)
    return with_slope(product, product / 2)


def _gated(activation: Handler, x: Tensor, *settings: object, **named: object) -> Tensor:
    """``x g(x)`` with a constant gate ``g``, its derivative at zero; activations that do not map zero to zero stay as they are."""
    plain = activation(x, *settings, **named)
    zero = torch.zeros(1, dtype=x.dtype, device=x.device)
    if bool(activation(zero, *settings, **named)):
        return plain
    small = x.detach().abs() <= torch.finfo(x.dtype).eps
    value = x.detach()
    tiny = torch.full_like(zero, torch.finfo(x.dtype).eps)
    gate = torch.where(small, activation(tiny, *settings, **named) / tiny, plain.detach() / torch.where(small, 1.0, value))
    return with_slope(plain, x * gate)


def _norm(norm: Handler, linear: Callable[..., Tensor], x: Tensor, *settings: object, **named: object) -> Tensor:
    return with_slope(norm(x, *settings, **named), linear(x, *settings, **named))


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None = None, _bias: object = None, eps: float = 1e-5, *_: object
) -> Tensor:
    dims = list(range(-len(shape), 0))
    centered = x - x.mean(dims, keepdim=True)
    scaled = centered * torch.rsqrt(centered.detach().square().mean(dims, keepdim=True) + eps)
    return scaled if weight is None else scaled * weight


def _rms_norm(x: Tensor, shape: list[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    dims = list(range(-len(shape), 0))
    scaled = x * torch.rsqrt(x.detach().square().mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
    return scaled if weight is None else scaled * weight


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, _bias: object = None, eps: float = 1e-5, *_: object
) -> Tensor:
    grouped = x.reshape(x.shape[0], groups, -1)
    scaled = _layer_norm(grouped, [grouped.shape[2]], None, None, eps).reshape(x.shape)
    return scaled if weight is None else scaled * weight.reshape(1, -1, *[1] * (x.dim() - 2))


_NORMS: Mapping[str, Callable[..., Tensor]] = {
    "aten::layer_norm": _layer_norm,
    "aten::rms_norm": _rms_norm,
    "aten::group_norm": _group_norm,
}
"""Norms with a constant variance and without their bias, by op."""
