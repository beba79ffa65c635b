"""Region perturbation: the change of the model's output while pixels are removed in the order of their relevance."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from relprop.errors import InputError, OptionError
from relprop.heads import decided, probabilities
from relprop.metrics.base import Direction, Follows, MetricSpec, Need, Statistics, Value
from relprop.metrics.fills import make_fill
from relprop.metrics.maps import heatmap
from relprop.metrics.seeds import Seeds, generators, permutation

Model = Callable[[Tensor], Tensor]
"""Inputs ``(B, …)`` → logits ``(B, classes)``."""

Activation = Literal["softmax", "sigmoid", "none"] | None
"""The activation of the model's head, see :mod:`relprop.heads`; None for softmax, or a sigmoid where there is one class.

With ``"none"`` the outputs are numbers without probabilities, such as a regression's, and there is neither accuracy nor probability.
"""

ORDERS = ("morf", "lerf", "random")
_POOLING = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
PASS_VALUES = 2**17
"""Number of input values from which on a forward pass keeps a CPU busy (measured); smaller steps share a pass."""


def removal_step(
    relevance: Tensor, *, order: str, region: int, per_step: int, sources: Sequence[torch.Generator], positions: int = 2
) -> Tensor:
    """Return the step, counted from 0, at which each pixel is removed; ``(B, H, W)``.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``.
        order: ``morf`` (most relevant first), ``lerf`` (least relevant first), ``random``.
        region: Side of the squares that are removed together, ranked by their mean relevance; 1 for pixels. Ties go in
            reading order.
        per_step: Number of regions per step.
        sources: One generator per image, for ``random``.
        positions: Dimensions behind the channels: 1 for signals, 3 for volumes, whose regions are cubes.

    Raises:
        OptionError: An unknown order.
    """
    if order not in ORDERS:
        raise OptionError(f"There is no order {order!r}; there are {', '.join(ORDERS)}.")
    heat = heatmap(relevance, positions)
    cells = _POOLING[positions](heat[:, None], region, ceil_mode=True, count_include_pad=False)[:, 0] if region > 1 else heat
    flat = cells.flatten(1)
    by_relevance = flat.sort(dim=1, descending=order == "morf", stable=True).indices
    ranked = permutation(sources, flat, flat.shape[1]) if order == "random" else by_relevance
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(ranked)
    step = (torch.empty_like(ranked).scatter_(1, ranked, places) // per_step).view_as(cells)
    for dim, size in enumerate(heat.shape[1:], 1):
        step = step.repeat_interleave(region, dim).narrow(dim, 0, size)
    return step


_OF_CLASSES: dict[str, Callable[[Tensor, str | None], Tensor]] = {
    "accuracy": lambda logits, activation: decided(logits, activation).to(logits.dtype),
    "probability": probabilities,
}
"""What logits of classes say besides themselves."""


def output_curves(
    model: Model,
    pictures: Callable[[int], Tensor],
    points: int,
    target: Tensor,
    *,
    activation: Activation = None,
    at_once: int | None = None,
) -> dict[str, Tensor]:
    """Run the model on every point of a path; return ``accuracy``, ``probability`` and ``logit`` of the target, each ``(B, points)``.

    The accuracy is 1 where the model decides for the target: by the largest logit, under a sigmoid by a probability above one half. With the
    activation ``none`` there is the ``logit`` alone, which is any number then.

    Args:
        model: Inputs → logits.
        pictures: Point → ``(B, C, H, W)`` inputs.
        points: Number of points of the path.
        target: ``(B,)`` class indices.
        activation: The activation of the model's head.
        at_once: Number of points per forward pass; by default as many as make up ``PASS_VALUES`` input values.
    """
    at_once = at_once or max(1, PASS_VALUES // pictures(0).numel())
    curves: dict[str, list[Tensor]] = {name: [] for name in (*(() if activation == "none" else _OF_CLASSES), "logit")}
    with torch.no_grad():
        for first in range(0, points, at_once):
            chunk = range(first, min(first + at_once, points))
            logits = model(torch.cat([pictures(point) for point in chunk]))
            index = target.to(logits.device).repeat(len(chunk))[:, None]
            for name, curve in curves.items():
                values = _OF_CLASSES[name](logits, activation) if name in _OF_CLASSES else logits
                curve.append(values.gather(1, index).view(len(chunk), len(target)))
    return {name: torch.cat(parts).T for name, parts in curves.items()}


def perturbation_update(  # noqa: PLR0913 - options by keyword
    relevance: Tensor,
    inputs: Tensor,
    target: Tensor,
    model: Model,
    seeds: Seeds = 0,
    *,
    order: str = "morf",
    region: int = 1,
    per_step: int = 100,
    steps: int = 40,
    fill: str = "zero",
    activation: Activation = None,
    at_once: int | None = None,
) -> Statistics:
    """Remove ``per_step`` regions at a time and record the output at every step.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``.
        inputs: ``(B, C, H, W)``, as the model takes them; or signals ``(B, C, T)`` or volumes ``(B, C, D, H, W)``, with maps likewise.
        target: ``(B,)`` classes whose accuracy, probability and logit are recorded; true labels give the accuracy of the network.
        model: Inputs → logits.
        seeds: Seeds of the random order and of noise, one per image or one for all.
        order: ``morf``, ``lerf`` or ``random``.
        region: Side of the squares that are removed together.
        per_step: Number of regions per step.
        steps: Number of steps; fewer if the image has no more pixels.
        fill: See ``fills.make_fill``.
        activation: The activation of the model's head, from which its probabilities come.
        at_once: Number of steps per forward pass; by default as many as make up ``PASS_VALUES`` input values.

    Returns:
        ``accuracy_curve``, ``probability_curve``, ``logit_curve`` ``(B, steps + 1)``, the first point before any removal; with the activation
        ``none`` the last alone.
    """
    check_shapes(inputs, relevance, region, per_step, steps)
    sources = generators(seeds, len(inputs))
    step = removal_step(relevance, order=order, region=region, per_step=per_step, sources=sources, positions=inputs.dim() - 2)
    step = step.to(inputs.device)
    filled = make_fill(fill, inputs, sources)
    points = min(steps, int(step.max()) + 1) + 1
    curves = output_curves(model, lambda point: filled(step < point), points, target, activation=activation, at_once=at_once)
    return {f"{name}_curve": curve for name, curve in curves.items()}


def check_shapes(inputs: Tensor, relevance: Tensor, region: int, per_step: int, steps: int) -> None:
    """Check the counts and the shapes.

    Raises:
        OptionError: A count is below one.
        InputError: The shapes of relevance and inputs do not fit.
    """
    if min(region, per_step, steps) < 1:
        raise OptionError(f"Options region, per_step and steps must be at least 1, not {region}, {per_step} and {steps}.")
    positions = inputs.shape[2:]
    if len(positions) not in _POOLING or tuple(relevance.shape) not in {
        (len(inputs), *positions),
        (len(inputs), *relevance.shape[1:2], *positions),
    }:
        raise InputError(
            f"Relevance {tuple(relevance.shape)} does not fit the inputs {tuple(inputs.shape)}, which must be images (B, C, H, W), or "
            "signals (B, C, T) or volumes (B, C, D, H, W)."
        )


def perturbation_compute(curves: Statistics) -> Statistics:
    """Add each curve's mean and AOPC, ``mean(curve[0] − curve)``."""
    scores = dict(curves)
    for key, curve in curves.items():
        name = key.removesuffix("_curve")
        scores[f"{name}_mean"] = curve.mean(-1)
        scores[f"{name}_aopc"] = (curve[..., :1] - curve).mean(-1)
    return scores


