"""Rules of transformers: norms and softmax as AttnLRP and CP-LRP treat them, and sums as transformer attribution does."""

import torch
from torch import Tensor

from relprop.errors import OptionError
from relprop.ops.op import ABSORBED, Call, MultiplierRule, Relevances, op_name
from relprop.rules.kernel import divide, divide_stabilized, stabilize
from relprop.rules.rule import Rule, refuse_negative


def softmax_taylor() -> Rule:
    """Softmax by its first-order Taylor expansion (AttnLRP, Prop. 3.1): ``x · (R − s ΣR)``; the remainder is absorbed."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        x, dim = call.x, call["dim"]
        # masked scores are −∞ and their weights zero, so their share is zero
        finite = x.clamp(min=torch.finfo(x.dtype).min)
        share = (call.output * -relevance.sum(dim, keepdim=True)).add_(relevance).mul_(finite)
        absorbed = call.layout.sum(relevance, call.batch) - call.layout.sum(share, call.batch)
        return {call.data: share, ABSORBED: absorbed}

    multiplier = MultiplierRule(_softmax_by_multiplier, ("output",), throughout=True)
    return Rule("softmax by Taylor", backward, ("x", "output"), local=True, multiplier=multiplier)


def _softmax_by_multiplier(call: Call, factor: Tensor) -> Relevances:
    """The multiplier of the scores is the gradient of the softmax."""
    output, layout = call.output, call.layout
    share = _gradient(call, factor)
    # the scores are log s and a constant per row, on which shares that add up to zero do not depend
    scores = output.clamp(min=torch.finfo(output.dtype).tiny).log_()
    return {call.data: share, ABSORBED: layout.dot(factor, output, call.batch) - layout.dot(scores, share, call.batch)}


def _gradient(call: Call, factor: Tensor) -> Tensor:
    if call.op.gradient is None:
        raise OptionError(
            f"{op_name(call.function)} has no gradient in its entry, which this rule needs; give it the rule 'pass'."
        )
    return call.op.gradient(call, factor)


def norm_linear(epsilon: float = 0.0) -> Rule:
    """Norms with their variance constant (Ali et al. 2022): linear in ``x``, so shares go by signed contribution; the bias absorbs its share."""
    refuse_negative("norm", epsilon=epsilon)

    def backward(call: Call, relevance: Tensor) -> Relevances:
        share = _gradient(call, divide_stabilized(relevance, call.output, epsilon)).mul_(call.x)
        absorbed = call.layout.sum(relevance, call.batch) - call.layout.sum(share, call.batch)
        return {call.data: share, ABSORBED: absorbed}

    multiplier = None if epsilon else MultiplierRule(_norm_by_multiplier, ("x", "constants"))
    return Rule("norm, variance constant", backward, ("x", "output", "constants"), local=True, multiplier=multiplier)


def _norm_by_multiplier(call: Call, factor: Tensor) -> Relevances:
    bias = call.arguments.get("bias")
    absorbed = 0.0 if bias is None else call.layout.dot(factor, bias, call.batch)
    return {call.data: _gradient(call, factor), ABSORBED: absorbed}


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
    """Layer and RMS norm as linear layers, by op name: what rules of signed contributions need (see ``docs/decisions/``)."""
    rule = norm_linear(epsilon)
    return {"layer_norm": rule, "rms_norm": rule}
