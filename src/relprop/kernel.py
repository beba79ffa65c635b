"""One kernel for all sign-splitting rules: a rule is two coefficients per output, and this file turns them into relevance.

For an op ``z_j = Σ_i z_ij`` with contributions ``z_ij = x_i w_ij`` and coefficients ``p_j``, ``n_j`` the relevance of input ``i`` is
``Σ_j (p_j z⁺_ij + n_j |z⁻_ij|)``. With ``a_j = Σ_i |z_ij|``, which is the same op on ``|x|`` and ``|w|``, that is
``|x_i| [|w|ᵀ (p + n)/2]_i + x_i [wᵀ (p − n)/2]_i``: two transposed applications, whatever the signs of ``x`` and ``w``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Linear:
    """An op that is linear in one operand while its weight is held constant; the bias is left out.

    Attributes:
        weight: The weight, or None where the op's weights are fixed and non-negative, as in average pooling.
        forward: ``(x, weight) -> z``.
        transpose: ``(c, weight) -> wᵀ c``, shaped like ``x``.
        nonnegative: Whether no weight is negative.
    """

    weight: Tensor | None
    forward: Callable[[Tensor, Tensor | None], Tensor]
    transpose: Callable[[Tensor, Tensor | None], Tensor]
    nonnegative: bool = False


def divide(numerator: Tensor, denominator: Tensor, floor: Tensor | float = 0.0) -> Tensor:
    """Divide, with zero where ``|denominator| ≤ floor``: an output without contributions passes nothing on."""
    return torch.where(denominator.abs() > floor, numerator / denominator, 0.0)


def stabilize(z: Tensor, epsilon: float) -> Tensor:
    """Return ``z + ε · sign(z)``, with the sign of zero taken as positive (Bach et al. 2015, Eq. 58)."""
    return z + torch.where(z >= 0, epsilon, -epsilon).to(z.dtype)


class Contributions:
    """The sums that rules divide by: ``z``, ``a = Σ|z_ij|``, ``z⁺`` and ``|z⁻|``, each computed when first asked for."""

    def __init__(self, linear: Linear, x: Tensor, z: Tensor, *, nonnegative: bool) -> None:
        self.linear, self.x, self.z = linear, x, z
        self.input_nonnegative = nonnegative
        self.all_positive = nonnegative and linear.nonnegative

    @cached_property
    def absolute(self) -> Tensor:
        """``a_j``, the sum of absolute contributions."""
        if self.all_positive:
            return self.z
        if self.input_nonnegative:
            return torch.add(self._positive_exact, self._positive_exact - self.z)
        weight = self.linear.weight
        return self.linear.forward(self.x.abs(), weight if weight is None or self.linear.nonnegative else weight.abs())

    @cached_property
    def _positive_exact(self) -> Tensor:
        """``z⁺`` for inputs without a negative sign, where it is the op on the positive part of the weight."""
        weight = self.linear.weight
        return self.linear.forward(self.x, None if weight is None else weight.clamp(min=0))

    @cached_property
    def positive(self) -> Tensor:
        """``z⁺_j``, the sum of positive contributions."""
        if self.all_positive:
            return self.z
        return self._positive_exact if self.input_nonnegative else (self.absolute + self.z) / 2

    @cached_property
    def negative(self) -> Tensor:
        """``|z⁻_j|``, the absolute sum of negative contributions."""
        if self.all_positive:
            return torch.zeros_like(self.z)
        return self._positive_exact - self.z if self.input_nonnegative else (self.absolute - self.z) / 2

    @property
    def rounding(self) -> Tensor:
        """Below this, a positive or negative sum is a difference of equal numbers, that is: zero."""
        return self.absolute * (64 * torch.finfo(self.z.dtype).eps)

    def over_positive(self, relevance: Tensor) -> Tensor:
        """``R_j / z⁺_j``, zero where nothing is positive."""
        exact = self.input_nonnegative
        return divide(relevance, self.positive, 0.0 if exact else self.rounding)

    def over_negative(self, relevance: Tensor) -> Tensor:
        """``R_j / |z⁻_j|``, zero where nothing is negative."""
        if self.all_positive:
            return torch.zeros_like(relevance)
        return divide(relevance, self.negative, self.rounding)

    def over_absolute(self, relevance: Tensor) -> Tensor:
        """``R_j / a_j``, zero where there is no contribution at all."""
        return divide(relevance, self.absolute)


def redistribute(contributions: Contributions, p: Tensor, n: Tensor | None) -> Tensor:
    """Return ``Σ_j (p_j z⁺_ij + n_j |z⁻_ij|)``; ``n=None`` stands for zero.

    Shapes: ``p``, ``n`` like the op's output; the result like its input.
    """
    linear, x = contributions.linear, contributions.x
    weight = linear.weight
    if contributions.all_positive:
        return x * linear.transpose(p, weight)
    if contributions.input_nonnegative:
        spread = linear.transpose(p, None if weight is None else weight.clamp(min=0))
        if n is not None and weight is not None:
            spread = spread + linear.transpose(n, weight.clamp(max=0).neg())
        return x * spread
    half_sum, half_difference = (p / 2, p / 2) if n is None else ((p + n) / 2, (p - n) / 2)
    magnitude = weight if weight is None or linear.nonnegative else weight.abs()
    return x.abs() * linear.transpose(half_sum, magnitude) + x * linear.transpose(half_difference, weight)


def redistribute_signed(contributions: Contributions, p: Tensor) -> Tensor:
    """Return ``Σ_j p_j z_ij``, the case ``n = −p``: one transposed application."""
    return contributions.x * contributions.linear.transpose(p, contributions.linear.weight)
