"""Black-box methods: changes of the model's outputs where parts of the image are hidden."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from relprop import draws
from relprop.attribution import Attributed, Attribution, Problem
from relprop.errors import OptionError, TargetError
from relprop.heads import activation_for, probabilities
from relprop.meaning import Meaning
from relprop.methods.gradients import by_sample, captum_attr, scored_rows
from relprop.methods.grids import over_channels
from relprop.methods.options import as_reference, at_least


def build_occlusion(
    *, window: int = 32, stride: int = 16, baseline: float | Tensor = 0.0, internal_batch_size: int = 16
) -> Attribution:
    """Drop of the score where a square window hides the image, averaged over the windows on each pixel; through captum.

    Args:
        window: Side of the window, in pixels.
        stride: Pixels between neighboring windows.
        baseline: What the window shows, in the model's own units: a number, or a tensor that fits a sample.
        internal_batch_size: Images per forward pass.
    """
    at_least(1, window=window, stride=stride, internal_batch_size=internal_batch_size)
    if stride > window:
        raise OptionError(f"Option stride={stride} must not exceed window={window}, or pixels between windows are never hidden.")

    def explain(sample: Problem) -> Attributed:
        image = sample.image
        height, width = min(window, image.shape[2]), min(window, image.shape[3])
        score, rows = scored_rows(sample)
        parts = (
            captum_attr()
            .Occlusion(score)
            .attribute(
                image,
                sliding_window_shapes=(image.shape[1], height, width),
                strides=(image.shape[1], min(stride, height), min(stride, width)),
                baselines=as_reference(baseline, image),
                perturbations_per_eval=internal_batch_size,
                additional_forward_args=rows,
            )
        )
        return Attributed([over_channels(parts[:, 0].to(image.dtype), image)])

    return Attribution("occlusion", lambda problem: by_sample(problem, explain))


def build_rise(
    *,
    masks: int = 4000,
    grid: int = 7,
    probability: float = 0.5,
    score: Literal["probability", "logit"] = "probability",
    seed: int = 0,
    internal_batch_size: int = 32,
) -> Attribution:
    """RISE: the mean of random masks, each weighted by the output for the image seen through it.

    Args:
        masks: Random masks; every sample gets the same.
        grid: Cells along each side of a mask before it is enlarged.
        probability: Probability that a cell is open.
        score: What weights a mask; the paper takes the class probability.
        seed: Seed of the masks.
        internal_batch_size: Masked images per forward pass.
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
            total += torch.einsum("n,nhw->hw", weights, shown)
        return Attributed([over_channels(total[None] / (masks * probability), image)])

    return Attribution("rise", lambda problem: by_sample(problem, explain))


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
    """Open cells of every mask, ``(count, grid, grid)``, and its shift in pixels, ``(count, 2)``."""
    source = draws.generator(seed)
    cells = draws.uniform((count, grid, grid), source) < probability
    sizes = torch.tensor([-(-n // grid) for n in image.shape[2:]])
    return cells, (draws.uniform((count, 2), source) * sizes).long()


def _enlarged(cells: Tensor, shifts: Tensor, image: Tensor) -> Tensor:
    """Smooth masks of the image's size, ``(n, H, W)``: enlarged by one cell too many and cut out at each mask's shift."""
    height, width = image.shape[2:]
    grid = cells.shape[1]
    large = F.interpolate(
        cells.unsqueeze(1),
        ((grid + 1) * -(-height // grid), (grid + 1) * -(-width // grid)),
        mode="bilinear",
        align_corners=False,
    ).squeeze(1)
    return torch.stack(
        [m[top : top + height, left : left + width] for m, (top, left) in zip(large, shifts.tolist(), strict=True)]
    )


PERTURBATION_METHODS = (
    (
        "occlusion",
        build_occlusion,
        "Drop of the logit where a sliding window hides the image",
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
