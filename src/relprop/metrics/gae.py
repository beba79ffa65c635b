"""Global attribution evaluation (GAE): local consistency times contrastiveness, one score for every four images."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from relprop import draws
from relprop.errors import InputError, OptionError
from relprop.metrics.base import MetricSpec, Need, Statistics, Value, identity
from relprop.metrics.perturbation import Model
from relprop.metrics.seeds import Seeds, generators
from relprop.metrics.sensitivity import Explain, target_logit


@dataclass(frozen=True)
class Masked:
    """Images masked step by step: inputs ``(S, G, C, H, W)``, logits ``(S, G)`` and the summed |x·∂logit/∂x| ``(G, C, H, W)``."""

    inputs: Tensor
    logits: Tensor
    influence: Tensor


def gae_update(inputs: Tensor, model: Model, explain: Explain, seeds: Seeds = 0, *, steps: int = 10) -> Statistics:
    """Score the explanations of each group of four consecutive images.

    Args:
        inputs: ``(4·G, C, H, W)``.
        model: Inputs → logits, differentiable with respect to the inputs.
        explain: Inputs, target → relevance, ``(…, C, H, W)`` or ``(…, H, W)``, of any scale: each map is divided by its
            largest magnitude.
        seeds: Seeds of the draw of the positive image, one per image (the first of each group counts) or one for all.
        steps: Number of equal parts in which the positive image is masked; the last, which masks everything, is not evaluated.

    Returns:
        ``faithfulness``, ``robustness``, ``local_consistency``, ``contrastiveness``, ``gae``, each ``(G,)``.

    Raises:
        InputError: The number of images is no multiple of four.
        OptionError: Fewer than two steps.
    """
    if len(inputs) % 4 or not len(inputs):
        raise InputError(f"GAE takes its images in groups of four; {len(inputs)} is no multiple of four.")
    if steps < 2:
        raise OptionError(f"GAE needs at least 2 steps, not {steps}.")
    groups = torch.arange(len(inputs) // 4, device=inputs.device)
    with torch.no_grad():
        logits = model(inputs)
        classes = logits.argmax(1).view(-1, 4)
        mosaics = mosaic(inputs)
        positive = _draw(model(mosaics).gather(1, classes), seeds)
    chosen, target = 4 * groups + positive, classes[groups, positive]
    most, least = (masked_steps(model, inputs[chosen], target, largest=largest, steps=steps) for largest in (True, False))
    relevance = _positive_relevance(
        explain, torch.cat([inputs[chosen][None], most.inputs[1:], least.inputs[1:]]), target, len(inputs)
    )
    faithfulness = overlap(relevance[0], _sign(_share(least.influence) - _share(most.influence)))
    drift = dice(relevance[0], relevance[1:steps]) - dice(relevance[0], relevance[steps:])
    gap = (least.logits[1:] - most.logits[1:]) / most.logits[0]
    robustness = (1 - 2 * dice(drift.T, gap.T)).clamp(-1, 1)
    score_mask = _score_mask(logits[chosen].gather(1, classes), positive, inputs)
    contrastiveness = overlap(_positive_relevance(explain, mosaics[None], target, len(inputs))[0], score_mask).relu()
    consistency = (faithfulness + robustness).relu() / 2
    return {
        "faithfulness": faithfulness,
        "robustness": robustness,
        "local_consistency": consistency,
        "contrastiveness": contrastiveness,
        "gae": consistency * contrastiveness,
    }


def mosaic(inputs: Tensor) -> Tensor:
    """Tile every four consecutive images, at half size and in reading order, into one; ``(4·G, C, H, W)`` → ``(G, C, H, W)``."""
    if inputs.dim() != 4:
        raise InputError(f"GAE makes mosaics of images (B, C, H, W), and the inputs have shape {tuple(inputs.shape)}.")
    height, width = inputs.shape[2:]
    rows, columns = (height // 2, height - height // 2), (width // 2, width - width // 2)
    parts = [F.interpolate(inputs[place::4], (rows[place // 2], columns[place % 2])) for place in range(4)]
    return torch.cat([torch.cat(parts[:2], 3), torch.cat(parts[2:], 3)], 2)


def _draw(scores: Tensor, seeds: Seeds) -> Tensor:
    """Draw one of four by the softmax of their scores; ``(G, 4)`` → ``(G,)``."""
    seeds = seeds if isinstance(seeds, int) else list(seeds)[::4]
    points = torch.stack([draws.uniform((), source, torch.float64) for source in generators(seeds, len(scores))])
    chances = scores.double().softmax(1).cumsum(1)
    return (points.to(scores.device)[:, None] >= chances[:, :3]).sum(1)


def masked_steps(model: Model, inputs: Tensor, target: Tensor, *, largest: bool, steps: int) -> Masked:
    """Mask the inputs with zeros in equal parts by |x·∂logit/∂x|, recomputed at every step; masked values stay masked.

    Args:
        model: Inputs → logits, differentiable.
        inputs: ``(G, C, H, W)``.
        target: ``(G,)`` classes.
        largest: Whether the largest influence goes first, or the smallest.
        steps: Number of parts; the states before each part are returned.
    """
    values, gone = inputs.detach(), torch.zeros_like(inputs, dtype=torch.bool).flatten(1)
    states, logits, influence = [], [], torch.zeros_like(inputs)
    for step in range(1, steps + 1):
        with torch.enable_grad():
            variable = values.clone().requires_grad_()
            logit = target_logit(model, variable, target)
            (gradient,) = torch.autograd.grad(logit.sum(), variable)
        impact = (gradient * values).abs()
        states.append(values)
        logits.append(logit.detach())
        influence = influence + impact
        order = (impact if largest else -impact).flatten(1).masked_fill(gone, torch.inf)
        chosen = order.sort(dim=1, descending=True, stable=True).indices[:, : step * order.shape[1] // steps]
        gone = gone.scatter(1, chosen, value=True)
        values = inputs.detach().masked_fill(gone.view_as(inputs), 0)
    return Masked(torch.stack(states), torch.stack(logits), influence)


def _positive_relevance(explain: Explain, states: Tensor, target: Tensor, at_once: int) -> Tensor:
    """Explain ``(S, G, C, H, W)`` states in batches of ``at_once``; return each map's positive part divided by its largest magnitude."""
    flat, targets = states.flatten(0, 1), target.repeat(len(states))
    parts = [explain(flat[i : i + at_once], targets[i : i + at_once]).detach() for i in range(0, len(flat), at_once)]
    relevance = torch.cat(parts)
    relevance = relevance[:, None] if relevance.ndim == 3 else relevance
    peak = relevance.flatten(1).abs().amax(1).view(-1, 1, 1, 1)
    return (relevance / peak.where(peak > 0, 1)).relu().expand_as(flat).view_as(states)


