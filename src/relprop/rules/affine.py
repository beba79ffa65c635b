"""Rules of ops that are linear in an operand (LRP-0, ε, z⁺, αβ, γ, w², flat, z^B, RAP), and the rule that passes relevance unchanged."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from relprop.ops.elementwise import pass_unchanged
from relprop.ops.op import ABSORBED, BackwardFunction, Call, MultiplierRule, Relevances
from relprop.rules import coefficients
from relprop.rules.coefficients import CoefficientFunction
from relprop.rules.kernel import Coefficients, Contributions, divide, in_blocks, smallest
from relprop.rules.rule import Rule, refuse_negative

BiasName = Literal["absorb", "leave out"]
_TRACE = 1e-6


def _contributions(call: Call) -> Contributions:
    linear, bias = call.as_linear()
    return Contributions(linear, call.x, call.output, bias, nonnegative=call.data in call.nonnegative)


def _shared(call: Call, relevance: Tensor, function: CoefficientFunction, *, absorbs: bool) -> tuple[Tensor, Tensor]:
    """Share relevance by coefficients, block by block; return the shares and the absorbed relevance, ``(batch,)``."""
    shares, absorbed = 0.0, relevance.new_zeros(call.batch)
    for block, part in in_blocks(_contributions(call), relevance):
        c, of_block = _trusted(call, block, part, function)
        if absorbs:
            absorbed = absorbed + c.absorbed(of_block, part, call.layout, call.batch)
        c.forget()
        shares = c.redistribute(of_block) + shares if isinstance(shares, Tensor) else c.redistribute(of_block)
    return shares, absorbed  # pyright: ignore[reportReturnType]


def _trusted(
    call: Call, c: Contributions, relevance: Tensor, function: CoefficientFunction
) -> tuple[Contributions, Coefficients]:
    """Compute a rule's coefficients, without differences where these would cost too much relevance."""
    found = function(c, relevance)
    if found.trusted(relevance, call.layout, call.batch):
        return c, found
    split = c.split()
    return split, function(split, relevance)


def _affine(name: str, function: CoefficientFunction) -> Rule:
    """A rule that is a pair of coefficients and nothing else."""

    def shared(call: Call, relevance: Tensor) -> Relevances:
        shares, absorbed = _shared(call, relevance, function, absorbs=True)
        return {call.data: shares, ABSORBED: absorbed}

    each = on_each_operand(shared)

    def backward(call: Call, relevance: Tensor) -> Relevances:
        pairwise = len(call.operands) > 1 and call.op.pairwise
        return _shared_by_product(call, relevance, function) if pairwise else each(call, relevance)

    return Rule(name, backward, ("x", "output"), local=True)


def _by_multiplier(call: Call, factor: Tensor) -> Relevances:
    """LRP-0 by multipliers: ``c_i = Σ_j w_ij c_j``, in equal parts for several operands; the bias absorbs ``b_j c_j``."""
    parts = len(call.operands)
    part = (factor / parts).contiguous() if parts > 1 else factor
    shares, absorbed = dict[str, Tensor](), 0.0
    for name in call.operands:
        linear, bias = call.as_linear(name)
        shares[name] = linear.transpose(part, linear.weight)
        if bias is not None:
            absorbed = call.layout.dot(factor, bias, call.batch)
    return shares | {ABSORBED: absorbed}


def _shared_by_product(call: Call, relevance: Tensor, function: CoefficientFunction) -> Relevances:
    """Share the relevance of a product of two values whose contributions are the same for both factors: in equal parts."""
    factors = {name: _contributions(call.on(name)) for name in call.operands}
    first, coefficients_of = _trusted(call, factors[call.data], relevance, function)
    if first is not factors[call.data]:
        factors = {name: c.split() for name, c in factors.items()}
    absorbed = first.absorbed(coefficients_of, relevance, call.layout, call.batch)
    return {name: c.redistribute(coefficients_of).div_(len(factors)) for name, c in factors.items()} | {ABSORBED: absorbed}


