"""Insertion and deletion: the target's probability while pixels are inserted or deleted, most relevant first."""

from math import prod

import torch
from torch import Tensor

from relprop.metrics.base import Follows, MetricSpec, Need, Statistics, Value
from relprop.metrics.fills import blurred, make_fill
from relprop.metrics.perturbation import Activation, Model, check_shapes, output_curves, removal_step
from relprop.metrics.seeds import generators


def insertion_deletion_update(  # noqa: PLR0913 - options by keyword
    relevance: Tensor,
    inputs: Tensor,
    target: Tensor,
    model: Model,
    *,
    steps: int = 224,
    deletion_fill: str = "zero",
    sigma: float = 10.0,
    activation: Activation = None,
    at_once: int | None = None,
) -> Statistics:
    """Insert the pixels, most relevant first, into the blurred image, and delete them in the same order from the image.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``.
        inputs: ``(B, C, H, W)``.
        target: ``(B,)`` classes.
        model: Inputs → logits.
        steps: Number of equal parts into which the pixels are split.
        deletion_fill: See ``fills.make_fill``.
        sigma: Standard deviation of the blur, in pixels.
        activation: The activation of the model's head, from which its probabilities come.
        at_once: Number of steps per forward pass; by default as many as make up ``perturbation.PASS_VALUES`` input values.

    Returns:
        ``insertion_curve``, ``deletion_curve`` ``(B, steps + 1)``: the target's probability, or with the activation ``none`` its number.
    """
    check_shapes(inputs, relevance, 1, 1, steps)
    pixels = prod(inputs.shape[2:])
    rank = removal_step(relevance, order="morf", region=1, per_step=1, sources=(), positions=inputs.dim() - 2).to(inputs.device)
    removed, blur = make_fill(deletion_fill, inputs, generators(0, len(inputs))), blurred(inputs, sigma)

    def first(point: int) -> Tensor:
        return rank < round(pixels * point / steps)

    def deleted(point: int) -> Tensor:
        return removed(first(point))

    def inserted(point: int) -> Tensor:
        return torch.where(first(point)[:, None], inputs, blur)

    shown = "logit" if activation == "none" else "probability"
    return {
        f"{name}_curve": output_curves(model, path, steps + 1, target, activation=activation, at_once=at_once)[shown]
        for name, path in (("insertion", inserted), ("deletion", deleted))
    }


def insertion_deletion_compute(curves: Statistics) -> Statistics:
    """Add the areas under the curves, by the trapezoidal rule over the share of pixels from 0 to 1."""
    areas = {f"{name}_auc": _area(curves[f"{name}_curve"]) for name in ("insertion", "deletion")}
    return {**curves, **areas}


def _area(curve: Tensor) -> Tensor:
    return ((curve[..., 1:] + curve[..., :-1]) / 2).mean(-1)


INSERTION_DELETION = MetricSpec(
    name="insertion-deletion",
    values=(
        Value("insertion_curve", "higher", 0, 1, "probability of the target while pixels come into the blurred image"),
        Value("deletion_curve", "lower", 0, 1, "probability of the target while pixels are removed"),
        Value("insertion_auc", "higher", 0, 1, "area under the insertion curve"),
        Value("deletion_auc", "lower", 0, 1, "area under the deletion curve"),
    ),
    needs=(Need.RELEVANCE, Need.INPUTS, Need.TARGET, Need.MODEL),
    update=insertion_deletion_update,
    compute=insertion_deletion_compute,
    source="Petsiuk et al., RISE, BMVC 2018, section 4.3 and Algorithm 1",
    follows=Follows.NUMBER,
)
