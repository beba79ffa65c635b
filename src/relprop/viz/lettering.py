"""Text in pictures, shown as it is: no ``$`` begins mathematics, and what the font lacks is a box, without a warning."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from matplotlib.font_manager import FontProperties, findfont, get_font

FAMILY = "sans-serif"
BOX, UNKNOWN = "□", "?"
_EM = 100.0
_HINTED = 1.08
"""How much wider a line may become, since hinting moves glyphs to whole pixels; measured at 100 and more pixels per inch."""

AS_IT_IS: dict[str, Any] = {"parse_math": False, "usetex": False, "family": FAMILY}
"""The keywords with which matplotlib shows a text as it is."""


def printable(text: str, weight: str = "normal") -> str:
    """Replace the characters that the font has no glyph for by boxes, as matplotlib draws them, but with a warning for each."""
    known = _glyphs(findfont(FontProperties(family=FAMILY, weight=weight)))
    box = BOX if BOX in known else UNKNOWN
    return "".join(character if character in known or character == "\n" else box for character in text)


def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Return the width that one line of text takes in inches at most, at a font size in points."""
    file = findfont(FontProperties(family=FAMILY, weight=weight))
    return _HINTED * sum(_advance(file, character) for character in printable(text, weight)) * size / 72


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


def joined_to_fit(parts: Sequence[str], separator: str, size: float, width: float) -> list[str]:
    """Join texts into lines of at most ``width`` inches, as many to a line as fit."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}{separator}{part}" if lines else part
        if lines and width_of(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


@cache
def _glyphs(font: str) -> frozenset[str]:
    return frozenset(map(chr, get_font(font).get_charmap()))


@cache
def _advance(file: str, character: str) -> float:
    """The width of a character over the font's size."""
    font = get_font(file)
    font.set_size(_EM, 72)
    return font.load_char(ord(character)).linearHoriAdvance / 65536 / _EM