def rap(
    variant: Literal["paper", "released"] = "paper",
    layer: Literal["conv", "dense"] = "dense",
    reached: bool = False,
    growth: float = 0.0,
) -> Rule:
    """RAP for every layer between the first and the last (Nam et al. 2020, Eq. 7 to 9).

    Args:
        variant: ``"paper"``, or ``"released"`` for what the published code does in the given kind of ``layer``: it counts an input as
            activated where its share is not zero, and treats negative relevance of convolutions differently.
        layer: ``"conv"`` or ``"dense"``.
        reached: Whether an input whose share is exactly zero does not count as activated: nothing that is explained depends on it, as on
            the tokens that pad a text.
        growth: How much relevance of both signs grows in a layer beyond RAP's own surplus (0 in the paper): what has little of it ends up
            lower.

    Raises:
        OptionError: ``growth`` is negative or infinite.
    """
    refuse_negative("rap", growth=growth)
    released = variant == "released"
    shared_by = coefficients.rap_released_conv if released and layer == "conv" else coefficients.rap

    def backward(call: Call, relevance: Tensor) -> Relevances:
        shares, _ = _shared(call, relevance, shared_by, absorbs=False)
        if growth:
            shares.mul_(1 + growth)
        if released:
            return take_surplus(call, relevance, shares, shares.sign().abs_())
        activated = activated_inputs(call)
        return take_surplus(call, relevance, shares, activated * shares.ne(0) if reached else activated)

    return Rule("rap-released" if released else "rap", on_each_operand(backward), ("x", "output"))


def activated_inputs(call: Call) -> Tensor:
    """One for every input that is not zero, else zero.

    Without a rectifier before, values as small as rounding beside the sample's largest count as zero: GELU of −6 is 0 in float32 only.
    """
    x = call.x
    if call.data in call.nonnegative:
        return x.sign()
    layout = call.layouts[call.data]
    low, high = layout.extremes(x, call.batch)
    return (x.abs() > layout.spread(torch.maximum(high, -low) * _TRACE, x)).to(x.dtype)


def take_surplus(call: Call, relevance: Tensor, shares: Tensor, measure: Tensor) -> Relevances:
    """RAP, Eq. 8 and 9: subtract the surplus of every sample in proportion to a measure of its inputs, 1 for those activated and else 0."""
    layout, batch = call.layouts[call.data], call.batch
    total, whole = call.layout.sum(relevance, batch), layout.sum(measure, batch)
    shift = divide(layout.sum(shares, batch) - total, whole)
    taken = shares.sub_(measure * layout.spread(shift, shares))
    return {call.data: taken, ABSORBED: torch.where(whole == 0, total, 0.0)}


def absolute() -> Rule:
    """RAP's start (Eq. 5 and 6): shares by absolute influence."""
    return _affine("absolute", coefficients.absolute)


def epsilon(epsilon: float = 1e-6, bias: BiasName = "absorb") -> Rule:
    """LRP-ε (Bach et al. 2015, Eq. 58); ``epsilon=0`` is LRP-0. ``bias``: ``"absorb"`` or ``"leave out"``."""
    refuse_negative("epsilon", epsilon=epsilon)
    rule = _affine("epsilon" if epsilon else "proportional", coefficients.proportional(epsilon, bias))
    return rule if epsilon or bias != "absorb" else replace(rule, multiplier=MultiplierRule(_by_multiplier))


def zplus(epsilon: float = 0.0, bias: BiasName = "absorb") -> Rule:
    """LRP-z⁺: only positive contributions count (Montavon et al. 2017)."""
    refuse_negative("zplus", epsilon=epsilon)
    return _affine("zplus", coefficients.alpha_beta(1, 0, epsilon, bias))


def alpha_beta(alpha: float = 2.0, beta: float = 1.0, epsilon: float = 0.0, bias: BiasName = "absorb") -> Rule:
    """LRP-αβ (Bach et al. 2015, Eq. 60): ``alpha`` times the positive minus ``beta`` times the negative shares."""
    refuse_negative("alpha-beta", alpha=alpha, beta=beta, epsilon=epsilon)
    return _affine(f"alpha{alpha:g}-beta{beta:g}", coefficients.alpha_beta(alpha, beta, epsilon, bias))


