"""One kernel for all sign-splitting rules: a rule is two coefficients per output, and this file turns them into relevance.

For an op ``z_j = Σ_i z_ij`` with contributions ``z_ij = x_i w_ij`` and coefficients ``p_j``, ``n_j`` the relevance of input ``i`` is
``Σ_j (p_j z⁺_ij + n_j |z⁻_ij|)``. Where no ``x`` is negative, that is ``x_i [w⁺ᵀ p + |w⁻|ᵀ n]_i``,
or ``x_i [w⁺ᵀ (p + n) − wᵀ n]_i``, which spares a pass over the weights. For ``x`` of both signs, with
``a_j = Σ_i |z_ij|``, which is the same op on ``|x|`` and ``|w|``, it is ``|x_i| [|w|ᵀ (p + n)/2]_i + x_i [wᵀ (p − n)/2]_i``.

Two transposed applications either way, and one forward application for the sums ``z⁺``, ``|z⁻|`` and ``a``: the others follow from the
output by subtraction. A difference of nearly equal numbers is rounding error, and a coefficient divides by it, so a rule states how far
its sums may be off; where that could cost more than :data:`TOLERANCE` of the relevance, :class:`SplitContributions` computes every sum
and every share from parts of one sign, at up to twice the price.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from relprop.ops.layout import SampleLayout
from relprop.ops.linear import Linear

TOLERANCE = 64
"""How much of the relevance of a layer may be lost to differences, in units of the machine epsilon."""

_WEIGHTS = ("_positive_weight", "_negative_weight", "_magnitude")

Doubt = tuple[Tensor, Tensor | None]
"""A coefficient, and how far the sum that it divides by may be off; None for sums without a difference."""


@dataclass(frozen=True)
class Coefficients:
    """The coefficients ``p_j`` and ``n_j`` of a rule.

    Attributes:
        p: Multiplies positive contributions.
        n: Multiplies the magnitude of negative contributions; None stands for zero.
        opposite: Whether ``n = −p``.
        agree: Whether no ``n`` has another sign than its ``p`` or is larger.
        absorbed: Sums what they leave of the relevance, per sample, ``(batch,)``, where that is known without all contributions.
        doubts: The coefficients whose sums may be off.
    """

    p: Tensor
    n: Tensor | None = None
    opposite: bool = False
    agree: bool = False
    absorbed: Callable[[SampleLayout, int], Tensor] | None = None
    doubts: Sequence[Doubt] = ()

    def trusted(self, relevance: Tensor, layout: SampleLayout, batch: int) -> bool:
        """Whether rounding errors of the sums cost no sample more than :data:`TOLERANCE` of its relevance."""
        lost = [layout.dot(coefficient.abs(), noise, batch) for coefficient, noise in self.doubts if noise is not None]
        if not lost:
            return True
        allowed = layout.sum(relevance.abs(), batch) * (TOLERANCE * torch.finfo(relevance.dtype).eps)
        enough = sum(lost) <= allowed
        try:
            return bool(enough.all())
        except RuntimeError:  # several targets, which ``vmap`` maps
            return bool(torch.func.debug_unwrap(enough).all())


def over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return ``numerator / denominator`` in the memory of ``denominator``: on CPUs new memory costs more than the division."""
    if numerator.shape != denominator.shape:
        return numerator / denominator
    try:
        return torch.div(numerator, denominator, out=denominator)
    except RuntimeError:  # another dtype, or one denominator for the numerators of several targets, which ``vmap`` maps
        return numerator / denominator


def divide(numerator: Tensor, denominator: Tensor, noise: Tensor | None = None) -> Tensor:
    """Divide by something that is not negative and off by up to ``noise``; zero where it is zero: an output without contributions passes nothing."""
    if noise is not None:
        return over(numerator, torch.maximum(denominator, noise))
    # dividing by infinity is far faster on CPUs than a mask
    return over(numerator, functional.threshold(denominator, smallest(denominator.dtype), math.inf))


