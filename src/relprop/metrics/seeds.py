"""Random draws that depend only on the seed of each image, not on its batch or the device."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from relprop import draws
from relprop.errors import InputError

Seeds = int | Sequence[int]
"""One seed per image, or one for all images of the batch."""


def generators(seeds: Seeds, count: int) -> list[torch.Generator]:
    """Return one generator per image.

    Raises:
        InputError: The number of seeds differs from the number of images.
    """
    numbers = [seeds] * count if isinstance(seeds, int) else list(seeds)
    if len(numbers) != count:
        raise InputError(f"There are {len(numbers)} seeds for {count} images; give one per image, or a single number.")
    return [draws.generator(number) for number in numbers]


def draw(sources: Sequence[torch.Generator], like: Tensor, how: Callable[[torch.Generator], Tensor]) -> Tensor:
    """Stack one draw per generator on the device of ``like``; a floating-point draw takes its dtype."""
    values = torch.stack([how(source) for source in sources]).to(like.device)
    return values.to(like.dtype) if values.is_floating_point() else values


def normal(sources: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Return standard normal noise of the shape of ``like`` ``(B, …)``."""
    return draw(sources, like, lambda source: draws.normal(like.shape[1:], source))


def uniform(sources: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Return noise in [0, 1) of the shape of ``like`` ``(B, …)``."""
    return draw(sources, like, lambda source: draws.uniform(like.shape[1:], source))


def permutation(sources: Sequence[torch.Generator], like: Tensor, length: int) -> Tensor:
    """Return random permutations, ``(B, length)``."""
    return draw(sources, like, lambda source: draws.permutation(length, source))
