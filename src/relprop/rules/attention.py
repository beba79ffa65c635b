"""Rules of transformers: norms and softmax as AttnLRP and CP-LRP treat them, and sums as transformer attribution does."""

import math

import torch
from torch import Tensor

from relprop.ops.op import ABSORBED, Call, MultiplierRule, Relevances
from relprop.rules.kernel import divide, divide_stabilized, stabilize
from relprop.rules.rule import Rule


def softmax_taylor() -> Rule:
    """Softmax by its first-order Taylor expansion (AttnLRP, Prop. 3.1): ``x · (R − s ΣR)``; what it leaves is absorbed."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        x, dim = call.x, call["dim"]
        # masked scores are −∞ and their weights zero: nothing to take
        finite = x.clamp(min=torch.finfo(x.dtype).min)
        share = (call.output * -relevance.sum(dim, keepdim=True)).add_(relevance).mul_(finite)
        absorbed = call.layout.sum(relevance, call.batch) - call.layout.sum(share, call.batch)
        return {call.data: share, ABSORBED: absorbed}

    return Rule(
        "softmax by Taylor",
        backward,
        ("x", "output"),
        local=True,
        multiplier=MultiplierRule(_softmax_by_unit, ("output",), throughout=True),
    )


def _softmax_by_unit(call: Call, factor: Tensor) -> Relevances:
    """Per unit of the score this is the gradient of the softmax, ``s (c − Σ s c)``."""
    output, layout = call.output, call.layout
    share = torch.ops.aten._softmax_backward_data(factor, output, call["dim"], output.dtype)
    # the scores are log s and a constant per row, on which shares that add up to zero do not depend
    scores = output.clamp(min=torch.finfo(output.dtype).tiny).log_()
    return {call.data: share, ABSORBED: layout.dot(factor, output, call.batch) - layout.dot(scores, share, call.batch)}


def _norm_by_unit(call: Call, factor: Tensor) -> Relevances:
    bias = call.arguments.get("bias")
    absorbed = 0.0 if bias is None else call.layout.dot(factor, bias, call.batch)
    return {call.data: _norm_back(call, factor), ABSORBED: absorbed}


def _norm_back(call: Call, factor: Tensor) -> Tensor:
    """The gradient with the deviation constant, for a gradient of the outputs."""
    x, dims = call.x, list(range(-len(call["normalized_shape"]), 0))
    share = factor.clone() if call["weight"] is None else factor * call["weight"]
    centered = x
    if "bias" in call.arguments:  # RMS norm takes off no mean
        share.sub_(share.mean(dims, keepdim=True))
        centered = x - x.mean(dims, keepdim=True)
    size = math.prod(x.shape[dim] for dim in dims)
    deviation = torch.linalg.vector_norm(centered, dim=dims, keepdim=True) / math.sqrt(size)
    eps = torch.finfo(x.dtype).eps if call["eps"] is None else call["eps"]
    return share.mul_(torch.rsqrt(deviation.square() + eps))


def norm_linear(epsilon: float = 0.0) -> Rule:
    """Layer norm with its variance constant (Ali et al. 2022): linear in ``x``, so shares go by signed contribution; bias absorbs."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        share = _norm_back(call, divide_stabilized(relevance, call.output, epsilon)).mul_(call.x)
        absorbed = call.layout.sum(relevance, call.batch) - call.layout.sum(share, call.batch)
        return {call.data: share, ABSORBED: absorbed}

    by_unit = None if epsilon else MultiplierRule(_norm_by_unit, ("x", "constants"))
    return Rule("norm, variance constant", backward, ("x", "output"), local=True, multiplier=by_unit)


def balanced_sum() -> Rule:
    """Sums as in transformer attribution (Chefer et al. 2021, Eq. 5 to 7): by signed value, then scaled by summand.

    Per sample the totals of both summands are made proportional to their absolute values and add up to the relevance of the sum.
    """

    def backward(call: Call, relevance: Tensor) -> Relevances:
        values = {name: call[name] for name in ("self", "other")}
        multiplier = relevance / stabilize(call.output, 1e-9)
        shares = {name: (value * multiplier) for name, value in values.items()}
        sums = {name: call.layout.sum(share, call.batch) for name, share in shares.items()}
        whole, total = call.layout.sum(relevance, call.batch), sum(s.abs() for s in sums.values())
        found: dict[str, Tensor] = {}
        for name, share in shares.items():
            factor = sums[name].sign() * divide(whole, total)  # type: ignore[arg-type]
            scaled = share * call.layout.spread(factor, share)
            found[name] = scaled.sum_to_size(values[name].shape) if name in call.operands else scaled
        return found

    return Rule("balanced", backward, ("self", "other", "output"))


def linear_norms(epsilon: float) -> dict[str, Rule]:
    """Layer and RMS norm as linear layers, by op name: what rules of signed contributions need (see ``docs/decisions.md``)."""
    rule = norm_linear(epsilon)
    return {"layer_norm": rule, "rms_norm": rule}
