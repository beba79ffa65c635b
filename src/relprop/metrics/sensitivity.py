"""Agreement of relevance with the logit under perturbation (sensitivity-n, infidelity), and its own stability (max-sensitivity)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from relprop.errors import InputError, OptionError
from relprop.metrics.base import Follows, MetricSpec, Need, Statistics, Value, identity
from relprop.metrics.fills import make_fill
from relprop.metrics.maps import heatmap, total
from relprop.metrics.perturbation import Model
from relprop.metrics.seeds import Seeds, generators, normal, permutation, uniform
from relprop.metrics.similarity import pearson

Explain = Callable[[Tensor, Tensor], Tensor]
"""Inputs ``(B, C, H, W)``, target ``(B,)`` → relevance ``(B, C, H, W)``, or ``(B, H, W)``."""


def target_logit(model: Model, inputs: Tensor, target: Tensor) -> Tensor:
    """Return the logit of each target; ``(B, …)``, ``(B,)`` → ``(B,)``."""
    logits = model(inputs)
    return logits.gather(1, target.to(logits.device)[:, None])[:, 0]


def sensitivity_n_update(
    relevance: Tensor,
    inputs: Tensor,
    target: Tensor,
    model: Model,
    seeds: Seeds = 0,
    *,
    shares: Sequence[float] = (0.01, 0.03, 0.1, 0.3),
    samples: int = 32,
    fill: str = "zero",
) -> Statistics:
    """Return the correlation, over random sets of n pixels, of the set's relevance with the drop of the logit when the set is removed.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``.
        inputs: ``(B, C, H, W)``.
        target: ``(B,)`` classes.
        model: Inputs → logits.
        seeds: Seeds of the sets, one per image or one for all.
        shares: The sizes n as shares of the image's pixels.
        samples: Number of sets per size.
        fill: See ``fills.make_fill``.

    Returns:
        ``sensitivity_n_curve`` ``(B, sizes)``: Pearson correlation, NaN if either side is constant.

    Raises:
        OptionError: A share outside (0, 1].
    """
    if not all(0 < share <= 1 for share in shares):
        raise OptionError(f"Option shares must lie in (0, 1], not {tuple(shares)}.")
    heat, sources = heatmap(relevance, inputs.dim() - 2).to(inputs.device), generators(seeds, len(inputs))
    filled, pixels = make_fill(fill, inputs, sources), heat[0].numel()
    with torch.no_grad():
        full = target_logit(model, inputs, target)
        curve: list[Tensor] = []
        for share in shares:
            size = max(1, round(share * pixels))
            sums, drops = [], []
            for _ in range(samples):
                chosen = permutation(sources, heat.flatten(1), pixels)[:, :size]
                removed = torch.zeros_like(heat.flatten(1), dtype=torch.bool).scatter_(1, chosen, value=True).view_as(heat)
                sums.append(total(heat * removed))
                drops.append(full - target_logit(model, filled(removed), target))
            curve.append(pearson(torch.stack(sums, 1), torch.stack(drops, 1)))
    return {"sensitivity_n_curve": torch.stack(curve, 1)}


def sensitivity_n_compute(statistics: Statistics) -> Statistics:
    """Add the mean of the curve over the sizes."""
    return {**statistics, "sensitivity_n": statistics["sensitivity_n_curve"].mean(-1)}


def infidelity_update(  # noqa: PLR0913 - options by keyword
    relevance: Tensor,
    inputs: Tensor,
    target: Tensor,
    model: Model,
    seeds: Seeds = 0,
    *,
    perturbation: str = "noise",
    scale: float = 0.2,
    side: int = 56,
    samples: int = 32,
) -> Statistics:
    """Return ``mean((Σ perturbation · relevance − drop of the logit)²)`` over random perturbations of the input.

    Args:
        relevance: ``(B, C, H, W)``, the inputs' shape, per unit of input (a gradient, not gradient × input), as in the paper.
        inputs: ``(B, C, H, W)``.
        target: ``(B,)`` classes.
        model: Inputs → logits.
        seeds: Seeds of the perturbations, one per image or one for all.
        perturbation: ``noise``, normal of standard deviation ``scale``; or ``square``, a random square (of volumes, a cube) set to zero.
        scale: Standard deviation of the noise.
        side: Side of the square in pixels.
        samples: Number of perturbations.

    Returns:
        ``infidelity`` ``(B,)``, and ``infidelity_scaled`` with the relevance multiplied by the factor that minimizes it.

    Raises:
        InputError: The relevance and the inputs differ in shape.
        OptionError: An unknown perturbation.
    """
    if relevance.shape != inputs.shape:
        raise InputError(f"Infidelity needs relevance of the inputs' shape {tuple(inputs.shape)}, not {tuple(relevance.shape)}.")
    if perturbation not in {"noise", "square"}:
        raise OptionError(f"Option perturbation must be 'noise' or 'square', not {perturbation!r}.")
    sources = generators(seeds, len(inputs))
    predicted, drops = [], []
    with torch.no_grad():
        full = target_logit(model, inputs, target)
        for _ in range(samples):
            change = scale * normal(sources, inputs) if perturbation == "noise" else inputs * _square(inputs, sources, side)
            predicted.append((change * relevance).flatten(1).sum(1))
            drops.append(full - target_logit(model, inputs - change, target))
    left, right = torch.stack(predicted, 1), torch.stack(drops, 1)
    power = (left * left).mean(1)
    best = torch.where(power > 0, (left * right).mean(1) / power.where(power > 0, 1), 0)
    return {"infidelity": ((left - right) ** 2).mean(1), "infidelity_scaled": ((best[:, None] * left - right) ** 2).mean(1)}


def _square(inputs: Tensor, sources: Sequence[torch.Generator], side: int) -> Tensor:
    size = inputs.shape[2:]
    corner = uniform(sources, inputs.new_empty(len(inputs), len(size)))
    inside = torch.ones(len(inputs), 1, *size, dtype=torch.bool, device=inputs.device)
    for dim, length in enumerate(size):
        start = (corner[:, dim] * max(length - side + 1, 1)).long()[:, None]
        along = torch.arange(length, device=inputs.device)
        inside &= ((along >= start) & (along < start + side)).reshape(
            -1, 1, *[length if d == dim else 1 for d in range(len(size))]
        )
    return inside.to(inputs.dtype)


def max_sensitivity_update(
    relevance: Tensor,
    inputs: Tensor,
    target: Tensor,
    explain: Explain,
    seeds: Seeds = 0,
    *,
    radius: float = 0.02,
    samples: int = 10,
) -> Statistics:
    """Return the largest and mean relative change of the relevance over random inputs within ``radius``.

    Args:
        relevance: Relevance of the inputs, as ``explain`` returns it.
        inputs: ``(B, C, H, W)``.
        target: ``(B,)`` classes, kept for the perturbed inputs.
        explain: Inputs, target → relevance.
        seeds: Seeds of the perturbations, one per image or one for all.
        radius: The perturbation is uniform in [−radius, radius] for every input value.
        samples: Number of perturbed inputs.

    Returns:
        ``max_sensitivity`` and ``avg_sensitivity`` ``(B,)``: ‖R(x + δ) − R(x)‖ / ‖R(x)‖; NaN if all relevance is zero.
    """
    sources, size = generators(seeds, len(inputs)), relevance.flatten(1).norm(dim=1)
    changes: list[Tensor] = []
    for _ in range(samples):
        nearby = inputs + radius * (2 * uniform(sources, inputs) - 1)
        changes.append((explain(nearby, target) - relevance).detach().flatten(1).norm(dim=1))
    change = torch.stack(changes, 1) / size[:, None]
    change = change.where(size[:, None] > 0, torch.nan)
    return {"max_sensitivity": change.amax(1), "avg_sensitivity": change.mean(1)}


_INF = float("inf")

SENSITIVITY_N = MetricSpec(
    name="sensitivity-n",
    values=(
        Value(
            "sensitivity_n_curve",
            "higher",
            -1,
            1,
            "correlation of a set's relevance with the drop of the logit, by set size",
        ),
        Value("sensitivity_n", "higher", -1, 1, "mean over the set sizes"),
    ),
    needs=(Need.RELEVANCE, Need.INPUTS, Need.TARGET, Need.MODEL, Need.SEEDS),
    update=sensitivity_n_update,
    compute=sensitivity_n_compute,
    source="Ancona et al., Towards Better Understanding of Gradient-based Attribution Methods, ICLR 2018, section 3.2",
    follows=Follows.NUMBER,
)
INFIDELITY = MetricSpec(
    name="infidelity",
    values=(
        Value("infidelity", "lower", 0, _INF, "mean square difference of predicted and true drop of the logit"),
        Value("infidelity_scaled", "lower", 0, _INF, "the same for the best multiple of the relevance"),
    ),
    needs=(Need.RELEVANCE, Need.INPUTS, Need.TARGET, Need.MODEL, Need.SEEDS),
    update=infidelity_update,
    compute=identity,
    source="Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, Definition 2.1",
    follows=Follows.NUMBER,
)
MAX_SENSITIVITY = MetricSpec(
    name="max-sensitivity",
    values=(
        Value("max_sensitivity", "lower", 0, _INF, "largest relative change of the relevance for inputs nearby"),
        Value("avg_sensitivity", "lower", 0, _INF, "mean relative change"),
    ),
    needs=(Need.RELEVANCE, Need.INPUTS, Need.TARGET, Need.EXPLAIN, Need.SEEDS),
    update=max_sensitivity_update,
    compute=identity,
    source="Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, Definition 3.1",
    follows=Follows.NUMBER,
)
