"""absLRP: every op sends relevance over its absolute output back along ``x · ∂/∂x [f(x; w, b) + f(|x|; |w|, |b|)]``."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from relprop.ops.elementwise import NON_NEGATIVE, SIGNED
from relprop.ops.op import Call, Relevances
from relprop.ops.table import OPS
from relprop.rules.kernel import Coefficients, Contributions, divide
from relprop.rules.rule import Rule

_FLOOR = 1e-9
_NORMS = ("layer_norm", "group_norm", "instance_norm", "rms_norm", "batch_norm")
_MAX_POOLS = (*(f"{kind}max_pool{d}d" for kind in ("", "adaptive_") for d in (1, 2, 3)), "amax")


def normalized(call: Call, name: str, share: Tensor) -> Tensor:
    """Scale an operand's relevance such that the absolute values of every sample add up to one."""
    layout = call.layouts[name]
    return share * layout.spread(
        divide(torch.ones((), dtype=share.dtype, device=share.device), layout.sum(share.abs(), call.batch)), share
    )


def _per_output(relevance: Tensor, output: Tensor) -> Tensor:
    """``S = R / (|y| + 1e-9)``."""
    return relevance / output.abs().add_(_FLOOR)


def _affine(call: Call, relevance: Tensor) -> Relevances:
    """Ops that are linear in each operand: ``2 Σ_j S_j z⁺_ij``, up to its scale the kernel's ``p = S`` and ``n = 0``."""
    coefficients = Coefficients(_per_output(relevance, call.output))
    shares: dict[str, Tensor] = {}
    for name in call.operands:
        of = replace(call, data=name)
        linear, bias = of.linear(of)  # pyright: ignore[reportOptionalCall]
        c = Contributions(linear, of.x, call.output, bias, nonnegative=name in call.nonnegative)
        shares[name] = normalized(call, name, c.redistribute(coefficients))
    return shares


def _sum(sign: int, *, constants: bool) -> Callable[[Call, Tensor], Relevances]:
    """``sign · self + alpha · other``: each summand takes ``S`` times its positive part; a constant none if ``constants`` is false."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        if len(call.operands) == 1 and not constants:
            return {call.data: normalized(call, call.data, relevance.sum_to_size(call.x.shape))}
        per_output, alpha = _per_output(relevance, call.output), call.arguments.get("alpha", 1)
        signs = {"self": sign * (alpha if sign < 0 else 1), "other": 1 if sign < 0 else alpha}
        found = {n: (per_output * (call[n] * signs[n]).clamp(min=0)).sum_to_size(call[n].shape) for n in call.operands}
        return {name: normalized(call, name, share) for name, share in found.items()}

    return backward


def _product(call: Call, relevance: Tensor) -> Relevances:
    """Elementwise products and quotients: ``S`` times the positive part of the output; a number only changes the unit."""
    if len(call.operands) == 1 and not isinstance(call["other"], Tensor):
        return {call.data: normalized(call, call.data, relevance)}
    share = _per_output(relevance, call.output) * call.output.clamp(min=0)
    return {name: normalized(call, name, share.sum_to_size(call[name].shape)) for name in call.operands}


def _activation(name: str) -> Callable[[Call, Tensor], Relevances]:
    """An op on every element alone, by its own derivative."""
    function = getattr(torch.ops.aten, name)

    def backward(call: Call, relevance: Tensor) -> Relevances:
        x, rest = call.x, {k: v for k, v in call.arguments.items() if k != call.data}

        def values(x: Tensor) -> Tensor:
            return function(x, **rest)

        def slope(x: Tensor) -> Tensor:
            return torch.func.jvp(values, (x,), (torch.ones_like(x),))[1]

        magnitude = x.abs()
        if name == "relu":
            factor = x.clamp(min=0) + magnitude
        else:
            factor = 2 * x * slope(x) if call.data in call.nonnegative else x * slope(x) + magnitude * slope(magnitude)
        return {call.data: normalized(call, call.data, _per_output(relevance, call.output) * factor)}

    return backward


def _softmax(call: Call, relevance: Tensor) -> Relevances:
    """With the denominator constant, the derivative is the output itself."""
    x, y = call.x, call.output
    factor = x * y + x.abs() * x.abs().softmax(call["dim"])
    return {call.data: normalized(call, call.data, torch.nan_to_num(_per_output(relevance, y) * factor, nan=0.0))}


def _statistics(call: Call, name: str, x: Tensor) -> Tensor:
    """One over the standard deviation by which a norm divides ``x``, as a constant, broadcastable over it."""
    eps = call["eps"]
    if name in {"layer_norm", "rms_norm"}:
        dims = list(range(-len(call["normalized_shape"]), 0))
        if name == "rms_norm":
            return torch.rsqrt(x.square().mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
        return torch.rsqrt(x.var(dims, correction=0, keepdim=True) + eps)
    if call.arguments.get("running_var") is not None:
        return torch.rsqrt(call["running_var"] + eps).reshape(1, -1, *[1] * (x.dim() - 2))
    groups = call["num_groups"] if name == "group_norm" else x.shape[1]
    grouped = x.reshape(x.shape[0], groups, -1)
    inverse = torch.rsqrt(grouped.var(-1, correction=0, keepdim=True) + eps)
    return inverse.expand_as(grouped).reshape(x.shape)


def _norm(name: str) -> Callable[[Call, Tensor], Relevances]:
    """Normalizations with mean and variance constant; those of ``|x|`` are its own."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        x, weight = call.x, call.arguments.get("weight")
        magnitude, own = x.abs(), _statistics(call, name, x)
        of_magnitude = (
            own if call.arguments.get("running_var") is not None or name == "rms_norm" else _statistics(call, name, magnitude)
        )
        signed, absolute = x * own, magnitude * of_magnitude
        if weight is not None:
            shaped = weight if name in {"layer_norm", "rms_norm"} else weight.reshape(-1, *[1] * (x.dim() - 2))
            signed, absolute = signed * shaped, absolute * shaped.abs()
        return {call.data: normalized(call, call.data, _per_output(relevance, call.output) * (signed + absolute))}

    return backward


