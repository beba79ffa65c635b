"""Which tokens of a sequence are the patches of the input, and which are extra ones: class, distillation, register and prompt tokens."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from relprop import draws
from relprop.graph.facts import from_softmax
from relprop.graph.grids import POSITIONS, convolved, divides
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import interpret
from relprop.ops.op import Role
from relprop.ops.table import arguments_of, entry

_MOST_EXTRA_TOKENS = 16
"""Numbers of extra tokens that are tried where the model does not tell them from patches."""

_FROM_IMAGE = "tokens_from_image"
"""Key of ``node.meta``: which tokens of a value depend on the input, by dimension."""

_SAME = 1e-4
"""Tokens that differ less than this between two inputs, over the largest value, do not depend on the input."""


@dataclass(frozen=True)
class Attention:
    """One attention layer.

    Attributes:
        weights: Its weights ``(B, heads, N, N)``.
        values: The values that they weigh, ``(B, heads, N, d)``.
        result: The weighted sums of the values, ``(B, heads, N, d)``.
    """

    weights: fx.Node
    values: fx.Node
    result: fx.Node


@dataclass(frozen=True)
class TokenGrid:
    """The patches of a signal, an image or a volume among the tokens of a sequence.

    Attributes:
        places: Where they stand, in reading order of the input.
        size: Patches along every dimension of positions.
        notes: A note where the model does not tell which tokens they are.
    """

    places: tuple[int, ...]
    size: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def to_maps(self, tokens: Tensor) -> Tensor:
        """Arrange the patches of ``(B, N, …)`` over the input, ``(B, *size, …)``."""
        places = torch.tensor(self.places, device=tokens.device)
        return tokens.index_select(1, places).unflatten(1, self.size)


def find_attention(model: CapturedModel) -> list[Attention]:
    """Find the products of softmax weights and values, in forward order."""
    found, active = list[Attention](), set(model.active)
    for node in model.active:
        op, arguments = entry(node), arguments_of(node)
        weights, values = arguments.get("self"), arguments.get("other")
        if op is None or not op.multiplies or op.role is not Role.DENSE or not isinstance(values, fx.Node):
            continue
        if isinstance(weights, fx.Node) and from_softmax(weights, active):
            found.append(Attention(weights, values, node))
    return found


def token_grid(model: CapturedModel, size: tuple[int, ...], value: fx.Node, dim: int) -> TokenGrid | None:
    """Find the patches among the tokens that lie in dimension ``dim`` of a value, before attention mixes them for the first time.

    The tokens that depend on the input are its patches. Where they make no grid, since extra tokens depend on it too, the first tokens
    count as extra ones, and a note says so. None where no token depends on the input, or no number of extra tokens leaves a grid.
    """
    count = int(value.meta["val"].shape[dim])
    places = [place for place, varies in enumerate(_from_image(model, value, dim)) if varies]
    if not places:
        return None
    known = convolved(model, len(size))
    found = _grid(size, len(places), known)
    if found is not None:
        return TokenGrid(tuple(places), found)
    for extra in range(min(_MOST_EXTRA_TOKENS, count - 1) + 1):
        found = _grid(size, count - extra, known)
        if found is not None:
            note = (
                f"The model does not tell which of its {count} tokens are patches: the first {extra} are taken for extra tokens."
            )
            return TokenGrid(tuple(range(extra, count)), found, (note,))
    return None


def first_mixed(model: CapturedModel, tokens: fx.Node) -> tuple[fx.Node, int]:
    """Find where as many tokens as those of ``(B, N, C)`` are mixed for the first time; return the attention's values and the dimension.

    Without such a layer, return the tokens themselves.
    """
    count = tokens.meta["val"].shape[1]
    for layer in find_attention(model):
        shape = layer.values.meta["val"].shape
        if isinstance(shape[-2], int) and shape[-2] == count:
            return layer.values, len(shape) - 2
    return tokens, 1


def _grid(size: tuple[int, ...], count: int, known: Collection[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The grid of so many patches: the only one that a convolution of the model makes, or else the only one of equal patches."""
    made = [grid for grid in known if math.prod(grid) == count > 1]
    if len(made) == 1:
        return made[0]
    equal = [grid for grid in _factors(count, len(size)) if divides(size, grid)]
    return equal[0] if len(equal) == 1 else None


def _factors(count: int, parts: int) -> Iterator[tuple[int, ...]]:
    """The ways to write a number as a product of so many factors."""
    if parts == 1:
        yield (count,)
        return
    for first in (n for n in range(1, count + 1) if count % n == 0):
        yield from ((first, *rest) for rest in _factors(count // first, parts - 1))


def _from_image(model: CapturedModel, value: fx.Node, dim: int) -> Sequence[bool]:
    """Compare every token for two inputs of noise; the answer is kept with the value's node."""
    known = value.meta.setdefault(_FROM_IMAGE, {})
    if dim not in known:
        source = draws.generator(0)
        first, second = (_value_for_noise(model, value, source).movedim(dim, 0).flatten(1).float() for _ in range(2))
        known[dim] = ((first - second).abs().amax(1) > _SAME * torch.maximum(first.abs(), second.abs()).amax()).tolist()
    return known[dim]


def _value_for_noise(model: CapturedModel, value: fx.Node, source: torch.Generator) -> Tensor:
    def made(example: Tensor) -> Tensor:
        if example.is_floating_point() and example.dim() - 2 in POSITIONS:
            return draws.normal(tuple(example.shape), source).to(example)
        return torch.ones_like(example) if example.is_floating_point() else example  # integers choose the model's way

    given = model.example.sample(0).map(made)
    with torch.no_grad():
        return next(values[node] for node, values in interpret(model.module, given.flat) if node is value)