def gamma(gamma: float = 0.25, epsilon: float = 0.0, bias: BiasName = "absorb") -> Rule:
    """LRP-γ (Montavon et al. 2019), for inputs and outputs of any sign: contributions that agree with the output count ``1 + γ`` times."""
    refuse_negative("gamma", gamma=gamma, epsilon=epsilon)
    return _affine("gamma", coefficients.gamma(gamma, epsilon, bias))


def _by_weight(name: str, power: int) -> Rule:
    """A rule of the weights alone: shares in proportion to ``w^power``."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        linear, _ = call.as_linear()
        weight = None if linear.weight is None else linear.weight**power
        # average pooling has equal weights, so its squared weights share like the weights themselves
        total = linear.forward(torch.ones_like(call.x[:1]).expand_as(call.x), weight)
        absorbed = call.layout.sum(torch.where(total == 0, relevance, 0.0), call.batch)
        return {call.data: linear.transpose(divide(relevance, total), weight), ABSORBED: absorbed}

    return Rule(name, on_each_operand(backward), ("x", "output"), local=True)


def wsquare() -> Rule:
    """LRP-w²: shares by squared weight (Montavon et al. 2017)."""
    return _by_weight("wsquare", 2)


def flat() -> Rule:
    """LRP-flat: equal shares over the receptive field (Lapuschkin et al. 2019)."""
    return _by_weight("flat", 0)


def zbox(*, shares_all: bool = False) -> Rule:
    """z^B for the first layer, whose inputs lie in a box ``[l, h]`` (Montavon et al. 2017; RAP, Eq. 10).

    With ``shares_all``, the relevance of outputs without any contribution (a channel that is switched off) is not absorbed: all inputs
    take equal parts.

    ``x w − l w⁺ − h w⁻`` is ``(x − l) w⁺ + (h − x) |w⁻|``, a sum without differences. Where the user fixed no bounds, they are the
    smallest and the largest value of the sample's input.
    """

    def backward(call: Call, relevance: Tensor) -> Relevances:
        linear, _ = call.as_linear()
        low, high = _box(call)
        parts = [(call.x - low, None if linear.weight is None else linear.weight.clamp(min=0))]
        if not linear.nonnegative:
            parts.append((high - call.x, linear.weight.clamp(max=0).neg_()))  # pyright: ignore[reportOptionalMemberAccess]
        first, *rest = (linear.forward(reach, weight) for reach, weight in parts)
        z = sum(rest, first)
        absorbed = call.layout.dot(
            relevance, (z <= smallest(z.dtype)).to(z.dtype), call.batch
        )  # of outputs without contributions
        p = divide(relevance, z)
        first, *rest = (reach * linear.transpose(p, weight) for reach, weight in parts)
        shares = sum(rest, first)
        if not shares_all:
            return {call.data: shares, ABSORBED: absorbed}
        return {call.data: shares + call.layouts[call.data].spread(absorbed * (call.batch / call.x.numel()), call.x)}

    return Rule("zbox", on_each_operand(backward), ("x",))


def _box(call: Call) -> tuple[Tensor, Tensor]:
    """The bounds of the input, both broadcastable over it."""
    if call.bounds is not None:
        return call.bounds
    layout = call.layouts[call.data]
    low, high = (layout.spread(bound, call.x) for bound in layout.extremes(call.x, call.batch))
    return low, high


def on_each_operand(relevance_of: BackwardFunction) -> BackwardFunction:
    """Extend a rule for one operand to products of two values: each takes half of the relevance, the other held constant."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        if len(call.operands) == 1:
            return relevance_of(call, relevance)
        shares: dict[str, Tensor] = {}
        for name in call.operands:
            part = dict(relevance_of(call.on(name), relevance / len(call.operands)))
            absorbed = part.pop(ABSORBED, 0.0)
            shares |= part | {ABSORBED: shares.get(ABSORBED, 0.0) + absorbed}
        return shares

    return backward


def unchanged() -> Rule:
    """Pass relevance unchanged to the operand: activations, norms, scales; the operands of a product share equally."""

    def backward(call: Call, relevance: Tensor) -> Relevances:
        parts = len(call.operands)
        return {
            k: v
            for n in call.operands
            for k, v in pass_unchanged(call.on(n), relevance / parts if parts > 1 else relevance).items()
        }

    return Rule("pass", backward, local=True, passes=True)