def _winner(name: str, *, weighted: bool) -> Callable[[Call, Tensor], Relevances]:
    """Max pooling: the winners among ``x`` and among ``|x|``; ``weighted`` leaves out the division by the output."""
    function: Any = getattr(torch.ops.aten, name)
    back = OPS[f"aten::{name}"].backward

    def backward(call: Call, relevance: Tensor) -> Relevances:
        x, data = call.x, call.data
        per_output = relevance if weighted else _per_output(relevance, call.output)
        share = x * back(call, per_output)[data]  # pyright: ignore[reportOptionalCall]
        if data not in call.nonnegative:
            magnitudes: Mapping[str, Any] = {**call.arguments, data: x.abs()}
            found = function(*magnitudes.values())
            other = replace(call, arguments=magnitudes, output=found)
            share = share + x.abs() * back(other, per_output)[data]  # pyright: ignore[reportOptionalCall]
        return {data: normalized(call, data, share)}

    return backward


def affine() -> Rule:
    """AbsLRP of ops that are linear in every operand, each operand on its own."""
    return Rule("abslrp", _affine, ("x", "output"), all_operands=True)


def by_op(*, weighted_max_pooling: bool, constants: bool) -> Mapping[str, Rule]:
    """AbsLRP of all other ops, by name; added constants take their share where ``constants`` is true."""
    functions: dict[str, Callable[[Call, Tensor], Relevances]] = {
        "add": _sum(1, constants=constants),
        "rsub": _sum(-1, constants=constants),
        "mul": _product,
        "div": _product,
        "softmax": _softmax,
        "_softmax": _softmax,
    }
    functions |= {name: _activation(name) for name in (*NON_NEGATIVE.split(), *SIGNED.split()) if hasattr(torch.ops.aten, name)}
    functions |= {name: _norm(name) for name in _NORMS}
    functions |= {name: _winner(name, weighted=weighted_max_pooling) for name in _MAX_POOLS}
    return {name: Rule("abslrp", function, ("x", "output"), all_operands=True) for name, function in functions.items()}
