"""Coefficients of the sign-splitting rules: every output's multiplier for its positive and its negative contributions, see ``kernel``."""

from collections.abc import Callable

from torch import Tensor

from relprop.ops.layout import SampleLayout
from relprop.rules.kernel import Coefficients, Contributions, divide, divide_signed, divide_stabilized, smallest

CoefficientFunction = Callable[[Contributions, Tensor], Coefficients]
"""``(contributions, relevance of the output) -> (p, n)``."""


def _over_positive(c: Contributions, relevance: Tensor) -> Tensor:
    return divide(relevance, c.positive, c.positive_floor)


def rap(c: Contributions, relevance: Tensor) -> Coefficients:
    """RAP, Eq. 7: ``p = R/z⁺``, ``n = R/a``; the second term's ``ν z⁻_ij/z⁻_j`` is ``R |z⁻_ij| / a_j``."""
    p = _over_positive(c, relevance)
    return Coefficients(p) if c.all_positive else Coefficients(p, divide(relevance, c.absolute))


def rap_released_conv(c: Contributions, relevance: Tensor) -> Coefficients:
    """RAP as its released code treats convolutions: negative relevance flows along the negative contributions alone."""
    positive, negative = relevance.clamp(min=0), relevance.clamp(max=0)
    n = divide(relevance, c.absolute) + divide(negative, c.negative, c.rounding)
    return Coefficients(_over_positive(c, positive), n)


def absolute(c: Contributions, relevance: Tensor) -> Coefficients:
    """RAP's start, Eq. 5 and 6: every input takes a share of the logit by its absolute influence."""
    p = divide(relevance, c.absolute)
    return Coefficients(p, p)


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
    """LRP-αβ (Bach et al. 2015, Eq. 60): ``p = αR/z⁺``, ``n = −βR/|z⁻|``."""

    def coefficients(c: Contributions, relevance: Tensor) -> Coefficients:
        if c.input_nonnegative and epsilon > smallest(relevance.dtype):
            return _stabilized(c, relevance, alpha, beta, epsilon, bias)
        z, b = _biased(c, bias)
        offset = _clamped(b, 1) + epsilon
        positive = c.positive + offset if isinstance(offset, Tensor) or offset else c.positive
        p = divide(relevance if alpha == 1 else alpha * relevance, positive, c.positive_floor)
        if beta == 0 or (c.all_positive and not isinstance(b, Tensor)):
            return Coefficients(p)
        negative = positive - z if epsilon else c.negative + _clamped(b, -1)  # z⁺ + b⁺ − (z + b) is |z⁻| + |b⁻|
        return Coefficients(p, divide(-beta * relevance, negative, 0.0 if epsilon else c.rounding))

    return coefficients


def _stabilized(c: Contributions, relevance: Tensor, alpha: float, beta: float, epsilon: float, bias: str) -> Coefficients:
    """LRP-αβ where ``epsilon`` keeps ``z⁺ + b⁺ + ε`` from zero: all of ``αR`` is handed on but for what ε and the bias hold."""
    z, b = _biased(c, bias)
    up, down = _clamped(b, 1) + epsilon, _clamped(b, -1) + epsilon
    positive = c.positive_and(up)
    p = (relevance if alpha == 1 else alpha * relevance) / positive
    negative = n = None
    if beta and not (c.all_positive and not isinstance(b, Tensor)):
        negative = positive - z  # z⁺ + b⁺ + ε − (z + b) is |z⁻| + |b⁻| + ε
        n = divide(-beta * relevance, negative)

    def absorbed(layout: SampleLayout, batch: int) -> Tensor:
        total = _held(p, up, layout, batch)
        if alpha != 1:
            total = total + (1 - alpha) * layout.sum(relevance, batch)
        if n is not None and negative is not None:
            total = total + _held(n, down, layout, batch) - layout.dot(n, negative, batch)
        return total

    return Coefficients(p, n, absorbed=absorbed)


def _held(coefficient: Tensor, offset: Tensor | float, layout: SampleLayout, batch: int) -> Tensor:
    """What an offset in a denominator holds, per sample."""
    return layout.dot(coefficient, offset, batch) if isinstance(offset, Tensor) else layout.sum(coefficient, batch) * offset


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
