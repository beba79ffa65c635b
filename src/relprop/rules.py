"""The rules: per name, how one op's relevance is shared among its inputs. A method chooses one rule per role."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relprop.kernel import Contributions, divide, redistribute, redistribute_signed, stabilize
from relprop.ops.elementwise import pass_unchanged
from relprop.ops.registry import ABSORBED, Call, RelevanceFunction, Relevances

Coefficients = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Rule:
    """How relevance passes one op.

    Attributes:
        name: Printed in the plan.
        relevance: ``(call, relevance of the output) -> relevance by argument``.
        needs: Values that it reads: ``"x"`` (the operand that carries relevance), ``"output"``, or argument names.
        both: Whether both operands of a product of two values take relevance, or only the one that carries it.
    """

    name: str
    relevance: RelevanceFunction
    needs: tuple[str, ...] = ()
    both: bool = False


# --- coefficients of the sign-splitting rules: (contributions, relevance) -> (p, n), see `kernel` ------------------------------


def rap_coefficients(c: Contributions, relevance: Tensor) -> Coefficients:
    """RAP, Eq. 7: ``p = R/z⁺``, ``n = R/a``; the second term's ``ν z⁻_ij/z⁻_j`` is ``R |z⁻_ij| / a_j``."""
    if c.all_positive:
        return c.over_positive(relevance), None
    return c.over_positive(relevance), c.over_absolute(relevance)


def rap_released_conv_coefficients(c: Contributions, relevance: Tensor) -> Coefficients:
    """RAP as its released code treats convolutions: negative relevance flows along the negative contributions alone."""
    positive, negative = relevance.clamp(min=0), relevance.clamp(max=0)
    return c.over_positive(positive), c.over_absolute(relevance) + c.over_negative(negative)


def absolute_coefficients(c: Contributions, relevance: Tensor) -> Coefficients:
    """RAP's start, Eq. 5 and 6: every input takes a share of the logit by its absolute influence."""
    p = c.over_absolute(relevance)
    return p, p


def zplus_coefficients(c: Contributions, relevance: Tensor) -> Coefficients:
    """LRP-z⁺, which is α1β0 (Montavon et al. 2017)."""
    return c.over_positive(relevance), None


# --- rules of ops that are linear in one operand ---------------------------------------------------------------------------------


def _contributions(call: Call) -> Contributions:
    linear, bias = call.linear(call)  # pyright: ignore[reportOptionalCall]
    z = call.output if bias is None else call.output - bias
    return Contributions(linear, call.x, z, nonnegative=call.data in call.nonnegative)


def _take_surplus(call: Call, relevance: Tensor, shares: Tensor, *, activated: Tensor) -> Relevances:
    """RAP, Eq. 8 and 9: take the surplus of every sample off its activated inputs in equal parts."""
    layout, batch = call.layouts[call.data], call.batch
    total = call.layout.sum(relevance, batch)
    surplus = layout.sum(shares, batch) - total
    count = layout.sum(activated.to(shares.dtype), batch)
    shift = divide(surplus, count)
    nowhere = torch.where(count == 0, total, 0.0)
    return {call.data: shares - activated * layout.spread(shift, shares), ABSORBED: nowhere}


def _rap(call: Call, relevance: Tensor, coefficients: Callable[[Contributions, Tensor], Coefficients], *, by_share: bool) -> Relevances:
    c = _contributions(call)
    shares = redistribute(c, *coefficients(c, relevance))
    if c.all_positive and not by_share:
        return {call.data: shares, ABSORBED: _lost(call, relevance, c.z)}
    return _take_surplus(call, relevance, shares, activated=(shares if by_share else call.x) != 0)


def rap(variant: str = "paper", layer: str = "dense") -> Rule:
    """RAP for every layer between the first and the last (Nam et al. 2020, Eq. 7 to 9).

    Args:
        variant: ``"paper"``, or ``"released"`` for what the published code does in the given kind of ``layer``: it counts an input as
            activated where its share is not zero, and treats negative relevance of convolutions differently.
        layer: ``"conv"`` or ``"dense"``.
    """
    released = variant == "released"
    coefficients = rap_released_conv_coefficients if released and layer == "conv" else rap_coefficients

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        return _rap(call, relevance, coefficients, by_share=released)

    return Rule("rap-released" if released else "rap", _on_each_operand(relevance), ("x", "output"), both=True)


def _lost(call: Call, relevance: Tensor, denominator: Tensor) -> Tensor:
    """Per sample, the relevance of outputs without any contribution: nobody can take it."""
    return call.layout.sum(torch.where(denominator == 0, relevance, 0.0), call.batch)


def absolute() -> Rule:
    """RAP's start (Eq. 5 and 6): shares by absolute influence."""

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        c = _contributions(call)
        return {call.data: redistribute(c, *absolute_coefficients(c, relevance)), ABSORBED: _lost(call, relevance, c.absolute)}

    return Rule("absolute", _on_each_operand(relevance), ("x", "output"), both=True)


def proportional(epsilon: float = 0.0) -> Rule:
    """Shares by signed contribution: LRP-ε, or with ``epsilon=0`` LRP-0 (Bach et al. 2015)."""

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        c = _contributions(call)
        p = relevance / stabilize(c.z, epsilon) if epsilon else divide(relevance, c.z)
        return {call.data: redistribute_signed(c, p), ABSORBED: call.layout.sum(relevance - p * c.z, call.batch)}

    return Rule("epsilon" if epsilon else "proportional", _on_each_operand(relevance), ("x", "output"), both=True)


