"""Inputs larger than a model's: tiles of the model's input size, each explained, and their maps blended into one.

At every place the weights of the tiles that cover it sum to one: where one tile covers it, its relevance is kept as it is, and over an overlap
the weight goes over linearly from one tile to the next.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from relprop.errors import InputError, OptionError, TargetError
from relprop.explanation import Explanation
from relprop.graph.model import CapturedModel
from relprop.inputs import Inputs
from relprop.targets import Box, Contrast, Neuron, Pixels, Target, class_indices, read_target
from relprop.targets.names import class_index

MOST_TILES = 10_000
"""More tiles are refused: a photo of so many is one that was not meant."""


@dataclass(frozen=True)
class Tiled:
    """One map over a large input, and what the tiles say on their own.

    Attributes:
        explanation: Of the whole input: ``relevance`` in units of a tile's logit; ``logits`` and so the probabilities, the mean of the tiles';
            ``value`` and ``absorbed``, the sums of the tiles', each weighted by the share of its area that it has in the map. With the
            ``completeness_error`` the relevance adds up to ``value``; without overlap that error is the method's own.
        tiles: Where they lie: for every tile a slice of each dimension after the channels.
        logits: Of every tile, ``(B, T, C)``.
        values: The explained number of every tile, ``(B, T)`` or ``(B, T, K)``.
    """

    explanation: Explanation[Tensor]
    tiles: tuple[tuple[slice, ...], ...]
    logits: Tensor
    values: Tensor


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return where tiles begin along one dimension: spread evenly, the first at the start and the last at the end.

    Args:
        length: Of the input.
        tile: Length of a tile.
        overlap: The share of a tile that neighbors have in common at least, from 0 to 0.9; more where the length does not divide.

    Raises:
        InputError: The input is shorter than a tile.
        OptionError: The overlap is out of its range.
    """
    if not 0 <= overlap <= 0.9:
        raise OptionError(f"The overlap is a share of a tile from 0 to 0.9, not {overlap!r}.")
    if length < tile:
        raise InputError(f"The input is {length} long where a tile is {tile}; resize it, or explain it without tiles.")
    step = max(1, math.floor(tile * (1 - overlap) + 1e-9))
    gaps = math.ceil((length - tile) / step)
    return [round(index * (length - tile) / gaps) for index in range(gaps + 1)] if gaps else [0]


def tile_weights(length: int, tile: int, starts: Sequence[int]) -> Tensor:
    """Return the weights of the tiles along one dimension, ``(tiles, tile)`` in float64; at every place of the input they sum to one."""
    ramp = torch.minimum(torch.arange(1, tile + 1), torch.arange(tile, 0, -1)).double()
    total = torch.zeros(length, dtype=torch.float64)
    for start in starts:
        total[start : start + tile] += ramp
    return torch.stack([ramp / total[start : start + tile] for start in starts])


def explain_tiles(
    explain: Callable[[Tensor, object], Explanation],
    logits_of: Callable[[Tensor], Tensor],
    inputs: Tensor,
    target: object,
    captured: CapturedModel,
    *,
    overlap: float,
    batch_size: int,
) -> Tiled:
    """Explain a batch of large inputs tile by tile, all for the same target.

    Args:
        explain: Explains a batch of tiles.
        logits_of: Returns the logits of a batch of tiles.
        inputs: ``(B, C, …)``; every dimension after the channels at least as long as the model's input.
        target: As of a call; the predicted class and ``"top:K"`` go by the mean of the tiles' logits.
        captured: The captured model.
        overlap: See :func:`tile_starts`.
        batch_size: Tiles that run at once.

    Raises:
        InputError: The model takes more than one tensor, or the input is smaller than the model's, or has too many tiles.
        OptionError: The overlap or the batch size is out of its range.
        TargetError: The target names a place in the output, or the output is not ``(batch, classes)``.
    """
    grid, labels = _grid(inputs, captured.example, overlap), captured.labels
    if isinstance(batch_size, bool) or batch_size < 1:
        raise OptionError(f"The batch size is a number of tiles, 1 or more, not {batch_size!r}.")
    chunks = _chunks(grid.tiles, batch_size)
    logits = torch.cat([_per_tile(logits_of(_cut(inputs, chunk)), len(inputs)) for chunk in chunks], 1)
    mean = torch.einsum("bt...,t->b...", logits, (grid.shares / grid.shares.sum()).to(logits))
    asked = _same_for_all(read_target(target, labels), mean, labels)
    return _blended(grid, inputs, _each_tile(explain, inputs, grid.tiles, asked, batch_size), logits, mean)


@dataclass(frozen=True)
class _Grid:
    """The tiles and their weights.

    Attributes:
        tiles: A slice per dimension for every tile.
        weights: The weights of every tile, one tensor per dimension; their outer product is that of the places.
    """

    tiles: tuple[tuple[slice, ...], ...]
    weights: tuple[tuple[Tensor, ...], ...]

    @property
    def shares(self) -> Tensor:
        """The mean weight of every tile, ``(T,)``."""
        return torch.stack([torch.stack([line.mean() for line in lines]).prod() for lines in self.weights])


