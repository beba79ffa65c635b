"""Coefficients of the sign-splitting rules: every output's multiplier for its positive and its negative contributions, see ``kernel``."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from relprop.ops.layout import SampleLayout
from relprop.rules.kernel import Coefficients, Contributions, Doubt, divide, divide_signed, divide_stabilized, smallest

CoefficientFunction = Callable[[Contributions, Tensor], Coefficients]
"""``(contributions, relevance of the output) -> (p, n)``."""


def _over_positive(c: Contributions, relevance: Tensor) -> Doubt:
    noise = c.positive_noise
    return divide(relevance, c.positive, noise), noise


def _over_absolute(c: Contributions, relevance: Tensor) -> Doubt:
    noise = c.absolute_noise
    return divide(relevance, c.absolute, noise), noise


def rap(c: Contributions, relevance: Tensor) -> Coefficients:
    """RAP, Eq. 7: ``p = R/z⁺``, ``n = R/a``; the second term's ``ν z⁻_ij/z⁻_j`` is ``R |z⁻_ij| / a_j``."""
    p = _over_positive(c, relevance)
    if c.all_positive:
        return Coefficients(p[0], doubts=[p])
    n = _over_absolute(c, relevance)
    return Coefficients(p[0], n[0], agree=True, doubts=[p, n])


def rap_released_conv(c: Contributions, relevance: Tensor) -> Coefficients:
    """RAP as its released code treats convolutions: negative relevance flows along the negative contributions alone."""
    positive, negative, noise = relevance.clamp(min=0), relevance.clamp(max=0), c.negative_noise
    p, n, more = _over_positive(c, positive), _over_absolute(c, relevance), divide(negative, c.negative, noise)
    return Coefficients(p[0], n[0] + more, doubts=[p, n, (more, noise)])


def absolute(c: Contributions, relevance: Tensor) -> Coefficients:
    """RAP's start, Eq. 5 and 6: every input takes a share of the logit by its absolute influence."""
    p = _over_absolute(c, relevance)
    return Coefficients(p[0], p[0], doubts=[p])


def _biased(c: Contributions, bias: str) -> tuple[Tensor, Tensor | float]:
    """``z`` and the bias as a method wants them: the bias takes its share (``"absorb"``) or none (``"leave out"``)."""
    if bias == "absorb" and c.bias is not None:
        return c.output, c.bias
    return c.z, 0.0


def _clamped(bias: Tensor | float, sign: int) -> Tensor | float:
    """The positive part of a bias, or the magnitude of its negative part."""
    return (bias * sign).clamp(min=0) if isinstance(bias, Tensor) else 0.0


def proportional(epsilon: float, bias: str) -> CoefficientFunction:
    """LRP-ε (Bach et al. 2015, Eq. 58): ``p = R / (z + ε · sign z)``, ``n = −p``; LRP-0 without ``epsilon``."""

    def coefficients(c: Contributions, relevance: Tensor) -> Coefficients:
        z, _ = _biased(c, bias)
        return Coefficients(divide_stabilized(relevance, z, epsilon), opposite=True)

    return coefficients


def alpha_beta(alpha: float, beta: float, epsilon: float, bias: str) -> CoefficientFunction:
    """LRP-αβ (Bach et al. 2015, Eq. 60): ``p = αR/z⁺``, ``n = −βR/|z⁻|``; biases and ``ε`` count in both sums."""

    def coefficients(c: Contributions, relevance: Tensor) -> Coefficients:
        b = c.bias if bias == "absorb" and c.bias is not None else 0.0
        up, down = _clamped(b, 1) + epsilon, _clamped(b, -1) + epsilon
        if beta == 0:
            sums = [_Sum(alpha, c.positive_and(up), c.positive_noise, up)]
        else:
            above, below = c.both_and(up, down)
            sums = [_Sum(alpha, *above, up), _Sum(-beta, *below, down)]
        found = [s.divide(relevance, epsilon) for s in sums]
        doubts = [(share, s.noise) for share, s in zip(found, sums, strict=True)]

        def absorbed(layout: SampleLayout, batch: int) -> Tensor:
            whole = layout.sum(relevance, batch)
            handed = [s.handed_on(share, whole, epsilon, layout, batch) for share, s in zip(found, sums, strict=True)]
            return whole - sum(handed)

        return Coefficients(found[0], found[1] if beta else None, absorbed=absorbed, doubts=doubts)

    return coefficients


@dataclass(frozen=True)
class _Sum:
    """One of the two sums of LRP-αβ.

    Attributes:
        factor: ``α`` or ``−β``.
        total: The sum, offset included.
        noise: How far it may be off.
        offset: What the bias and ``ε`` add to it.
    """

    factor: float
    total: Tensor
    noise: Tensor | None
    offset: Tensor | float

    def divide(self, relevance: Tensor, epsilon: float) -> Tensor:
        """The coefficient; with a stabilizer no sum is zero."""
        numerator = relevance if self.factor == 1 else self.factor * relevance
        if self.noise is None and epsilon > smallest(relevance.dtype):
            return numerator / self.total
        return divide(numerator, self.total, self.noise)

    def handed_on(self, share: Tensor, whole: Tensor, epsilon: float, layout: SampleLayout, batch: int) -> Tensor:
        """The relevance that goes to the operand, per sample: all but what the bias and ``ε`` hold."""
        stable = epsilon > smallest(share.dtype)
        taken = self.factor * whole if stable else layout.dot(share, self.total, batch)
        if isinstance(self.offset, Tensor):
            return taken - layout.dot(share, self.offset, batch)
        return taken - layout.sum(share, batch) * self.offset if self.offset else taken


def gamma(gamma: float, epsilon: float, bias: str) -> CoefficientFunction:
    """LRP-γ (Montavon et al. 2019): contributions of the output's sign count ``1 + γ`` times, in the share and in the sum."""

    def coefficients(c: Contributions, relevance: Tensor) -> Coefficients:
        z, b = _biased(c, bias)
        sign = c.output.sign()  # of what the layer returned, whether or not its bias takes a share
        up = sign.clamp(min=0)
        down = 1 - up
        total = z + gamma * (up * (c.positive + _clamped(b, 1)) - down * (c.negative + _clamped(b, -1)))
        q = divide_signed(relevance * sign.abs_(), total, epsilon)
        return Coefficients(q * (1 + gamma * up), -q * (1 + gamma * down))

    return coefficients
