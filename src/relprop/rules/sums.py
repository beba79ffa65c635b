"""The rule of a sum of two values, such as a residual connection: whose part of the relevance is whose."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from relprop.errors import OptionError
from relprop.ops.op import ABSORBED, Call, MultiplierRule, Relevances
from relprop.rules.kernel import divide_signed
from relprop.rules.rule import Rule, refuse_negative

SumName = Literal["positive", "absolute", "signed", "gamma"]
_TRACE = 1e-16


def _split_signed(call: Call, a: Tensor, b: Tensor, relevance: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """By value, as LRP-ε; the third is what ``epsilon`` holds, or a sum of zero: neither takes it."""
    total = a + b
    multiplier = divide_signed(relevance, total, epsilon)
    absorbed = call.layout.sum(relevance, call.batch) - call.layout.dot(multiplier, total, call.batch)
    return a * multiplier, multiplier.mul_(b), absorbed


def _summands_by_multiplier(call: Call, factor: Tensor) -> Relevances:
    """Every summand has the multiplier of the sum; a constant's share is absorbed."""
    shares, absorbed = dict[str, Tensor](), 0.0
    for name, scale in (("self", 1), ("other", call.arguments.get("alpha", 1))):
        value, part = call[name], factor if scale == 1 else factor * scale
        if name in call.operands:
            shares[name] = part.sum_to_size(value.shape)
        else:
            constant = torch.as_tensor(value, dtype=part.dtype, device=part.device)
            absorbed = call.layout.dot(part, constant.masked_fill(constant.isinf(), 0.0), call.batch)
    return shares | {ABSORBED: absorbed}


def _without_hidden(call: Call, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Take sums that a mask makes infinite for sums of zeros: such elements of attention have no relevance, and no part of the infinite is any."""
    if len(call.operands) > 1:  # a mask carries no relevance
        return a, b
    hidden = (a + b).isinf()
    return a.masked_fill(hidden, 0.0), b.masked_fill(hidden, 0.0)


def _counted(value: Tensor, treatment: SumName, *, nonnegative: bool) -> Tensor:
    """How much a summand counts: its absolute value, or its positive part."""
    if nonnegative:
        return value
    if treatment == "absolute":
        return value.abs()
    # a trace of the absolute value decides where neither part is positive, and is nothing beside a positive part
    return functional.leaky_relu(value, -_TRACE)


def _split_by(share: Tensor, other: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """In proportion, equally where both are zero."""
    tiny = torch.finfo(share.dtype).tiny
    share = share + tiny
    first = (share / torch.add(share, other).add_(tiny)).mul(relevance)
    return first, relevance - first


def _weighted(a: Tensor, b: Tensor, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
    """The weights of two summands, ``1 + γ`` where one has the sign of the sum, and the weighted sum."""
    sign = (a + b).sign()
    weight_a, weight_b = (1 + gamma * (v.sign() * sign).clamp(min=0) for v in (a, b))
    return weight_a, weight_b, weight_a * a + weight_b * b


def _split_gamma(a: Tensor, b: Tensor, relevance: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """By weighted value; a sum of zero shares equally, the mean of what its shares are beside it on either side."""
    weight, _, total = _weighted(a, b, gamma)
    share = torch.where(total == 0, 0.5, weight * a / torch.where(total == 0, 1.0, total))
    first = share * relevance
    return first, relevance - first


def _by_weighted_multiplier(call: Call, factor: Tensor, gamma: float) -> Relevances:
    """``c_a = w_a (a + b) / (w_a a + w_b b) · c``: no summand is divided by, and the quotient lies in [0, 1]."""
    a, b = (v if isinstance(v, Tensor) else factor.new_tensor(v) for v in (call["self"], call["other"]))
    shapes, alpha = (a.shape, b.shape), call.arguments.get("alpha", 1)
    a, b = _without_hidden(call, a, b)
    *weights, total = _weighted(a, b * alpha, gamma)
    common = torch.where(total == 0, 0.0, (a + b * alpha) / torch.where(total == 0, 1.0, total)) * factor
    shares, absorbed = dict[str, Tensor](), 0.0
    for name, value, shape, scale, weight in zip(("self", "other"), (a, b), shapes, (1, alpha), weights, strict=True):
        part = common * weight * scale
        if name in call.operands:
            shares[name] = part.sum_to_size(shape)
        else:
            absorbed = call.layout.dot(part, value, call.batch)
    return shares | {ABSORBED: absorbed}


def split_sum(treatment: SumName = "positive", epsilon: float = 0.0, gamma: float = 1.0) -> Rule:
    """Split the relevance of a sum of two values; what a constant takes is absorbed.

    Args:
        treatment: ``"positive"`` splits by positive part, by absolute value where no part is positive; ``"absolute"`` by absolute value; both
            share equally where both summands are zero. ``"signed"`` splits by value, and what ``epsilon`` holds is absorbed. ``"gamma"``
            splits by value times a weight, ``1 + gamma`` where a summand has the sign of the sum, else 1 (ResLRP, Berend et al. 2026): the
            shares lie in ``[−1/gamma, 1 + 1/gamma]`` and add up to one.
        epsilon: Stabilizer of signed sums.
        gamma: Additional weight of summands that agree with the sum, above zero.

    Raises:
        OptionError: An option is negative or infinite, or ``gamma`` is zero for ``"gamma"``.
    """
    refuse_negative("split", epsilon=epsilon, gamma=gamma)
    if treatment == "gamma" and gamma == 0:
        raise OptionError("Option gamma=0 of rule 'split' bounds no share; give a value above zero, or take treatment='signed'.")

    def backward(call: Call, relevance: Tensor) -> Relevances:
        a, b, alpha = call["self"], call["other"], call.arguments.get("alpha", 1)
        a, b = (v if isinstance(v, Tensor) else relevance.new_tensor(v) for v in (a, b))
        first, second = _without_hidden(call, a, b if alpha == 1 else b * alpha)
        if treatment == "signed":
            *parts, absorbed = _split_signed(call, first, second, relevance, epsilon)
        elif treatment == "gamma":
            parts, absorbed = _split_gamma(first, second, relevance, gamma), 0.0
        else:
            share = _counted(first, treatment, nonnegative="self" in call.nonnegative)
            other = _counted(second, treatment, nonnegative="other" in call.nonnegative and alpha >= 0)
            parts, absorbed = _split_by(share, other, relevance), 0.0
        shares = {"self": (a, parts[0]), "other": (b, parts[1])}
        return {ABSORBED: absorbed} | {
            name: share.sum_to_size(v.shape) if name in call.operands else share for name, (v, share) in shares.items()
        }

    return Rule(
        f"split by {treatment}", backward, ("self", "other"), local=True, multiplier=_multiplier(treatment, epsilon, gamma)
    )


def _multiplier(treatment: SumName, epsilon: float, gamma: float) -> MultiplierRule | None:
    if treatment == "gamma":
        return MultiplierRule(partial(_by_weighted_multiplier, gamma=gamma), ("self", "other"))
    return MultiplierRule(_summands_by_multiplier, ("constants",)) if treatment == "signed" and not epsilon else None