def divide_signed(numerator: Tensor, denominator: Tensor, epsilon: float = 0.0) -> Tensor:
    """Return ``numerator / (denominator + ε · sign(denominator))``, zero where the denominator is zero."""
    nothing = 0.0 if epsilon else torch.finfo(denominator.dtype).tiny
    magnitude = functional.threshold(denominator.abs(), nothing, math.inf, inplace=True)
    return over(numerator, (magnitude.add_(epsilon) if epsilon else magnitude).copysign_(denominator))


def divide_stabilized(relevance: Tensor, z: Tensor, epsilon: float) -> Tensor:
    """Return ``relevance / (z + ε · sign(z))``; without ``epsilon``, zeros pass nothing."""
    return over(relevance, stabilize(z, epsilon)) if epsilon else divide_signed(relevance, z)


def smallest(dtype: torch.dtype) -> float:
    """A sum of contributions up to here counts as zero: relevance divided by it could overflow."""
    limits = torch.finfo(dtype)
    return limits.tiny / limits.eps


def stabilize(z: Tensor, epsilon: float) -> Tensor:
    """Return ``z + ε · sign(z)``, with the sign of zero taken as positive (Bach et al. 2015, Eq. 58)."""
    return torch.copysign(torch.full((), epsilon, dtype=z.dtype, device=z.device), z).add_(z)


