"""The rules: per name, how one op's relevance is shared among its inputs. A method chooses one rule per role."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from relprop import coefficients
from relprop.coefficients import CoefficientFunction
from relprop.errors import OptionError
from relprop.kernel import Contributions, divide, divide_signed, in_blocks
from relprop.ops.elementwise import pass_unchanged
from relprop.ops.registry import ABSORBED, Call, PerUnit, RelevanceFunction, Relevances

BiasName = Literal["absorb", "leave out"]
SumName = Literal["positive", "absolute", "signed"]
_TRACE = 1e-16


@dataclass(frozen=True)
class Rule:
    """How relevance passes one op.

    Attributes:
        name: Printed in the plan.
        relevance: ``(call, relevance of the output) -> relevance by argument``.
        needs: Values that it reads: ``"x"`` (the operands that carry relevance), ``"output"``, or argument names.
        all_operands: Whether gates and attention weights take relevance too, instead of counting as constants.
        local: Whether shares depend on nothing but the outputs that have relevance and what they are made of.
        per_unit: The same for relevance per unit, where shares are in proportion to signed values, and nothing stabilizes them.
        passes: Whether relevance passes unchanged.
    """

    name: str
    relevance: RelevanceFunction
    needs: tuple[str, ...] = ()
    all_operands: bool = False
    local: bool = False
    per_unit: PerUnit | None = None
    passes: bool = False


def _refuse_negative(rule: str, **options: float) -> None:
    for name, value in options.items():
        if not (value >= 0 and math.isfinite(value)):
            raise OptionError(f"Option {name}={value!r} of rule {rule!r} must not be negative or infinite.")


# --- rules of ops that are linear in one operand ---------------------------------------------------------------------------------


def _contributions(call: Call) -> Contributions:
    linear, bias = call.linear(call)  # pyright: ignore[reportOptionalCall]
    return Contributions(linear, call.x, call.output, bias, nonnegative=call.data in call.nonnegative)


def _shared(call: Call, relevance: Tensor, function: CoefficientFunction, *, loses: bool) -> tuple[Tensor, Tensor]:
    """Share relevance by coefficients, block by block; return it with what nobody took, per sample."""
    shares, lost = 0.0, relevance.new_zeros(call.batch)
    for c, part in in_blocks(_contributions(call), relevance):
        of_block = function(c, part)
        if loses:
            lost = lost + c.lost(of_block, part, call.layout, call.batch)
        c.forget()
        shares = c.redistribute(of_block) + shares if isinstance(shares, Tensor) else c.redistribute(of_block)
    return shares, lost  # pyright: ignore[reportReturnType]


def _affine(name: str, function: CoefficientFunction) -> Rule:
    """A rule that is a pair of coefficients and nothing else."""

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        if len(call.operands) > 1:
            return _shared_by_product(call, relevance, function)
        shares, lost = _shared(call, relevance, function, loses=True)
        return {call.data: shares, ABSORBED: lost}

    return Rule(name, relevance, ("x", "output"), local=True)


def _by_unit(call: Call, factor: Tensor) -> Relevances:
    """Of ``z_j = Σ_i x_i w_ij + b_j`` and relevance ``z_j c_j``, every operand takes ``x_i Σ_j w_ij c_j``, in equal parts, the bias ``b_j c_j``."""
    parts = len(call.operands)
    part = (factor / parts).contiguous() if parts > 1 else factor
    shares, lost = dict[str, Tensor](), factor.new_zeros(call.batch)
    for name in call.operands:
        linear, bias = call.linear(call if name == call.data else replace(call, data=name))  # pyright: ignore[reportOptionalCall]
        shares[name] = linear.transpose(part, linear.weight)
        if bias is not None:
            lost = call.layout.dot(factor, bias, call.batch)
    return shares | {ABSORBED: lost}


def _shared_by_product(call: Call, relevance: Tensor, function: CoefficientFunction) -> Relevances:
    """Share the relevance of a product of values by coefficients, equally among them: all have the same contributions."""
    factors = {name: _contributions(replace(call, data=name)) for name in call.operands}
    first = factors[call.data]
    coefficients_of = function(first, relevance)
    lost = first.lost(coefficients_of, relevance, call.layout, call.batch)
    return {name: c.redistribute(coefficients_of).div_(len(factors)) for name, c in factors.items()} | {ABSORBED: lost}


def rap(variant: Literal["paper", "released"] = "paper", layer: Literal["conv", "dense"] = "dense") -> Rule:
    """RAP for every layer between the first and the last (Nam et al. 2020, Eq. 7 to 9).

    Args:
        variant: ``"paper"``, or ``"released"`` for what the published code does in the given kind of ``layer``: it counts an input as
            activated where its share is not zero, and treats negative relevance of convolutions differently.
        layer: ``"conv"`` or ``"dense"``.
    """
    released = variant == "released"
    shared_by = coefficients.rap_released_conv if released and layer == "conv" else coefficients.rap

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        shares, _ = _shared(call, relevance, shared_by, loses=False)
        return _take_surplus(call, relevance, shares, counted=shares if released else call.x)

    return Rule("rap-released" if released else "rap", _on_each_operand(relevance), ("x", "output"))


def _take_surplus(call: Call, relevance: Tensor, shares: Tensor, *, counted: Tensor) -> Relevances:
    """RAP, Eq. 8 and 9: take the surplus of every sample off its activated inputs, those not zero in ``counted``, in equal parts."""
    layout, batch = call.layouts[call.data], call.batch
    total, activated = call.layout.sum(relevance, batch), counted.sign().abs_()
    count = layout.sum(activated, batch)
    shift = divide(layout.sum(shares, batch) - total, count)
    taken = shares.sub_(layout.spread(shift, shares)).mul_(activated)
    return {call.data: taken, ABSORBED: torch.where(count == 0, total, 0.0)}


def absolute() -> Rule:
    """RAP's start (Eq. 5 and 6): shares by absolute influence."""
    return _affine("absolute", coefficients.absolute)


