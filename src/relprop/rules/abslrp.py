"""absLRP: every op sends relevance over its absolute output back along ``x · ∂/∂x [f(x; w, b) + f(|x|; |w|, |b|)]``."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from relprop.ops.norm import weight_of
from relprop.ops.op import Call, Relevances, Role
from relprop.rules.affine import unchanged
from relprop.rules.kernel import Coefficients, Contributions, divide
from relprop.rules.rule import Rule

PoolingName = Literal["divided", "weighted"]
ConstantsName = Literal["leave out", "absorb"]

_FLOOR = 1e-9
_SHARE = Callable[[Call, Tensor], Relevances]


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
        linear, bias = call.as_linear(name)
        c = Contributions(linear, call[name], call.output, bias, nonnegative=name in call.nonnegative)
        shares[name] = normalized(call, name, c.redistribute(coefficients))
    return shares


def _sum(call: Call, relevance: Tensor, *, constants: bool) -> Relevances:
    """Each summand takes ``S`` times its positive part; a constant takes none if ``constants`` is false."""
    if len(call.operands) == 1 and not constants:
        return {call.data: normalized(call, call.data, relevance.sum_to_size(call.x.shape))}
    per_output, factors = _per_output(relevance, call.output), call.op.summands(call.arguments)  # pyright: ignore[reportOptionalCall]
    found = {n: (per_output * (call[n] * factors[n]).clamp(min=0)).sum_to_size(call[n].shape) for n in call.operands}
    return {name: normalized(call, name, share) for name, share in found.items()}


def _product(call: Call, relevance: Tensor) -> Relevances:
    """Elementwise products and quotients: ``S`` times the positive part of the output; a number only changes the unit."""
    if len(call.operands) == 1 and not isinstance(call["other"], Tensor):
        return {call.data: normalized(call, call.data, relevance)}
    share = _per_output(relevance, call.output) * call.output.clamp(min=0)
    return {name: normalized(call, name, share.sum_to_size(call[name].shape)) for name in call.operands}


def _activation(call: Call, relevance: Tensor) -> Relevances:
    """An activation by its derivative: ``S (x f'(x) + |x| f'(|x|))``; where ``f'`` is even, both cancel at negative ``x``."""
    x = call.x
    factor = x * _derivative(call)
    if call.op.even_slope:  # as a difference it would be rounding error, which the scaling makes as large as any map
        factor = 2 * factor.mul_(x > 0)
    elif call.data in call.nonnegative:
        factor = 2 * factor
    else:
        magnitude = x.abs()
        factor = factor + magnitude * _derivative(call.with_x(magnitude))
    return {call.data: normalized(call, call.data, _per_output(relevance, call.output) * factor)}


def _derivative(call: Call) -> Tensor:
    return call.op.gradient(call, torch.ones_like(call.x))  # pyright: ignore[reportOptionalCall]


def _softmax(call: Call, relevance: Tensor) -> Relevances:
    """With the denominator constant, the derivative is the output itself; a score that is masked is masked in ``|x|`` too, and takes none."""
    x, y = call.x, call.output
    masked = x < torch.finfo(x.dtype).min / 2  # -inf, or a mask that was added
    magnitude = x.abs().masked_fill(masked, -torch.inf).softmax(call["dim"])
    factor = (x * y + x.abs() * magnitude).masked_fill(masked, 0.0)
    return {call.data: normalized(call, call.data, torch.nan_to_num(_per_output(relevance, y) * factor, nan=0.0))}


def _norm(call: Call, relevance: Tensor) -> Relevances:
    """Norms with mean and variance constant; those of ``|x|`` are its own."""
    x, scale, weight = call.x, call.op.scale, weight_of(call)
    magnitude = x.abs()
    signed, absolute = x * scale(call, x), magnitude * scale(call, magnitude)  # pyright: ignore[reportOptionalCall]
    if weight is not None:
        signed, absolute = signed * weight, absolute * weight.abs()
    return {call.data: normalized(call, call.data, _per_output(relevance, call.output) * (signed + absolute))}


def _maximum(call: Call, relevance: Any, *, weighted: bool) -> Relevances:  # noqa: ANN401 - a list where the op returns indices too
    """Maxima: the winners among ``x`` and among ``|x|``; ``weighted`` leaves out the division by the output."""
    x, data, back = call.x, call.data, call.op.backward
    per_output = relevance if weighted else _per_maximum(relevance, call.output)
    share = x * back(call, per_output)[data]  # pyright: ignore[reportOptionalCall]
    if data not in call.nonnegative:
        of_magnitude = call.with_x(x.abs())
        of_magnitude = of_magnitude.with_output(call.function(*of_magnitude.arguments.values()))
        share = share + x.abs() * back(of_magnitude, per_output)[data]  # pyright: ignore[reportOptionalCall]
    return {data: normalized(call, data, share)}


def _per_maximum(relevance: Any, output: Any) -> Any:  # noqa: ANN401 - a list of the values' relevance and None
    if isinstance(relevance, list):
        values, *indices = relevance
        return [_per_output(values, output[0]), *indices]
    return _per_output(relevance, output)


def _treatment(call: Call, others: Mapping[Role, _SHARE], winner: _SHARE) -> _SHARE | None:
    """How absLRP treats an op, by what is known of it; None for ops that only move or rescale relevance."""
    op = call.op
    if op.linear is not None:
        return _affine
    if op.role in {Role.GATE, Role.SCALE}:
        return _product if op.multiplies else None
    if op.role in {Role.SELECT, Role.REDUCE}:
        return winner if op.maximum else op.backward
    lacks = {Role.ACTIVATION: op.gradient is None, Role.SOFTMAX: not op.gives_weights, Role.NORM: op.scale is None}
    return None if lacks.get(op.role, False) else others.get(op.role)


def abslrp(max_pooling: PoolingName = "divided", constants: ConstantsName = "absorb") -> Rule:
    """AbsLRP of every op, each operand on its own; ops that only rescale or cast pass relevance unchanged.

    It computes in float64: outputs near zero, and contrasts of maps that are nearly equal, multiply rounding errors by up to 10⁵.

    Args:
        max_pooling: ``"divided"`` treats maxima like any op; ``"weighted"`` multiplies the winner's relevance by its value.
        constants: Whether constants added to a value ``"absorb"`` their share or are left out.
    """
    others: Mapping[Role, _SHARE] = {
        Role.ADD: partial(_sum, constants=constants == "absorb"),
        Role.ACTIVATION: _activation,
        Role.SOFTMAX: _softmax,
        Role.NORM: _norm,
    }
    winner, passed = partial(_maximum, weighted=max_pooling == "weighted"), unchanged().backward

    def backward(call: Call, relevance: Any) -> Relevances:  # noqa: ANN401 - a list where the op returns several values
        return (_treatment(call, others, winner) or passed)(call, relevance)

    return Rule("abslrp", backward, ("x", "output", "constants"), all_operands=True, precision=torch.float64)
