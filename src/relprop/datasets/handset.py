"""Pictures of colored squares for the networks of :mod:`relprop.zoo.handset`, each with the right map."""

from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from relprop import draws
from relprop.datasets.sample import Annotated, Dataset
from relprop.errors import InputError, OptionError, suggestion
from relprop.zoo.handset import COLORS, DESIGNS, SIDE, SQUARE, Design

_GRAY = len(COLORS)
_MOST = 3
"""The most squares of one color."""
FOR, AGAINST = 1, 2
"""The numbers in the map of parts: pixels that speak for the class, and pixels that speak against it."""


def open_handset(design: str, *, count: int = 32, seed: int = 0) -> Dataset:
    """Open made-up pictures whose right map for a network of ``zoo.handset`` is known; a sample's label is a class with evidence.

    Args:
        design: The network, a key of :data:`relprop.zoo.handset.DESIGNS`.
        count: Number of pictures.
        seed: Seed of their draws.

    Raises:
        InputError: There is no such network.
        OptionError: Fewer than one picture.
    """
    if not isinstance(design, str) or design not in DESIGNS:  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        near = suggestion(str(design), DESIGNS)
        raise InputError(f"There is no network {design!r} with weights set by hand; there are {', '.join(DESIGNS)}.{near}")
    if count < 1:
        raise OptionError(f"Option count must be at least 1, not {count}.")
    return Dataset("handset", tuple(COLORS), tuple(f"{number:05d}" for number in range(count)), partial(_read, design, seed))


def _read(design: str, seed: int, name: str) -> Annotated:
    colors, label = picture(seed, int(name))
    return annotated(DESIGNS[design], colors, label)


def picture(seed: int, number: int) -> tuple[Tensor, int]:
    """Draw the color of each pixel ``(H, W)``, an index of ``COLORS``, one more for gray and −1 for black; and a class that is there.

    Squares lie on a grid of places with room between them; each color has one to three, half of them with a gray square to the right, and
    as many gray squares stand alone.
    """
    source = draws.generator(seed * 1_000_003 + number)
    colors = torch.full((SIDE, SIDE), -1)
    across = SIDE // (2 * SQUARE + 2)
    down = SIDE // (SQUARE + 2)
    places = draws.permutation(across * down, source).tolist()
    amounts = draws.integers(1, _MOST + 1, (len(COLORS),), source).tolist()
    squares = [color for color, amount in enumerate(amounts) for _ in range(amount)] + [_GRAY] * _MOST
    for turn, (color, place) in enumerate(zip(squares, places, strict=False)):
        top, left = place // across * (SQUARE + 2) + 1, place % across * (2 * SQUARE + 2) + 1
        colors[top : top + SQUARE, left : left + SQUARE] = color
        if turn % 2 == 0 and color != _GRAY:
            colors[top : top + SQUARE, left + SQUARE : left + 2 * SQUARE] = _GRAY
    return colors, int(draws.integers(0, len(COLORS), (), source))


def annotated(design: Design, colors: Tensor, label: int) -> Annotated:
    """Return the picture of a map of colors, and the right map of a class: the mask shows what speaks for it, the parts both sides."""
    pixels = np.zeros((*colors.shape, 3), dtype=np.uint8)
    for index, values in enumerate([*COLORS.values(), (1, 1, 1)]):
        pixels[(colors == index).numpy()] = [255 * (value > 0) for value in values]
    speaking, against = design.truth(colors, label)
    parts = (FOR * speaking + AGAINST * against).to(torch.uint8).numpy()
    return Annotated(
        Image.fromarray(pixels), (label,), mask=Image.fromarray((parts == FOR).astype(np.uint8)), parts=Image.fromarray(parts)
    )