class Contributions:
    """The sums that rules divide by: ``z``, ``a = Σ|z_ij|``, ``z⁺`` and ``|z⁻|``, each computed when first asked for.

    Args:
        linear: The op.
        x: Its operand.
        output: What the op returned, bias included.
        bias: The bias, broadcastable over the output.
        nonnegative: Whether ``x`` cannot be negative.
    """

    def __init__(self, linear: Linear, x: Tensor, output: Tensor, bias: Tensor | None, *, nonnegative: bool) -> None:
        self.linear, self.x, self.output, self.bias = linear, x, output, bias
        self.input_nonnegative = nonnegative
        self.all_positive = nonnegative and linear.nonnegative

    def rows(self, block: slice) -> "Contributions":
        """The same for a block of the outputs of a dense layer."""
        if block == slice(None):
            return self
        weight = None if self.linear.weight is None else self.linear.weight[block]
        bias = None if self.bias is None else self.bias[block]
        return Contributions(
            replace(self.linear, weight=weight), self.x, self.output[..., block], bias, nonnegative=self.input_nonnegative
        )

    def split(self) -> "SplitContributions":
        """The same without differences; what is none already is kept."""
        split = SplitContributions(self.linear, self.x, self.output, self.bias, nonnegative=self.input_nonnegative)
        kept = _WEIGHTS if self.input_nonnegative else (*_WEIGHTS, "absolute")
        split.__dict__.update((name, self.__dict__[name]) for name in kept if name in self.__dict__)
        return split

    @cached_property
    def z(self) -> Tensor:
        """``z_j``, the output without the bias."""
        return self.output if self.bias is None else self.output - self.bias

    @cached_property
    def _positive_weight(self) -> Tensor | None:
        return None if self.linear.weight is None else self.linear.weight.clamp(min=0)

    @cached_property
    def _negative_weight(self) -> Tensor | None:
        weight, positive = self.linear.weight, self._positive_weight
        return None if weight is None or positive is None else positive - weight  # one pass, and exact

    @cached_property
    def _magnitude(self) -> Tensor | None:
        weight = self.linear.weight
        return weight if weight is None or self.linear.nonnegative else weight.abs()

    @cached_property
    def absolute(self) -> Tensor:
        """``a_j``, the sum of absolute contributions."""
        if self.all_positive:
            return self.z
        if self.input_nonnegative:
            negated = torch.add(self.output, self.positive, alpha=-2)
            return negated.neg_() if self.bias is None else torch.sub(self.bias, negated)
        return self.linear.forward(self.x.abs(), self._magnitude)

    @cached_property
    def positive(self) -> Tensor:
        """``z⁺_j``, the sum of positive contributions."""
        if self.all_positive:
            return self.z
        if self.input_nonnegative:
            return self.linear.forward(self.x, self._positive_weight)
        return (self.absolute + self.z) / 2

    @cached_property
    def negative(self) -> Tensor:
        """``|z⁻_j|``, the absolute sum of negative contributions."""
        if self.all_positive:
            return torch.zeros_like(self.z)
        return self.positive - self.z if self.input_nonnegative else (self.absolute - self.z) / 2

    @property
    def positive_noise(self) -> Tensor | None:
        """How far ``z⁺`` may be off."""
        return None if self.input_nonnegative else self._noise(self.absolute)

    @property
    def negative_noise(self) -> Tensor | None:
        """How far ``|z⁻|`` may be off."""
        return None if self.all_positive else self._noise(self.positive if self.input_nonnegative else self.absolute)

    @property
    def absolute_noise(self) -> Tensor | None:
        """How far ``a`` may be off, beyond its own rounding: by that of a bias that was added to the output."""
        return None if self.bias is None or not self.input_nonnegative else self._noise(0.0)

    def _noise(self, subtracted: Tensor | float) -> Tensor | None:
        """The rounding error of a difference in which the bias takes part."""
        limits = torch.finfo(self.output.dtype)
        # what is as small as the floor counts as noise, which divides no relevance to infinity
        floor = torch.full((), math.sqrt(limits.tiny / limits.eps), dtype=self.output.dtype, device=self.output.device)
        of_bias = floor if self.bias is None else torch.add(floor, self.bias.abs(), alpha=limits.eps)
        return torch.add(of_bias, subtracted, alpha=limits.eps) if isinstance(subtracted, Tensor) else of_bias

    def positive_and(self, offset: Tensor | float) -> Tensor:
        """``z⁺_j`` plus something that is not negative, such as the positive part of the bias; in one pass where the op can."""
        return self._raised(self._positive_weight, offset) if self._direct else _plus(self.positive, offset)

    def both_and(
        self, up: Tensor | float, down: Tensor | float
    ) -> tuple[tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]:
        """``z⁺_j + up`` and ``|z⁻_j| + down``, each with how far it may be off; ``up − down`` is the bias, or zero."""
        if not self._direct:
            return (_plus(self.positive, up), self.positive_noise), (_plus(self.negative, down), self.negative_noise)
        negative = self._raised(self._negative_weight, down)
        total = self.output if isinstance(up, Tensor) else self.z
        return (total + negative, self._noise(negative)), (negative, None)

    @property
    def _direct(self) -> bool:
        return self.input_nonnegative and not self.all_positive

    def _raised(self, weight: Tensor | None, offset: Tensor | float) -> Tensor:
        """The op on ``x`` and another weight, plus an offset."""
        if isinstance(offset, Tensor) and self.linear.raised is not None:
            return self.linear.raised(self.x, weight, offset.flatten())
        return _plus(self.linear.forward(self.x, weight), offset)

    def forget(self) -> None:
        """Let go of sums that are no longer needed."""
        for name in ("z", "absolute", "positive", "negative"):
            self.__dict__.pop(name, None)

    def redistribute(self, coefficients: Coefficients) -> Tensor:
        """Return ``Σ_j (p_j z⁺_ij + n_j |z⁻_ij|)``, shaped like ``x``."""
        p, n, linear, x = coefficients.p, coefficients.n, self.linear, self.x
        if self.all_positive or coefficients.opposite:
            return self._times(x, linear.transpose(p, linear.weight))
        if self.input_nonnegative and coefficients.agree and n is not None:
            return (linear.transpose(p + n, self._positive_weight) - linear.transpose(n, linear.weight)).mul_(x)
        if self.input_nonnegative:
            return self._times(x, self._transposed(p, n))
        if n is None:  # parts of one sign take two transposed applications too
            return self.split().redistribute(coefficients)
        by_magnitude = self._times(x.abs(), linear.transpose((p + n) / 2, self._magnitude))
        return by_magnitude + self._times(x, linear.transpose((p - n) / 2, linear.weight))

    def _transposed(self, p: Tensor | None, n: Tensor | None) -> Tensor:
        """``w⁺ᵀ p + |w⁻|ᵀ n``; None stands for zero."""
        back = self.linear.transpose
        if n is None or self.linear.nonnegative:
            return back(p, self._positive_weight)  # pyright: ignore[reportArgumentType] - one of them is there
        by_negative = back(n, self._negative_weight)
        return by_negative if p is None else by_negative.add_(back(p, self._positive_weight))

    def _times(self, x: Tensor, transposed: Tensor) -> Tensor:
        """``x · wᵀ c``, in place unless ``wᵀ c`` may be an expanded view, as it is for ops with fixed weights."""
        return x * transposed if self.linear.weight is None else transposed.mul_(x)

    def absorbed(self, coefficients: Coefficients, relevance: Tensor, layout: SampleLayout, batch: int) -> Tensor:
        """Sum what the coefficients leave of the relevance, per sample: shape ``(batch,)``."""
        if coefficients.absorbed is not None:
            return coefficients.absorbed(layout, batch)
        return layout.sum(relevance, batch) - self._handed_on(coefficients, layout, batch)

    def _handed_on(self, coefficients: Coefficients, layout: SampleLayout, batch: int) -> Tensor:
        """Sum what the coefficients share out, ``p_j z⁺_j + n_j |z⁻_j|``, per sample: shape ``(batch,)``."""
        p, n = coefficients.p, coefficients.n
        if coefficients.opposite:
            of_bias = 0.0 if self.bias is None else layout.dot(p, self.bias, batch)
            return layout.dot(p, self.output, batch) - of_bias
        shared = layout.dot(p, self.positive, batch)
        return shared if n is None else shared + layout.dot(n, self.negative, batch)


