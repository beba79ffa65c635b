"""How maps are shown: their color scale, smoothing, and opacity over a photo; the numbers stay as they are."""

from dataclasses import dataclass
from typing import TypedDict

from relprop.errors import OptionError


class LookOptions(TypedDict, total=False):
    """The fields of :class:`Look` as keywords."""

    percentile: float
    limit: float | None
    smooth: float
    opacity: float


@dataclass(frozen=True)
class Look:
    """How maps are shown.

    Attributes:
        percentile: Percentile of each map's absolute values at which the colors saturate, in (0, 100]; 100 is the largest value.
        limit: The value at which the colors of every map saturate, in place of the percentile, so that pictures can be compared.
        smooth: Standard deviation of a Gaussian blur of the colors, in pixels of the map; 0 for none. A picture says that it is smoothed.
        opacity: Of the strongest color over a photo, in [0, 1].

    Raises:
        OptionError: A value out of its range.
    """

    percentile: float = 99.5
    limit: float | None = None
    smooth: float = 0.0
    opacity: float = 0.85

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise OptionError(f"The percentile of the color scale is above 0 and at most 100, not {self.percentile:g}.")
        if self.limit is not None and not 0 < self.limit < float("inf"):
            raise OptionError(f"The limit of the color scale is a positive number, not {self.limit:g}.")
        if not 0 <= self.smooth < float("inf"):
            raise OptionError(f"The smoothing is a number of pixels, 0 or more, not {self.smooth:g}.")
        if not 0 <= self.opacity <= 1:
            raise OptionError(f"The opacity is a number from 0 to 1, not {self.opacity:g}.")


PLAIN = Look()
