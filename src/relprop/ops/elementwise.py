"""Ops on every element alone: activations, sums, products, quotients, casts, comparisons."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from relprop.ops.op import Arguments, Call, Known, MultiplierRule, Op, Relevances, Role, slices_with_broadcasting
from relprop.ops.table import add_ops


def sum_back(relevance: Tensor, like: Tensor) -> Tensor:
    """Sum over the dimensions that were broadcast."""
    return relevance if relevance.shape == like.shape else relevance.sum_to_size(like.shape)


def pass_unchanged(call: Call, relevance: Tensor) -> Relevances:
    """Pass relevance unchanged: one contributor per output takes all of it, summed over the dimensions that were broadcast."""
    return {call.data: sum_back(relevance, call.x)}


def _cast(call: Call, relevance: Tensor) -> Relevances:
    return {call.data: relevance.to(call.x.dtype) if call.x.is_floating_point() else relevance}


def _looked_up(call: Call, relevance: Tensor) -> Relevances:
    """A number takes what all features of its embedding have."""
    return {call.data: relevance.sum(-1)}


def _times(call: Call, factor: Tensor) -> Relevances:
    return {call.data: sum_back(factor * call["other" if call.data == "self" else "self"], call.x)}


def _divided(call: Call, factor: Tensor) -> Relevances:
    return {call.data: sum_back(factor / call["other"], call.x)}


def _where(call: Call, relevance: Tensor) -> Relevances:
    condition, shares = call["condition"], {}
    for name, mask in (("self", condition), ("other", ~condition)):
        value = call[name]
        share = relevance * mask
        shares[name] = sum_back(share, value) if name in call.operands else share
    return shares


def _masked_fill(call: Call, relevance: Tensor) -> Relevances:
    return {"self": relevance * ~call["mask"], "value": relevance * call["mask"]}


def _larger(call: Call, relevance: Tensor) -> Relevances:
    """``maximum`` and ``minimum``: the winner takes all, equals share."""
    a, b, output = call["self"], call["other"], call.output
    won_a, won_b = (a == output).to(relevance.dtype), (b == output).to(relevance.dtype)
    share = relevance / (won_a + won_b)
    return {
        name: sum_back(share * won, call[name]) if name in call.operands else share * won
        for name, won in (("self", won_a), ("other", won_b))
    }


def _gradient(call: Call, c: Tensor) -> Tensor:
    """``c f'(x)`` by forward-mode differentiation."""
    rest = {name: value for name, value in call.arguments.items() if name != call.data}

    def values(x: Tensor) -> Tensor:
        return call.function(x, **rest)

    return c * torch.func.jvp(values, (call.x,), (torch.ones_like(call.x),))[1]


def _gradient_of_relu(call: Call, c: Tensor) -> Tensor:
    return c * (call.x > 0)


def _gradient_of_steps(call: Call, c: Tensor) -> Tensor:
    """Zero, as of rounding; torch differentiates some of such ops only."""
    return torch.zeros_like(call.x, dtype=c.dtype)


def _floor_sign(arguments: Arguments, known: Known) -> bool:
    """A ceiling below the floor would win."""
    floor, ceiling = (arguments.get(name, arguments.get(f"{name}_val")) for name in ("min", "max"))
    return known(floor) and (ceiling is None or known(ceiling))


def _threshold_sign(arguments: Arguments, known: Known) -> bool:
    """``x`` above the threshold, else the value."""
    return known(arguments["value"]) and (known(arguments["threshold"]) or known(arguments["self"]))


def _power_sign(arguments: Arguments, known: Known) -> bool:
    exponent = arguments["exponent"]
    return isinstance(exponent, int | float) and (exponent % 2 == 0 or known(arguments["self"]))


def _sum_sign(arguments: Arguments, known: Known) -> bool:
    return all(known(arguments.get(name, 1)) for name in ("self", "other", "alpha"))


def _product_sign(arguments: Arguments, known: Known) -> bool:
    return arguments["self"] is arguments["other"] or _quotient_sign(arguments, known)


def _quotient_sign(arguments: Arguments, known: Known) -> bool:
    return known(arguments["self"]) and known(arguments["other"])


_ACTIVATION = Op(Role.ACTIVATION, gradient=_gradient, slices=slices_with_broadcasting)
_POSITIVE = replace(_ACTIVATION, nonnegative="always")
_RELATIVE = replace(_ACTIVATION, rectifier="relative")
_CLIPPED = replace(_ACTIVATION, nonnegative=_floor_sign, floor="min")

add_ops(["relu"], replace(_POSITIVE, gradient=_gradient_of_relu, rectifier="relu"))
add_ops(["relu6"], replace(_POSITIVE, bounded=True, rectifier="relu"))
add_ops(["sigmoid"], replace(_POSITIVE, bounded=True, probabilities=True, even_slope=True))
add_ops(["hardsigmoid"], replace(_POSITIVE, bounded=True, even_slope=True))
add_ops(["softplus"], replace(_POSITIVE, rectifier="relative"))
add_ops(["exp", "exp2"], replace(_POSITIVE, exponential=True))
add_ops(["abs", "square", "sqrt", "rsqrt", "cosh"], _POSITIVE)
add_ops(["acosh", "erfc"], _POSITIVE)
add_ops(["gelu", "silu", "mish", "hardswish", "elu", "celu", "selu", "leaky_relu", "rrelu"], _RELATIVE)
add_ops(["prelu"], replace(_RELATIVE, slices=None))  # its weight counts channels and does not broadcast
add_ops(["threshold"], replace(_RELATIVE, nonnegative=_threshold_sign))
add_ops(["log_sigmoid"], replace(_RELATIVE, probabilities=True))
add_ops(["tanh", "erf"], replace(_ACTIVATION, bounded=True, even_slope=True))
add_ops(["clamp", "clip"], replace(_CLIPPED, bounded=True))
add_ops(["clamp_min"], _CLIPPED)
add_ops(["hardtanh"], replace(_CLIPPED, floor="min_val", bounded=True))
_SIGNED = """log log1p log2 log10 expm1 cos reciprocal clamp_max floor ceil round nan_to_num logit acos lgamma i0 sinc
    fmod remainder"""
