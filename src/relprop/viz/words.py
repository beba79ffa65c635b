"""Maps of text: the words in the colors of their relevance, in a notebook, an HTML page or a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from relprop.errors import InputError
from relprop.text import visible
from relprop.viz.classes import explained_classes
from relprop.viz.colors import Bytes, Floats, colorize
from relprop.viz.drawable import Drawable
from relprop.viz.look import Look
from relprop.viz.numbers import written
from relprop.viz.signals import parts_of

if TYPE_CHECKING:
    from rich.text import Text

_SPACES = ("Ġ", "▁")
"""Begin a word in the vocabularies of GPT-2 and of SentencePiece."""
_PART = "##"
"""Continues a word in that of BERT."""
_DARK = 140.0
"""The lightness below which the letters are white."""


@dataclass(frozen=True)
class Words:
    """The tokens of one text with their relevance. Notebooks and :mod:`rich` show it in colors, ``print`` as a table.

    Attributes:
        tokens: As the tokenizer writes them.
        relevance: ``(T,)``.
        title: The method and the explained class.
    """

    tokens: tuple[str, ...]
    relevance: Floats
    title: str

    def __str__(self) -> str:
        """Return a line for every token: its relevance and itself."""
        lines = [
            f"{written(float(value)):>10}  {visible(token)}" for token, value in zip(self.tokens, self.relevance, strict=True)
        ]
        return "\n".join([self.title, *lines])

    def html(self) -> str:
        """Return the text as HTML, each token on the color of its relevance, which shows when it is pointed at."""
        spans = "".join(
            f'{" " * space}<span style="background:{_hex(color)};color:{_ink(color)};border-radius:3px;padding:1px 2px" '
            f'title="{escape(written(float(value)), quote=True)}">{escape(word)}</span>'
            for space, word, value, color in self._parts
        )
        return (
            f'<p style="font:13px sans-serif;color:gray">{escape(self.title)}</p><p style="line-height:1.9">{spans.lstrip()}</p>'
        )

    def _repr_html_(self) -> str:
        return self.html()

    def __rich__(self) -> "Text":
        """Return the text for a terminal."""
        from rich.text import Text

        shown = Text(self.title + "\n", style="dim")
        for space, word, _, color in self._parts:
            shown.append(" " * space, style="not dim")
            shown.append(word, style=f"not dim {_ink(color)} on {_hex(color)}")
        return shown

    @property
    def _parts(self) -> list[tuple[int, str, float, Bytes]]:
        """Of every token: whether a space stands before it, the text, its relevance, and its color."""
        colors = colorize(self.relevance[None], Look(percentile=100.0))[0]
        marked = any(token.startswith(_SPACES) for token in self.tokens)
        parts: list[tuple[int, str, float, Bytes]] = []
        for token, value, color in zip(self.tokens, self.relevance, colors, strict=True):
            space = token.startswith(_SPACES) if marked else not token.startswith(_PART)
            word = token[1:] if token.startswith(_SPACES) else token.removeprefix(_PART)
            parts.append((int(space and bool(parts)), visible(word) or "·", float(value), color))
        return parts


def color_words(
    explanation: Drawable, tokens: Sequence[str], labels: Sequence[str] | None = None, *, sample: int = 0, index: int = 0
) -> Words:
    """Return the tokens of one text with their relevance, the sum over the features of each.

    Args:
        explanation: Of ``B`` texts, relevance ``(T,)`` or ``(T, D)`` each, with one or ``K`` maps; of several inputs, such as the numbers and
            the types of tokens, it is added up.
        tokens: The tokens of the text, such as ``tokenizer.convert_ids_to_tokens(ids)``; padding at the end may be left out.
        labels: Class names.
        sample: Which of the texts.
        index: Which of its maps.

    Raises:
        InputError: The relevance is of no texts, there is no such text or map, or there are more tokens than relevance is of.
    """
    relevance = _of_tokens(explanation)
    if not (0 <= sample < relevance.shape[0] and 0 <= index < relevance.shape[1]):
        raise InputError(
            f"There is no map {index} of text {sample}; there are {relevance.shape[0]} with {relevance.shape[1]} each."
        )
    values = np.asarray(relevance[sample, index].numpy())
    if not 0 < len(tokens) <= len(values):
        raise InputError(f"There are {len(tokens)} tokens, and relevance of {len(values)}; give the tokens that the model read.")
    classes = explained_classes(explanation, sample, labels)
    title = f"{explanation.method}  ·  {classes[index].title}" if classes else explanation.method
    return Words(tuple(tokens), values[: len(tokens)], title)


def _of_tokens(explanation: Drawable) -> Tensor:
    """The relevance of tokens, ``(B, K, T)``, the sum over their features and over the inputs.

    Raises:
        InputError: An input has no value for each token.
    """
    parts = [part.sum(3) if part.dim() == 4 else part for part in parts_of(explanation)]
    shapes = {tuple(part.shape) for part in parts}
    if len(shapes) != 1 or parts[0].dim() != 3:
        said = " and ".join(map(str, sorted(shapes)))
        raise InputError(
            f"Words need relevance of tokens, (B, T) or (B, T, D); here it is {said} with the explained outputs second."
        )
    return torch.stack(parts).sum(0)


def _hex(color: Bytes) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in color)


def _ink(color: Bytes) -> str:
    return "#ffffff" if float(color @ np.array([0.299, 0.587, 0.114])) < _DARK else "#1f2328"