def epsilon(epsilon: float = 1e-6, bias: BiasName = "absorb") -> Rule:
    """LRP-ε (Bach et al. 2015, Eq. 58); ``epsilon=0`` is LRP-0. ``bias``: ``"absorb"`` or ``"leave out"``."""
    _refuse_negative("epsilon", epsilon=epsilon)
    rule = _affine("epsilon" if epsilon else "proportional", coefficients.proportional(epsilon, bias))
    return rule if epsilon or bias != "absorb" else replace(rule, per_unit=PerUnit(_by_unit))


def zplus(epsilon: float = 0.0, bias: BiasName = "absorb") -> Rule:
    """LRP-z⁺: only positive contributions count (Montavon et al. 2017)."""
    _refuse_negative("zplus", epsilon=epsilon)
    return _affine("zplus", coefficients.alpha_beta(1, 0, epsilon, bias))


def alpha_beta(alpha: float = 2.0, beta: float = 1.0, epsilon: float = 0.0, bias: BiasName = "absorb") -> Rule:
    """LRP-αβ (Bach et al. 2015, Eq. 60): ``alpha`` times the positive minus ``beta`` times the negative shares."""
    _refuse_negative("alpha-beta", alpha=alpha, beta=beta, epsilon=epsilon)
    return _affine(f"alpha{alpha:g}-beta{beta:g}", coefficients.alpha_beta(alpha, beta, epsilon, bias))


def gamma(gamma: float = 0.25, epsilon: float = 0.0, bias: BiasName = "absorb") -> Rule:
    """LRP-γ (Montavon et al. 2019), for inputs and outputs of any sign: contributions that agree with the output count ``1 + γ`` times."""
    _refuse_negative("gamma", gamma=gamma, epsilon=epsilon)
    return _affine("gamma", coefficients.gamma(gamma, epsilon, bias))


def _by_weight(name: str, power: int) -> Rule:
    """A rule that looks at the weights alone, raised to ``power``."""

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        linear, _ = call.linear(call)  # pyright: ignore[reportOptionalCall]
        weight = None if linear.weight is None else linear.weight**power
        # average pooling has equal weights, so its squared weights share like the weights themselves
        total = linear.forward(torch.ones_like(call.x[:1]).expand_as(call.x), weight)
        lost = call.layout.sum(torch.where(total == 0, relevance, 0.0), call.batch)
        return {call.data: linear.transpose(divide(relevance, total), weight), ABSORBED: lost}

    return Rule(name, _on_each_operand(relevance), ("x", "output"), local=True)


def wsquare() -> Rule:
    """LRP-w²: shares by squared weight (Montavon et al. 2017)."""
    return _by_weight("wsquare", 2)


def flat() -> Rule:
    """LRP-flat: equal shares over the receptive field (Lapuschkin et al. 2019)."""
    return _by_weight("flat", 0)


