"""The rule of a sum of two values, such as a residual connection: whose part of the relevance is whose."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from relprop.ops.op import ABSORBED, Call, MultiplierRule, Relevances
from relprop.rules.kernel import divide_signed
from relprop.rules.rule import Rule, refuse_negative

SumName = Literal["positive", "absolute", "signed"]
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
            absorbed = call.layout.dot(part, torch.as_tensor(value, dtype=part.dtype, device=part.device), call.batch)
    return shares | {ABSORBED: absorbed}


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


def split_sum(treatment: SumName = "positive", epsilon: float = 0.0) -> Rule:
    """Split the relevance of a sum of two values; what a constant takes is absorbed.

    Args:
        treatment: ``"positive"`` splits by positive part, by absolute value where no part is positive; ``"absolute"`` by absolute value; both
            share equally where both summands are zero. ``"signed"`` splits by value, and what ``epsilon`` holds is absorbed.
        epsilon: Stabilizer of signed sums.
    """
    refuse_negative("split", epsilon=epsilon)

    def backward(call: Call, relevance: Tensor) -> Relevances:
        a, b, alpha = call["self"], call["other"], call.arguments.get("alpha", 1)
        a, b = (v if isinstance(v, Tensor) else relevance.new_tensor(v) for v in (a, b))
        second = b if alpha == 1 else b * alpha
        if treatment == "signed":
            *parts, absorbed = _split_signed(call, a, second, relevance, epsilon)
        else:
            share = _counted(a, treatment, nonnegative="self" in call.nonnegative)
            other = _counted(second, treatment, nonnegative="other" in call.nonnegative and alpha >= 0)
            parts, absorbed = _split_by(share, other, relevance), 0.0
        shares = {"self": (a, parts[0]), "other": (b, parts[1])}
        return {ABSORBED: absorbed} | {
            name: share.sum_to_size(v.shape) if name in call.operands else share for name, (v, share) in shares.items()
        }

    multiplier = MultiplierRule(_summands_by_multiplier, ("constants",)) if treatment == "signed" and not epsilon else None
    return Rule(f"split by {treatment}", backward, ("self", "other"), local=True, multiplier=multiplier)