class SplitContributions(Contributions):
    """The same sums and shares from parts of one sign: no differences, so that even the smallest of them is exact up to rounding."""

    def _noise(self, subtracted: Tensor | float) -> None:
        """No sum is a difference."""

    @cached_property
    def _parts(self) -> tuple[Tensor, Tensor | None]:
        """``x⁺`` and ``|x⁻|``."""
        return (self.x, None) if self.input_nonnegative else (self.x.clamp(min=0), self.x.clamp(max=0).neg_())

    def _forward(self, by_positive: Tensor | None, by_negative: Tensor | None) -> Tensor:
        """``w⁺`` of one operand plus ``|w⁻|`` of the other; None stands for zero."""
        forward = self.linear.forward
        if by_negative is None or self.linear.nonnegative:
            return torch.zeros_like(self.output) if by_positive is None else forward(by_positive, self._positive_weight)
        total = forward(by_negative, self._negative_weight)
        return total if by_positive is None else total.add_(forward(by_positive, self._positive_weight))

    @cached_property
    def positive(self) -> Tensor:
        """``z⁺_j``, the sum of positive contributions."""
        up, down = self._parts
        return self._forward(up, down)

    @cached_property
    def negative(self) -> Tensor:
        """``|z⁻_j|``, the absolute sum of negative contributions."""
        up, down = self._parts
        return self._forward(down, up)

    @cached_property
    def absolute(self) -> Tensor:
        """``a_j``, the sum of absolute contributions."""
        return self.positive + self.negative if self.input_nonnegative else super().absolute

    @property
    def _direct(self) -> bool:
        return False

    def redistribute(self, coefficients: Coefficients) -> Tensor:
        """Return ``Σ_j (p_j z⁺_ij + n_j |z⁻_ij|)``, shaped like ``x``."""
        up, down = self._parts
        if coefficients.opposite or down is None:
            return super().redistribute(coefficients)
        p, n = coefficients.p, coefficients.n
        if coefficients.agree and n is not None:  # all contributions take n, and positive ones what p has more
            both = self._times(self.x.abs(), self.linear.transpose(n, self._magnitude))
            return both + self.redistribute(Coefficients(p - n))
        by_up = self._times(up, self._transposed(p, n))
        return by_up if n is None and self.linear.nonnegative else by_up + self._times(down, self._transposed(n, p))


def _plus(total: Tensor, offset: Tensor | float) -> Tensor:
    return total + offset if isinstance(offset, Tensor) or offset else total


def in_blocks(contributions: Contributions, relevance: Tensor) -> Iterator[tuple[Contributions, Tensor]]:
    """Pair the contributions with the relevance of the outputs, block by block."""
    for block in contributions.linear.blocks(contributions.x):
        yield contributions.rows(block), relevance if block == slice(None) else relevance[..., block]