add_ops(_SIGNED.split(), _ACTIVATION)
_ODD = "hardshrink softshrink atan sin asinh sinh trunc sign tan asin atanh erfinv frac"
add_ops(_ODD.split(), replace(_ACTIVATION, even_slope=True))
add_ops(["floor_divide"], replace(_ACTIVATION, gradient=_gradient_of_steps))
add_ops(["atan2"], Op(Role.ACTIVATION, data=("self", "other"), slices=slices_with_broadcasting))
add_ops(["pow"], Op(Role.ACTIVATION, data=("self", "exponent"), nonnegative=_power_sign, slices=slices_with_broadcasting))
_CASTS = MultiplierRule(_cast, throughout=True)
_CAST = Op(Role.SCALE, _cast, multiplier=_CASTS, nonnegative="inherits", identity="alias")
add_ops(["positive"], Op(Role.SCALE, pass_unchanged, nonnegative="inherits", identity="alias"))
add_ops(["to"], replace(_CAST, reads=("self",), slices=slices_with_broadcasting))
add_ops(["_to_copy"], replace(_CAST, identity="copy", slices=slices_with_broadcasting))
add_ops(["type_as"], replace(_CAST, reads=("self",)))
add_ops(["clone", "lift_fresh_copy"], replace(_CAST, identity="copy"))
add_ops(["alias", "contiguous", "lift", "lift_fresh"], _CAST)
add_ops(["detach"], Op(Role.BLOCK, data=(), nonnegative="inherits", detaches=True, slices=slices_with_broadcasting))
_DROPOUTS = [f"{kind}dropout{end}" for kind in ("", "feature_", "alpha_", "feature_alpha_") for end in ("", "_")]
add_ops(_DROPOUTS, replace(_CAST, data=("input", "self")))
add_ops(
    ["neg"],
    Op(
        Role.SCALE,
        pass_unchanged,
        multiplier=MultiplierRule(lambda call, factor: {call.data: -factor}, throughout=True),
        slices=slices_with_broadcasting,
    ),
)


def _summands(arguments: Arguments, *, self: int, other: int) -> Mapping[str, float]:
    """The factors of both summands; ``alpha`` scales the one that torch calls second, which in ``rsub`` is ``self``."""
    alpha = arguments.get("alpha", 1)
    return {"self": self * (alpha if self < 0 else 1), "other": other * (alpha if self > 0 else 1)}


_OF_TWO = Op(Role.ADD, data=("self", "other"), slices=slices_with_broadcasting)
_SUM = replace(_OF_TWO, needs=("self", "other"))
add_ops(["add"], replace(_SUM, nonnegative=_sum_sign, summands=partial(_summands, self=1, other=1)))
add_ops(["sub"], replace(_SUM, summands=partial(_summands, self=1, other=-1)))
add_ops(["rsub"], replace(_SUM, summands=partial(_summands, self=-1, other=1)))
_BY_CONSTANT = MultiplierRule(_times, ("constants",), throughout=True)
add_ops(["mul"], replace(_OF_TWO, role=Role.GATE, nonnegative=_product_sign, multiplier=_BY_CONSTANT))
_QUOTIENT = replace(_OF_TWO, role=Role.SCALE, backward=pass_unchanged, nonnegative=_quotient_sign)
_THROUGH_CONSTANT = MultiplierRule(_divided, ("constants",), throughout=True, of=("self",))
add_ops(["div"], replace(_QUOTIENT, multiplier=_THROUGH_CONSTANT))
add_ops(["div.Tensor_mode", "div.Scalar_mode"], _QUOTIENT)  # rounds
add_ops(["where"], Op(Role.SELECT, _where, data=("self", "other"), needs=("condition",), nonnegative="inherits"))
add_ops(["masked_fill"], Op(Role.SELECT, _masked_fill, needs=("mask",)))
add_ops(
    ["maximum", "minimum", "fmax", "fmin"], Op(Role.SELECT, _larger, data=("self", "other"), needs=("self", "other", "output"))
)
_BLOCK = Op(Role.BLOCK, data=())
_COMPARISONS = """eq ne lt le gt ge logical_and logical_or logical_not bitwise_and bitwise_or bitwise_not bitwise_xor isnan isinf all any
    argmax argmin one_hot bucketize searchsorted nonzero"""
add_ops(_COMPARISONS.split(), _BLOCK)
add_ops(["embedding_bag", "_embedding_bag", "_embedding_bag_forward_only"], _BLOCK)
add_ops(["embedding"], Op(Role.BLOCK, _looked_up, data=("indices",), shares="looked up"))
_OF_A_SHAPE = "rand_like randn_like zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty sym_size"
add_ops(_OF_A_SHAPE.split(), replace(_BLOCK, reads=()))
add_ops(["arange", "zeros", "ones", "full", "empty", "scalar_tensor"], _BLOCK)
