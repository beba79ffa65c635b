"""Text in pictures, shown as it is: no ``$`` begins mathematics, and what the font lacks is a box, without a warning."""

from functools import cache
from typing import Any

from matplotlib.font_manager import FontProperties, findfont, get_font

FAMILY = "sans-serif"
BOX, UNKNOWN = "□", "?"

AS_IT_IS: dict[str, Any] = {"parse_math": False, "usetex": False, "family": FAMILY}
"""The keywords with which matplotlib shows a text as it is."""


def printable(text: str, weight: str = "normal") -> str:
    """Replace the characters that the font has no glyph for by boxes, as matplotlib draws them, but with a warning for each."""
    known = _glyphs(findfont(FontProperties(family=FAMILY, weight=weight)))
    box = BOX if BOX in known else UNKNOWN
    return "".join(character if character in known or character == "\n" else box for character in text)


@cache
def _glyphs(font: str) -> frozenset[str]:
    return frozenset(map(chr, get_font(font).get_charmap()))
