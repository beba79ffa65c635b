"""Single deletion: whether the cells of a grid whose removal lowers the output most are those with the most relevance."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from relprop.errors import OptionError, suggestion
from relprop.metrics.base import Follows, MetricSpec, Need, Statistics, Value, identity
from relprop.metrics.fills import make_fill
from relprop.metrics.localization import POOLS
from relprop.metrics.maps import heatmap, total
from relprop.metrics.perturbation import Activation, Model, check_shapes, output_curves
from relprop.metrics.seeds import Seeds, generators
from relprop.metrics.similarity import spearman

SIGNED_POOLS: dict[str, Callable[[Tensor, int], Tensor]] = {"signed": heatmap, **POOLS}
"""What of the relevance a cell sums: the signed heat map, or a pooling of :data:`relprop.metrics.localization.POOLS`."""


def cell_boxes(size: Sequence[int], grid: int) -> list[tuple[slice, ...]]:
    """Return the cells in reading order, each ``height // grid`` × ``width // grid`` pixels; what is left at the far edges is in none.

    Raises:
        OptionError: Fewer than one cell per side, or more than pixels.
    """
    if not 1 <= grid <= min(size):
        raise OptionError(f"Option grid must be from 1 to {min(size)}, the pixels of a side, not {grid}.")
    sides = ([slice(cell * (n // grid), (cell + 1) * (n // grid)) for cell in range(grid)] for n in size)
    return list(product(*sides))


def single_deletion_update(  # noqa: PLR0913 - options by keyword
    relevance: Tensor,
    inputs: Tensor,
    target: Tensor,
    model: Model,
    seeds: Seeds = 0,
    *,
    grid: int = 4,
    fill: str = "zero",
    output: Literal["logit", "probability"] = "logit",
    pool: str = "signed",
    activation: Activation = None,
    at_once: int | None = None,
) -> Statistics:
    """Remove one cell of the grid at a time, and correlate the drops of the output with the relevance in the cells.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``.
        inputs: ``(B, C, H, W)``.
        target: ``(B,)`` classes.
        model: Inputs → logits.
        seeds: Seeds of noise, one per image or one for all.
        grid: Number of cells per side.
        fill: See ``fills.make_fill``; the paper's baselines are ``zero``, ``noise`` and ``blur``.
        output: ``logit``, or the ``probability`` of the model's head.
        pool: What of the relevance is summed: ``signed``, ``absolute``, ``positive`` or ``l2``.
        activation: The activation of the model's head.
        at_once: Number of cells per forward pass; by default as many as make up ``perturbation.PASS_VALUES`` input values.

    Returns:
        ``single_deletion`` ``(B,)``: Spearman's rank correlation; NaN where all drops or all sums are equal.

    Raises:
        OptionError: An unknown output, fill or pool, or a grid that does not fit the image.
    """
    check_shapes(inputs, relevance, 1, 1, 1)
    if output not in {"logit", "probability"}:
        raise OptionError(f"Option output must be 'logit' or 'probability', not {output!r}.")
    if output == "probability" and activation == "none":
        raise OptionError("A number without probabilities is explained; leave out output=probability.")
    if pool not in SIGNED_POOLS:
        raise OptionError(f"There is no pool {pool!r}; there are {', '.join(SIGNED_POOLS)}.{suggestion(pool, SIGNED_POOLS)}")
    boxes = cell_boxes(inputs.shape[2:], grid)
    filled = make_fill(fill, inputs, generators(seeds, len(inputs)))

    def without(point: int) -> Tensor:
        removed = torch.zeros_like(inputs[:, 0], dtype=torch.bool)
        if point:
            removed[(slice(None), *boxes[point - 1])] = True
        return filled(removed)

    curves = output_curves(model, without, len(boxes) + 1, target, activation=activation, at_once=at_once)[output]
    mass = SIGNED_POOLS[pool](relevance, inputs.dim() - 2)
    sums = torch.stack([total(mass[(slice(None), *box)]) for box in boxes], 1)
    return {"single_deletion": spearman(sums, (curves[:, :1] - curves[:, 1:]).to(sums.device))}


SINGLE_DELETION = MetricSpec(
    name="single-deletion",
    values=(
        Value(
            "single_deletion",
            "higher",
            -1,
            1,
            "rank correlation of the relevance in a cell with the drop of the output without it",
        ),
    ),
    needs=(Need.RELEVANCE, Need.INPUTS, Need.TARGET, Need.MODEL, Need.SEEDS),
    update=single_deletion_update,
    compute=identity,
    source="Hesse et al., Benchmarking the Attribution Quality of Vision Models, NeurIPS 2024, section 3",
    follows=Follows.NUMBER,
)