def _grid(inputs: object, example: Inputs, overlap: float) -> _Grid:
    names = [name for name, _ in example.tensors]
    if len(names) != 1 or not isinstance(inputs, Tensor):
        raise InputError(
            f"Tiles are cut from one tensor; the model takes {', '.join(names)}, and the inputs are {type(inputs).__name__}."
        )
    shape = example.tensors[0][1].shape
    if inputs.dim() != len(shape) or len(shape) < 3 or inputs.shape[1] != shape[1]:
        wanted = "×".join(["batch", str(shape[1]) if len(shape) > 1 else "channels", *["…"] * max(1, len(shape) - 2)])
        raise InputError(f"The inputs have shape {tuple(inputs.shape)}; tiles are cut from {wanted}.")
    starts = [tile_starts(long, tile, overlap) for long, tile in zip(inputs.shape[2:], shape[2:], strict=True)]
    count = math.prod(map(len, starts))
    if count > MOST_TILES:
        raise InputError(
            f"The inputs have {count} tiles, more than the {MOST_TILES} that are explained; make them smaller first."
        )
    tiles = itertools.product(*([slice(s, s + tile) for s in line] for line, tile in zip(starts, shape[2:], strict=True)))
    lines = [tile_weights(*sizes) for sizes in zip(inputs.shape[2:], shape[2:], starts, strict=True)]
    return _Grid(tuple(tiles), tuple(itertools.product(*lines)))


def _cut(inputs: Tensor, tiles: Sequence[tuple[slice, ...]]) -> Tensor:
    """The tiles of all inputs as one batch, ``(T · B, C, …)``, tile by tile."""
    return torch.cat([inputs[(slice(None), slice(None), *tile)] for tile in tiles])


def _per_tile(values: Tensor, batch: int) -> Tensor:
    """Values of such a batch by sample, ``(B, T, …)``."""
    if values.dim() not in {1, 2}:
        raise TargetError(f"Tiles need an output (batch, classes), and this one has shape {tuple(values.shape)}.")
    return values.reshape(-1, batch, *values.shape[1:]).movedim(0, 1)


def _same_for_all(target: object, mean: Tensor, labels: Sequence[str] | None) -> object:
    """The target that every tile is asked for: what depends on the logits is decided by their mean.

    Raises:
        TargetError: It names a place in the output, or a contrast would have another class for every input.
    """
    if isinstance(target, Pixels | Box) or (isinstance(target, Neuron) and not isinstance(target.index, int)):
        raise TargetError(
            f"{type(target).__name__} names a place in the output, which is another in every tile; explain without tiles."
        )
    if isinstance(target, Contrast) and None in {target.index, target.rival}:
        if tuple(mean.shape[:1]) != (1,) or mean.dim() != 2 or mean.shape[1] < 2:
            raise TargetError("Of several inputs in tiles, a contrast names both classes: Contrast(a, b).")
        ranked = mean[0].argsort(descending=True).tolist()
        ours = ranked[0] if target.index is None else class_index(target.index, labels, len(ranked))
        theirs = next(index for index in ranked if index != ours) if target.rival is None else target.rival
        return Contrast(ours, theirs)
    if isinstance(target, Target) or (target is None and mean.dim() == 1):
        return target
    return class_indices(target, mean, labels)


def _each_tile(
    explain: Callable[[Tensor, object], Explanation],
    inputs: Tensor,
    tiles: Sequence[tuple[slice, ...]],
    target: object,
    batch_size: int,
) -> Iterator[Explanation[Tensor]]:
    """Yield the explanation of each tile, of all inputs; ``batch_size`` of them run at once."""
    batch = len(inputs)
    for chunk in _chunks(tiles, batch_size):
        asked = torch.cat([target] * len(chunk)) if isinstance(target, Tensor) else target
        found = explain(_cut(inputs, chunk), asked)
        yield from (found[start : start + batch] for start in range(0, len(found), batch))


def _blended(grid: _Grid, inputs: Tensor, parts: Iterator[Explanation[Tensor]], logits: Tensor, mean: Tensor) -> Tiled:
    """Sum the maps of the tiles, each with its weights."""
    first, numbers = None, list[Tensor]()
    relevance = absorbed = inputs.new_zeros(())
    for tile, lines, share, part in zip(grid.tiles, grid.weights, grid.shares.tolist(), parts, strict=True):
        if first is None:
            first, several = part, part.absorbed.dim() == 2
            relevance = part.relevance.new_zeros(*part.relevance.shape[: 2 + several], *inputs.shape[2:])
            absorbed = torch.zeros_like(part.absorbed)
        relevance[(..., *tile)] += part.relevance * _outer(lines).to(part.relevance)
        absorbed += part.absorbed * share
        numbers.append(cast("Tensor", part.value))  # a call with a target always has it
    values = torch.stack(numbers, 1)
    value = torch.einsum("bt...,t->b...", values, grid.shares.to(values))
    missing = value - absorbed - relevance.flatten(1 + (absorbed.dim() == 2)).sum(-1)
    whole = replace(
        cast("Explanation[Tensor]", first),
        relevance=relevance,
        inputs=inputs,
        logits=mean,
        absorbed=absorbed,
        value=value,
        conserved=None,
        completeness_error=missing,
        notes=(*cast("Explanation[Tensor]", first).notes, _note(grid, values)),
    )
    return Tiled(whole, grid.tiles, logits, values)


def _chunks(tiles: Sequence[tuple[slice, ...]], size: int) -> list[Sequence[tuple[slice, ...]]]:
    return [tiles[start : start + size] for start in range(0, len(tiles), size)]


def _outer(lines: Sequence[Tensor]) -> Tensor:
    """The weights of a tile's places: the outer product of those along its dimensions."""
    weights = lines[0]
    for line in lines[1:]:
        weights = weights.unsqueeze(-1) * line
    return weights


def _note(grid: _Grid, values: Tensor) -> str:
    size = "×".join(str(part.stop - part.start) for part in grid.tiles[0])
    low, high = float(values.min()), float(values.max())
    return (
        f"The map is put together from {len(grid.tiles)} tiles of {size}, which the model sees one by one: the explained number goes from "
        f"{low:.3g} to {high:.3g} from tile to tile, probabilities are those of the tiles' mean logits, and nothing larger than a tile is seen"
    )