def zplus() -> Rule:
    """LRP-z⁺: only positive contributions count."""

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        c = _contributions(call)
        p, n = zplus_coefficients(c, relevance)
        return {call.data: redistribute(c, p, n), ABSORBED: call.layout.sum(relevance - p * c.positive, call.batch)}

    return Rule("zplus", _on_each_operand(relevance), ("x", "output"), both=True)


def box() -> Rule:
    """z^B for the first layer, whose inputs lie in a box ``[l, h]`` (Montavon et al. 2017; RAP, Eq. 10).

    ``x w − l w⁺ − h w⁻`` is ``(x − c) w + d |w|`` with the middle ``c`` and half the width ``d`` of the box. Where the user fixed no
    bounds, they are the smallest and the largest value of the sample's input.
    """

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        linear, _ = call.linear(call)  # pyright: ignore[reportOptionalCall]
        x, weight = call.x, linear.weight
        magnitude = None if weight is None else weight.abs()
        middle, half = _box(call)
        offset = (x - middle).expand_as(x)
        # bounds that are equal everywhere in a sample need the |w| sums of one sample only, made of ones
        reach = linear.forward(half.expand_as(x), magnitude)
        z = linear.forward(offset, weight) + reach
        floor = reach * (64 * torch.finfo(z.dtype).eps)
        p = divide(relevance, z, floor)
        shares = offset * linear.transpose(p, weight) + half * linear.transpose(p, magnitude)
        return {call.data: shares, ABSORBED: call.layout.sum(torch.where(z.abs() > floor, 0.0, relevance), call.batch)}

    return Rule("box", relevance, ("x",))


def _box(call: Call) -> tuple[Tensor, Tensor]:
    """The middle and half the width of the input's box, both broadcastable over the input."""
    if call.box is None:
        layout = call.layouts[call.data]
        low, high = (layout.spread(bound, call.x) for bound in layout.extremes(call.x, call.batch))
    else:
        low, high = call.box
    return (low + high) / 2, (high - low) / 2


def _on_each_operand(relevance_of: RelevanceFunction) -> RelevanceFunction:
    """Extend a rule for one operand to products of two values: each takes half of the relevance, the other held constant."""

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        operands = call.operands
        if len(operands) == 1:
            return relevance_of(call, relevance)
        shares: dict[str, Tensor] = {}
        for name in operands:
            part = dict(relevance_of(replace(call, data=name), relevance / len(operands)))
            part[ABSORBED] = part.get(ABSORBED, 0.0) + shares.get(ABSORBED, 0.0)
            shares.update(part)
        return shares

    return relevance


# --- rules of ops that are not linear, or linear in several operands ----------------------------------------------------------------


def share_by(parts: Sequence[Tensor], treatment: str, epsilon: float = 1e-9) -> list[Tensor]:
    """Return the fraction that each summand takes; they add up to one everywhere.

    ``"positive"`` splits by positive part, by absolute value where no part is positive; ``"absolute"`` by absolute value;
    ``"signed"`` by value. Where all parts are zero, they share equally.
    """
    equal = 1 / len(parts)
    if treatment == "signed":
        total = torch.stack(torch.broadcast_tensors(*parts)).sum(0)
        return [torch.where(total == 0, equal, part / stabilize(total, epsilon)) for part in parts]
    weights = torch.stack([part.abs() for part in torch.broadcast_tensors(*parts)])
    if treatment == "positive":
        positive = torch.stack([part.clamp(min=0) for part in torch.broadcast_tensors(*parts)])
        weights = torch.where(positive.sum(0) > 0, positive, weights)
    total = weights.sum(0)
    return list(torch.where(total > 0, weights / total, equal))


def _summands(call: Call) -> dict[str, Tensor]:
    """The contributions to a sum by argument name, with their signs and factors."""
    values = {name: call[name] for name in ("self", "other")}
    alpha = call.arguments.get("alpha", 1)
    values["other"] = values["other"] * alpha if alpha != 1 else values["other"]
    return values


def split_sum(treatment: str = "positive") -> Rule:
    """Split the relevance of a sum of two values by one of the treatments of :func:`share_by`; what a constant takes is absorbed."""

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        values = _summands(call)
        tensors = [v if isinstance(v, Tensor) else torch.as_tensor(v).to(relevance) for v in values.values()]
        fractions = share_by(tensors, treatment)
        shares: dict[str, Tensor] = {}
        for (name, value), fraction in zip(values.items(), fractions, strict=True):
            share = relevance * fraction
            shares[name] = share.sum_to_size(value.shape) if name in call.operands else share
        return shares

    return Rule(f"split by {treatment}", relevance, ("self", "other"), both=True)


def unchanged() -> Rule:
    """Pass relevance unchanged to the operand that carries it: activations, norms, gates, constants."""
    return Rule("pass", pass_unchanged)


RULES: Mapping[str, Callable[..., Rule]] = {
    "absolute": absolute,
    "box": box,
    "epsilon": proportional,
    "pass": unchanged,
    "rap": rap,
    "split": split_sum,
    "zplus": zplus,
}
"""Every rule by name, with its options as keyword arguments."""
