"""One kernel for all sign-splitting rules: a rule is two coefficients per output, and this file turns them into relevance.

For an op ``z_j = Σ_i z_ij`` with contributions ``z_ij = x_i w_ij`` and coefficients ``p_j``, ``n_j`` the relevance of input ``i`` is
``Σ_j (p_j z⁺_ij + n_j |z⁻_ij|)``. With ``a_j = Σ_i |z_ij|``, which is the same op on ``|x|`` and ``|w|``, that is
``|x_i| [|w|ᵀ (p + n)/2]_i + x_i [wᵀ (p − n)/2]_i``: two transposed applications, whatever the signs of ``x`` and ``w``.
Where no ``x`` is negative, ``w⁺`` and ``w`` serve as well, and true zeros stay zero: ``x_i [w⁺ᵀ (p + n) − wᵀ n]_i``.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from relprop.ops.layout import SampleLayout
from relprop.ops.linear import Linear


@dataclass(frozen=True)
class Coefficients:
    """``p_j`` and ``n_j`` of a rule; ``n=None`` stands for zero, ``opposite`` for ``n = −p``.

    ``absorbed`` sums what they leave of the relevance, per sample, ``(batch,)``, where that is known without all contributions.
    """

    p: Tensor
    n: Tensor | None = None
    opposite: bool = False
    absorbed: Callable[[SampleLayout, int], Tensor] | None = None


def over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return ``numerator / denominator`` in the memory of ``denominator``: on CPUs new memory costs more than the division."""
    if numerator.shape != denominator.shape:
        return numerator / denominator
    try:
        return torch.div(numerator, denominator, out=denominator)
    except RuntimeError:  # another dtype, or one denominator for the numerators of several targets, which ``vmap`` maps
        return numerator / denominator


def divide(numerator: Tensor, denominator: Tensor, floor: Tensor | float = 0.0) -> Tensor:
    """Divide by something that is not negative; zero where it is not above ``floor``: an output without contributions passes nothing."""
    # dividing by infinity is far faster on CPUs than a mask
    if isinstance(floor, float):
        return over(numerator, functional.threshold(denominator, max(floor, smallest(denominator.dtype)), math.inf))
    return over(numerator, functional.threshold(denominator - floor, 0.0, math.inf).add_(floor))


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

    @cached_property
    def z(self) -> Tensor:
        """``z_j``, the output without the bias."""
        return self.output if self.bias is None else self.output - self.bias

    @cached_property
    def _positive_weight(self) -> Tensor | None:
        return None if self.linear.weight is None else self.linear.weight.clamp(min=0)

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

    def positive_and(self, offset: Tensor | float) -> Tensor:
        """``z⁺_j`` plus something that is not negative, such as the positive part of the bias; in one pass where the op can."""
        raised = self.linear.raised
        if isinstance(offset, Tensor) and raised is not None and self.input_nonnegative and not self.all_positive:
            return raised(self.x, self._positive_weight, offset.flatten())
        return self.positive + offset

    @cached_property
    def negative(self) -> Tensor:
        """``|z⁻_j|``, the absolute sum of negative contributions."""
        if self.all_positive:
            return torch.zeros_like(self.z)
        return self.positive - self.z if self.input_nonnegative else (self.absolute - self.z) / 2

    @property
    def rounding(self) -> Tensor:
        """Below this, a positive or negative sum is a difference of nearly equal numbers: half of its digits are noise, so it is zero."""
        dtype = self.output.dtype
        return (self.absolute * math.sqrt(torch.finfo(dtype).eps)).clamp_(min=smallest(dtype))

    @property
    def positive_floor(self) -> Tensor | float:
        """``z⁺`` up to here counts as zero."""
        return 0.0 if self.input_nonnegative else self.rounding

    def forget(self) -> None:
        """Let go of sums that are no longer needed."""
        for name in ("z", "absolute", "positive", "negative"):
            self.__dict__.pop(name, None)

    def redistribute(self, coefficients: Coefficients) -> Tensor:
        """Return ``Σ_j (p_j z⁺_ij + n_j |z⁻_ij|)``, shaped like ``x``."""
        p, n, linear, x = coefficients.p, coefficients.n, self.linear, self.x
        if self.all_positive or coefficients.opposite:
            return self._times(x, linear.transpose(p, linear.weight))
        if self.input_nonnegative:
            if n is None:
                return self._times(x, linear.transpose(p, self._positive_weight))
            return (linear.transpose(p + n, self._positive_weight) - linear.transpose(n, linear.weight)).mul_(x)
        both, difference = (p / 2, p / 2) if n is None else ((p + n) / 2, (p - n) / 2)
        by_magnitude = self._times(x.abs(), linear.transpose(both, self._magnitude))
        return by_magnitude + self._times(x, linear.transpose(difference, linear.weight))

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


def in_blocks(contributions: Contributions, relevance: Tensor) -> Iterator[tuple[Contributions, Tensor]]:
    """Pair the contributions with the relevance of the outputs, block by block."""
    for block in contributions.linear.blocks(contributions.x):
        yield contributions.rows(block), relevance if block == slice(None) else relevance[..., block]