def box(*, shares_all: bool = False) -> Rule:
    """z^B for the first layer, whose inputs lie in a box ``[l, h]`` (Montavon et al. 2017; RAP, Eq. 10).

    With ``shares_all``, what outputs without any contribution hold (a channel that is switched off) is not lost: all inputs take equal parts.

    ``x w − l w⁺ − h w⁻`` is ``(x − c) w + d |w|`` with the middle ``c`` and half the width ``d`` of the box. Where the user fixed no
    bounds, they are the smallest and the largest value of the sample's input.
    """

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        linear, _ = call.linear(call)  # pyright: ignore[reportOptionalCall]
        x, weight = call.x, linear.weight
        magnitude = None if weight is None else weight.abs()
        middle, half = _box(call)
        offset = x - middle
        reach = linear.forward(half.expand_as(x), magnitude)
        z = linear.forward(offset, weight) + reach
        floor = reach * (64 * torch.finfo(z.dtype).eps)
        p = divide(relevance, z, floor)
        shares = offset * linear.transpose(p, weight) + half * linear.transpose(p, magnitude)
        lost = call.layout.dot(relevance, (floor - z).sign_().add_(1).clamp_(max=1), call.batch)  # of outputs not above the floor
        if not shares_all:
            return {call.data: shares, ABSORBED: lost}
        return {call.data: shares + call.layouts[call.data].spread(lost * (call.batch / x.numel()), x)}

    return Rule("box", _on_each_operand(relevance), ("x",))


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
        if len(call.operands) == 1:
            return relevance_of(call, relevance)
        shares: dict[str, Tensor] = {}
        for name in call.operands:
            part = dict(relevance_of(replace(call, data=name), relevance / len(call.operands)))
            lost = part.pop(ABSORBED, 0.0)
            shares |= part | {ABSORBED: shares.get(ABSORBED, 0.0) + lost}
        return shares

    return relevance


# --- rules of ops that are not linear, or linear in several operands ----------------------------------------------------------------


def _split_signed(call: Call, a: Tensor, b: Tensor, relevance: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """By value, as LRP-ε; the third is what ``epsilon`` holds, or a sum of zero: neither takes it."""
    total = a + b
    per_unit = divide_signed(relevance, total, epsilon)
    lost = call.layout.sum(relevance, call.batch) - call.layout.dot(per_unit, total, call.batch)
    return a * per_unit, per_unit.mul_(b), lost


def _summands_by_unit(call: Call, factor: Tensor) -> Relevances:
    """Every summand takes what comes to it per unit; a constant's share is absorbed."""
    shares, lost = dict[str, Tensor](), factor.new_zeros(call.batch)
    for name, scale in (("self", 1), ("other", call.arguments.get("alpha", 1))):
        value, part = call[name], factor if scale == 1 else factor * scale
        if name in call.operands:
            shares[name] = part.sum_to_size(value.shape)
        else:
            lost = call.layout.dot(part, torch.as_tensor(value).to(part), call.batch)
    return shares | {ABSORBED: lost}


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
    _refuse_negative("split", epsilon=epsilon)

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        a, b, alpha = call["self"], call["other"], call.arguments.get("alpha", 1)
        a, b = (v if isinstance(v, Tensor) else torch.as_tensor(v).to(relevance) for v in (a, b))
        second = b if alpha == 1 else b * alpha
        if treatment == "signed":
            *parts, lost = _split_signed(call, a, second, relevance, epsilon)
        else:
            share = _counted(a, treatment, nonnegative="self" in call.nonnegative)
            other = _counted(second, treatment, nonnegative="other" in call.nonnegative and alpha >= 0)
            parts, lost = _split_by(share, other, relevance), 0.0
        shares = {"self": (a, parts[0]), "other": (b, parts[1])}
        return {ABSORBED: lost} | {
            name: share.sum_to_size(v.shape) if name in call.operands else share for name, (v, share) in shares.items()
        }

    per_unit = PerUnit(_summands_by_unit, ("constants",)) if treatment == "signed" and not epsilon else None
    return Rule(f"split by {treatment}", relevance, ("self", "other"), local=True, per_unit=per_unit)


def unchanged() -> Rule:
    """Pass relevance unchanged to the operand that carries it: activations, norms, constants; operands of a product share equally."""

    def relevance(call: Call, relevance: Tensor) -> Relevances:
        parts = len(call.operands)
        return {
            k: v
            for n in call.operands
            for k, v in pass_unchanged(replace(call, data=n), relevance / parts if parts > 1 else relevance).items()
        }

    return Rule("pass", relevance, local=True, passes=True)


RULES: Mapping[str, Callable[..., Rule]] = {
    "absolute": absolute,
    "alpha-beta": alpha_beta,
    "box": box,
    "epsilon": epsilon,
    "flat": flat,
    "gamma": gamma,
    "pass": unchanged,
    "rap": rap,
    "split": split_sum,
    "wsquare": wsquare,
    "zplus": zplus,
}
"""Every rule by name, with its options as keyword arguments."""
