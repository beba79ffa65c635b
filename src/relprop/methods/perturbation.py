"""Black-box methods: changes of the model's outputs where parts of the input are hidden."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from relprop import draws
from relprop.attribution import Attributed, Attribution, Problem
from relprop.errors import OptionError, TargetError
from relprop.heads import activation_for, probabilities
from relprop.meaning import Meaning
from relprop.methods.gradients import by_sample, captum_attr, scored_rows
from relprop.methods.grids import enlarged, note_channels, over_channels
from relprop.methods.options import as_reference, at_least

Sides = int | list[int] | tuple[int, ...]
"""One length for every dimension of positions, or one for each."""


def build_occlusion(
    *, window: Sides = 32, stride: Sides = 16, baseline: float | Tensor = 0.0, internal_batch_size: int = 16
) -> Attribution:
    """Drop of the score where a window hides the input, averaged over the windows on each position; through captum.

    Args:
        window: Side of the window, in samples, pixels or voxels; or its sides, one for every dimension behind the channels.
        stride: Positions between neighboring windows, likewise.
        baseline: What the window shows, in the model's own units: a number, or a tensor that fits a sample.
        internal_batch_size: Inputs per forward pass.
    """
    at_least(1, internal_batch_size=internal_batch_size)
    _check_sides(window, stride)

    def explain(sample: Problem) -> Attributed:
        image = sample.image
        size = image.shape[2:]
        sides = [min(side, n) for side, n in zip(_by_dimension("window", window, size), size, strict=True)]
        steps = [min(step, side) for step, side in zip(_by_dimension("stride", stride, size), sides, strict=True)]
        score, rows = scored_rows(sample)
        parts = (
            captum_attr()
            .Occlusion(score)
            .attribute(
                image,
                sliding_window_shapes=(image.shape[1], *sides),
                strides=(image.shape[1], *steps),
                baselines=as_reference(baseline, image),
                perturbations_per_eval=internal_batch_size,
                additional_forward_args=rows,
            )
        )
        return Attributed([over_channels(parts[:, 0].to(image.dtype), image)])

    return Attribution("occlusion", lambda problem: by_sample(problem, explain), note_channels)


def _check_sides(window: Sides, stride: Sides) -> None:
    """Refuse windows that are empty, and strides that leave gaps between them.

    Raises:
        OptionError: As above; the message names the option.
    """
    for name, given in (("window", window), ("stride", stride)):
        sides = [given] if isinstance(given, int) else given
        if not sides or not all(type(side) is int and side >= 1 for side in sides):
            raise OptionError(f"Option {name}={given!r} must be at least 1, or a list of such integers.")
    count = max(len(given) for given in (window, stride, [0]) if not isinstance(given, int))
    pairs = zip(*(_by_dimension(n, g, [0] * count) for n, g in (("window", window), ("stride", stride))), strict=True)
    if any(step > side for side, step in pairs):
        raise OptionError(f"Option stride={stride} must not exceed window={window}, or pixels between windows are never hidden.")


def _by_dimension(name: str, given: Sides, size: Sequence[int]) -> Sequence[int]:
    """One length for every dimension of positions.

    Raises:
        OptionError: There are more or fewer.
    """
    sides = [given] * len(size) if isinstance(given, int) else given
    if len(sides) != len(size):
        raise OptionError(
            f"Option {name}={given!r} must be one number, or {len(size)}: one for every dimension behind the channels of the input."
        )
    return sides


def build_rise(
    *,
    masks: int = 4000,
    grid: int = 7,
    probability: float = 0.5,
    score: Literal["probability", "logit"] = "probability",
    seed: int = 0,
    internal_batch_size: int = 32,
) -> Attribution:
    """RISE: the mean of random masks, each weighted by the output for the input seen through it.

    Args:
        masks: Random masks; every sample gets the same.
        grid: Cells along each side of a mask before it is enlarged.
        probability: Probability that a cell is open.
        score: What weights a mask; the paper takes the class probability.
        seed: Seed of the masks.
        internal_batch_size: Masked inputs per forward pass.
    """
    at_least(1, masks=masks, grid=grid, internal_batch_size=internal_batch_size)
    at_least(0, seed=seed)
    if not 0 < probability < 1:
        raise OptionError(f"Option probability={probability!r} must lie between 0 and 1.")

    def explain(sample: Problem) -> Attributed:
        image = sample.image
        cells, shifts = _random_cells(masks, grid, probability, seed, image)
        total = torch.zeros(image.shape[2:], dtype=image.dtype, device=image.device)
        for some, offsets in zip(cells.split(internal_batch_size), shifts.split(internal_batch_size), strict=True):
            shown = _enlarged(some.to(image), offsets, image)
            rows = torch.zeros(len(shown), dtype=torch.long, device=image.device)
            logits = sample.outputs(image * shown.unsqueeze(1), rows=rows)
            weights = sample.weigh(_by_class(logits, sample) if score == "probability" else logits, rows)
            total += torch.einsum("n,n...->...", weights, shown)
        return Attributed([over_channels(total[None] / (masks * probability), image)])

    return Attribution("rise", lambda problem: by_sample(problem, explain), note_channels)


def _by_class(logits: Tensor, sample: Problem) -> Tensor:
    """Return the probabilities of the classes, shaped like the logits.

    Raises:
        TargetError: No class is explained; or there is one and its probability is by softmax, so that it is always one.
    """
    aim = sample.aim
    if aim.kind == "number":
        raise TargetError("RISE weighs masks by the probability of a class, and what is explained has none; take score=logit.")
    activation = "sigmoid" if aim.kind == "label" else sample.model.activation
    by_class = logits.movedim(aim.class_dim, 1)
    if by_class.shape[1] == 1 and activation_for(by_class, activation) == "softmax":
        raise TargetError(
            "The softmax of one class is always 1, so RISE sees nothing; take score=logit, or activation='sigmoid'."
        )
    return probabilities(by_class, activation).movedim(1, aim.class_dim)


def _random_cells(count: int, grid: int, probability: float, seed: int, image: Tensor) -> tuple[Tensor, Tensor]:
    """Open cells of every mask, ``(count, grid, …)``, and its shift in pixels, ``(count, dimensions)``."""
    source = draws.generator(seed)
    size = image.shape[2:]
    cells = draws.uniform((count, *[grid] * len(size)), source) < probability
    sides = torch.tensor([-(-n // grid) for n in size])
    return cells, (draws.uniform((count, len(size)), source) * sides).long()


def _enlarged(cells: Tensor, shifts: Tensor, image: Tensor) -> Tensor:
    """Smooth masks of the input's size, ``(n, …)``: enlarged by one cell too many and cut out at each mask's shift."""
    size, grid = image.shape[2:], cells.shape[1]
    large = enlarged(cells, [(grid + 1) * -(-n // grid) for n in size])
    return torch.stack(
        [
            mask[tuple(slice(start, start + n) for start, n in zip(shift, size, strict=True))]
            for mask, shift in zip(large, shifts.tolist(), strict=True)
        ]
    )


PERTURBATION_METHODS = (
    (
        "occlusion",
        build_occlusion,
        "Drop of the logit where a sliding window hides the input",
        "Zeiler and Fergus, ECCV 2014",
        Meaning("hiding it costs", "hiding it helps"),
    ),
    (
        "rise",
        build_rise,
        "Random masks, weighted by the class probability seen through each",
        "Petsiuk et al., BMVC 2018",
        Meaning("likelier when seen", ""),
    ),
)
