"""Text in pictures, shown as it is: no ``$`` begins mathematics, and what the font lacks is a box, without a warning."""

from functools import cache
from typing import Any

from matplotlib.font_manager import FontProperties, findfont, get_font

FAMILY = "sans-serif"
BOX, UNKNOWN = "□", "?"
_DPI = 288

AS_IT_IS: dict[str, Any] = {"parse_math": False, "usetex": False, "family": FAMILY}
"""The keywords with which matplotlib shows a text as it is."""


def printable(text: str, weight: str = "normal") -> str:
    """Replace the characters that the font has no glyph for by boxes, as matplotlib draws them, but with a warning for each."""
    known = _glyphs(findfont(FontProperties(family=FAMILY, weight=weight)))
    box = BOX if BOX in known else UNKNOWN
    return "".join(character if character in known or character == "\n" else box for character in text)


def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of one line of text in inches, at a font size in points."""
    font = get_font(findfont(FontProperties(family=FAMILY, weight=weight)))
    font.set_size(size, _DPI)
    font.set_text(printable(text, weight), 0.0)
    return font.get_width_height()[0] / 64 / _DPI


def fitted(text: str, width: float, size: float, smallest: float, weight: str = "normal") -> tuple[str, float]:
    """Return a line of text, and the font size in points at which it fits into ``width`` inches; cut where that is too small."""
    needed = width_of(text, size, weight)
    if needed <= width:
        return text, size
    smaller = 0.99 * size * width / needed
    if smaller >= smallest:
        return text, smaller
    while text and width_of(text + "…", smallest, weight) > width:
        text = text[:-1].rstrip()
    return text + "…", smallest


@cache
def _glyphs(font: str) -> frozenset[str]:
    return frozenset(map(chr, get_font(font).get_charmap()))
