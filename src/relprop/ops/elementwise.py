"""Ops that work on every element alone: activations, sums, products, quotients, comparisons."""

from torch import Tensor

from relprop.ops.op import Call, MultiplierRule, Op, Relevances, Role
from relprop.ops.table import add_ops

NON_NEGATIVE = "relu relu6 sigmoid hardsigmoid exp exp2 abs square sqrt rsqrt softplus cosh"
SIGNED = """gelu silu mish hardswish hardtanh hardshrink softshrink tanhshrink leaky_relu prelu rrelu elu celu selu tanh softsign
    log_sigmoid threshold atan erf log log1p log2 log10 expm1 sin cos asinh sinh reciprocal clamp clamp_min clamp_max clip
    floor ceil round trunc nan_to_num sign logit erfc tan asin acos acosh atanh erfinv lgamma i0 sinc frac fmod
    remainder floor_divide"""
BOUNDED = frozenset(
    f"aten::{name}"
    for name in ["sigmoid", "hardsigmoid", "tanh", "erf", "softmax", "_softmax", "relu6", "hardtanh", "clamp", "softsign"]
)
"""Activations of limited range: the factor that comes from one of them is the gate of a product."""


def _sum_back(relevance: Tensor, like: Tensor) -> Tensor:
    """Sum over the dimensions that broadcasting added."""
    return relevance if relevance.shape == like.shape else relevance.sum_to_size(like.shape)


def pass_unchanged(call: Call, relevance: Tensor) -> Relevances:
    """One contributor per output: it takes everything (summed where the op broadcast it)."""
    return {call.data: _sum_back(relevance, call.x)}


def _cast(call: Call, relevance: Tensor) -> Relevances:
    return {call.data: relevance.to(call.x.dtype)}


def _times(call: Call, factor: Tensor) -> Relevances:
    return {call.data: _sum_back(factor * call["other" if call.data == "self" else "self"], call.x)}


def _divided(call: Call, factor: Tensor) -> Relevances:
    return {call.data: _sum_back(factor / call["other"], call.x)}


def _where(call: Call, relevance: Tensor) -> Relevances:
    condition, shares = call["condition"], {}
    for name, mask in (("self", condition), ("other", ~condition)):
        value = call[name]
        share = relevance * mask
        shares[name] = _sum_back(share, value) if name in call.active else share
    return shares


def _masked_fill(call: Call, relevance: Tensor) -> Relevances:
    return {"self": relevance * ~call["mask"], "value": relevance * call["mask"]}


def _larger(call: Call, relevance: Tensor) -> Relevances:
    """``maximum`` and ``minimum``: the winner takes all, equals share."""
    a, b, output = call["self"], call["other"], call.output
    won_a, won_b = (a == output).to(relevance.dtype), (b == output).to(relevance.dtype)
    share = relevance / (won_a + won_b)
    return {
        name: _sum_back(share * won, call[name]) if name in call.active else share * won
        for name, won in (("self", won_a), ("other", won_b))
    }


add_ops(NON_NEGATIVE.split(), Op(Role.ACTIVATION, keeps_sign="always"))
add_ops(SIGNED.split(), Op(Role.ACTIVATION))
add_ops(["pow"], Op(Role.ACTIVATION, data=("self", "exponent")))
add_ops(["positive"], Op(Role.SCALE, pass_unchanged))
add_ops(
    ["neg"], Op(Role.SCALE, pass_unchanged, multiplier=MultiplierRule(lambda call, factor: {call.data: -factor}, throughout=True))
)
add_ops(
    ["_to_copy", "to", "type_as", "float", "double", "half", "alias", "detach", "clone", "contiguous", "dropout"],
    Op(Role.SCALE, _cast, keeps_sign="inherits", multiplier=MultiplierRule(_cast, throughout=True)),
)
add_ops(["add", "sub", "rsub"], Op(Role.ADD, data=("self", "other"), needs=("self", "other")))
_BY_CONSTANT = MultiplierRule(_times, ("constants",), throughout=True)
add_ops(["mul"], Op(Role.GATE, data=("self", "other"), keeps_sign="inherits", multiplier=_BY_CONSTANT))
_THROUGH_CONSTANT = MultiplierRule(_divided, ("constants",), throughout=True, of=("self",))
add_ops(["div"], Op(Role.SCALE, pass_unchanged, data=("self", "other"), multiplier=_THROUGH_CONSTANT))
add_ops(["div.Tensor_mode", "div.Scalar_mode"], Op(Role.SCALE, pass_unchanged, data=("self", "other")))  # rounds
add_ops(["where"], Op(Role.SELECT, _where, data=("self", "other"), needs=("condition",), keeps_sign="inherits"))
add_ops(["masked_fill"], Op(Role.SELECT, _masked_fill, needs=("mask",)))
add_ops(
    ["maximum", "minimum", "fmax", "fmin"], Op(Role.SELECT, _larger, data=("self", "other"), needs=("self", "other", "output"))
)
add_ops(
    [
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "logical_and",
        "logical_or",
        "logical_not",
        "argmax",
        "argmin",
        "embedding",
        "isnan",
        "isinf",
        "one_hot",
        "bitwise_and",
        "bitwise_or",
        "bitwise_not",
        "bitwise_xor",
        "all",
        "any",
        "bucketize",
        "searchsorted",
        "nonzero",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "empty_like",
        "rand_like",
        "randn_like",
        "arange",
        "zeros",
        "ones",
        "full",
        "empty",
        "scalar_tensor",
        "sym_size",
        "embedding_bag",
        "_embedding_bag",
        "_embedding_bag_forward_only",
    ],
    Op(Role.BLOCK, data=()),
)