def _share(influence: Tensor) -> Tensor:
    total = influence.flatten(1).sum(1).view(-1, 1, 1, 1)
    return influence / total.where(total > 0, 1)


def _sign(difference: Tensor) -> Tensor:
    return torch.where(difference >= 0, 1.0, -1.0)


def overlap(relevance: Tensor, mask: Tensor) -> Tensor:
    """Return each map's relevance-weighted mean of the mask; ``(G, …)`` → ``(G,)``, 0 if all relevance is zero."""
    total = relevance.flatten(1).sum(1)
    return (relevance * mask).flatten(1).sum(1) / total.where(total > 0, 1)


def dice(left: Tensor, right: Tensor) -> Tensor:
    """Return Σ|left − right| / (Σ|left| + Σ|right|) in [0, 1]; ``(G, …)`` and ``(G, …)`` or ``(S, G, …)`` → ``(G,)`` or ``(S, G)``."""
    dims = tuple(range(right.ndim - left.ndim + 1, right.ndim))
    total = left.abs().sum(tuple(range(1, left.ndim))) + right.abs().sum(dims)
    return ((left - right).abs().sum(dims) / total.where(total > 0, 1)).clamp(max=1)  # rounding may exceed 1


def _score_mask(scores: Tensor, positive: Tensor, inputs: Tensor) -> Tensor:
    """Return the mask 2·p(class of quadrant)/p(positive class) − 1 of each quadrant, and 1 on the two lines at each seam."""
    height, width = inputs.shape[2:]
    ratio = (scores - scores.gather(1, positive[:, None])).exp()
    top = torch.arange(height, device=inputs.device)[:, None] >= height // 2
    left = torch.arange(width, device=inputs.device) >= width // 2
    quadrant = 2 * top.long() + left.long()
    mask = (2 * ratio - 1)[:, quadrant]
    mask[:, height // 2 - 1 : height // 2 + 1] = 1
    mask[:, :, width // 2 - 1 : width // 2 + 1] = 1
    return mask[:, None]


GAE = MetricSpec(
    name="gae",
    values=(
        Value(
            "faithfulness",
            "higher",
            -1,
            1,
            "share of positive relevance on what raises the logit minus the share on what does not",
        ),
        Value(
            "robustness",
            "higher",
            -1,
            1,
            "agreement of changes of the relevance with changes of the logit while the image is masked",
        ),
        Value("local_consistency", "higher", 0, 1, "mean of the two, its positive part"),
        Value("contrastiveness", "higher", 0, 1, "positive relevance on the right image of a mosaic of four"),
        Value("gae", "higher", 0, 1, "local consistency times contrastiveness"),
    ),
    needs=(Need.INPUTS, Need.MODEL, Need.EXPLAIN, Need.SEEDS),
    update=gae_update,
    compute=identity,
    source="Vukadin et al., Advancing Attribution-Based Explainability through Multi-Component Evaluation …, TIST 2024",
    group=4,
)