def abpc_update(  # noqa: PLR0913 - options by keyword
    relevance: Tensor,
    inputs: Tensor,
    target: Tensor,
    model: Model,
    seeds: Seeds = 0,
    *,
    region: int = 1,
    per_step: int = 100,
    steps: int = 40,
    fill: str = "zero",
    activation: Activation = None,
    at_once: int | None = None,
) -> Statistics:
    """Return the curves of both orders, least and most relevant first; arguments as in ``perturbation_update``."""
    curves: Statistics = {}
    for order in ("lerf", "morf"):
        found = perturbation_update(
            relevance,
            inputs,
            target,
            model,
            seeds,
            order=order,
            region=region,
            per_step=per_step,
            steps=steps,
            fill=fill,
            activation=activation,
            at_once=at_once,
        )
        curves |= {f"{order}_{name}": curve for name, curve in found.items()}
    return curves


def abpc_compute(curves: Statistics) -> Statistics:
    """Return the area between the curves of each output: ``mean(lerf − morf)``."""
    names = [key.removeprefix("lerf_").removesuffix("_curve") for key in curves if key.startswith("lerf_")]
    return {f"{name}_abpc": (curves[f"lerf_{name}_curve"] - curves[f"morf_{name}_curve"]).mean(-1) for name in names}


_INF = float("inf")
_NEEDS = (Need.RELEVANCE, Need.INPUTS, Need.TARGET, Need.MODEL, Need.SEEDS)


_SPANS = {"accuracy": (0.0, 1.0), "probability": (0.0, 1.0), "logit": (-_INF, _INF)}
_DROPS = {"accuracy": (-1.0, 1.0), "probability": (-1.0, 1.0), "logit": (-_INF, _INF)}
_SAMEK = "Samek et al., Evaluating the Visualization of What a Deep Neural Network Has Learned, TNNLS 2017, Eq. 12"


def _values(high: Direction, low: Direction) -> tuple[Value, ...]:
    return (
        *(
            Value(f"{name}_curve", high, *span, f"{name} of the target before and after each step")
            for name, span in _SPANS.items()
        ),
        *(Value(f"{name}_mean", high, *span, f"mean of the {name} curve") for name, span in _SPANS.items()),
        *(Value(f"{name}_aopc", low, *span, f"mean drop of the {name} curve from its start") for name, span in _DROPS.items()),
    )


def _perturbation(name: str, order: str, high: Direction, low: Direction, source: str) -> MetricSpec:
    return MetricSpec(
        name,
        _values(high, low),
        _NEEDS,
        perturbation_update,
        perturbation_compute,
        source,
        options={"order": order},
        follows=Follows.NUMBER,
    )


LERF = _perturbation("lerf", "lerf", "higher", "lower", "Nam et al., Relative Attributing Propagation, AAAI 2020, Fig. 7")
MORF = _perturbation("morf", "morf", "lower", "higher", _SAMEK)
RANDOM_REMOVAL = _perturbation("random-removal", "random", "none", "none", f"the baseline of {_SAMEK}")

ABPC = MetricSpec(
    name="abpc",
    values=tuple(
        Value(f"{name}_abpc", "higher", *span, f"mean of the {name} curve, least relevant first, minus most relevant first")
        for name, span in _DROPS.items()
    ),
    needs=_NEEDS,
    update=abpc_update,
    compute=abpc_compute,
    source=f"area between the perturbation curves, after {_SAMEK}",
    follows=Follows.NUMBER,
)
