"""The numbers under a map: what its colors cannot show."""

from dataclasses import dataclass

import numpy as np

from relprop.viz.colors import Floats

_THOUSANDS = "\u2009"
_ROUNDING = 1e-6
"""Share of the sums below which absorbed relevance is rounding."""


@dataclass(frozen=True)
class Sums:
    """What a map ``(H, W)`` adds up to.

    Attributes:
        largest: The value of the largest magnitude.
        positive: The sum of its positive values, Σ⁺.
        negative: The sum of its negative values, Σ⁻.
        absorbed: The relevance that constants absorbed; None or zero where there is none.
    """

    largest: float
    positive: float
    negative: float
    absorbed: float | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The numbers in words, each short."""
        size = max(self.positive, -self.negative)
        rounding = self.absorbed is not None and abs(self.absorbed) < _ROUNDING * size
        kept = () if not self.absorbed else ("absorbed ≈ 0",) if rounding else (f"absorbed {written(self.absorbed)}",)
        return f"max ±{written(abs(self.largest))}", f"Σ⁺ {written(self.positive)}", f"Σ⁻ {written(self.negative)}", *kept


def sums_of(heatmap: Floats, absorbed: float | None = None) -> Sums:
    """Return what a map adds up to, summed in float64."""
    values = heatmap.astype(np.float64)
    largest = float(values.flat[np.abs(values).argmax()])
    return Sums(largest, float(values[values > 0].sum()), float(values[values < 0].sum()), absorbed)


def written(value: float) -> str:
    """Write a number with three significant digits: ``6 303``, ``0.0412``, ``−1.3e-05``."""
    size, sign = abs(value), "−" if value < 0 else ""
    if size == 0:
        return "0"
    if size >= 1e7 or size < 1e-3:
        return f"{sign}{size:.2g}"
    return sign + (f"{size:,.0f}".replace(",", _THOUSANDS) if size >= 100 else f"{size:.3g}")
