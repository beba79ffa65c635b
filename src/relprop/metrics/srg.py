"""Symmetric relevance gain (SRG): the output while patches are removed least relevant first, minus most relevant first."""

from math import ceil, prod

from torch import Tensor

from relprop.metrics.base import Direction, Follows, MetricSpec, Need, Statistics, Value
from relprop.metrics.perturbation import Activation, Model, abpc_update, check_shapes
from relprop.metrics.seeds import Seeds


def srg_update(  # noqa: PLR0913 - options by keyword
    relevance: Tensor,
    inputs: Tensor,
    target: Tensor,
    model: Model,
    seeds: Seeds = 0,
    *,
    region: int = 16,
    per_step: int = 4,
    fill: str = "mean",
    activation: Activation = None,
    at_once: int | None = None,
) -> Statistics:
    """Remove all patches of the image, ``per_step`` at a time, in both orders.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``; a patch is ranked by its mean relevance.
        inputs: ``(B, C, H, W)``.
        target: ``(B,)`` classes.
        model: Inputs → logits.
        seeds: Seeds of noise, one per image or one for all.
        region: Side of the patches in pixels.
        per_step: Number of patches per step.
        fill: See ``fills.make_fill``; ``mean`` is each image's mean color, ``zero`` the value 0 after preprocessing.
        activation: The activation of the model's head, from which its probabilities come.
        at_once: Number of steps per forward pass; by default as many as make up ``perturbation.PASS_VALUES`` input values.

    Returns:
        The curves of ``perturbation.abpc_update``, ``(B, N + 1)`` for ``N`` steps; at the last one nothing of the image is left.
    """
    check_shapes(inputs, relevance, region, per_step, 1)
    patches = prod(ceil(size / region) for size in inputs.shape[2:])
    return abpc_update(
        relevance,
        inputs,
        target,
        model,
        seeds,
        region=region,
        per_step=per_step,
        steps=ceil(patches / per_step),
        fill=fill,
        activation=activation,
        at_once=at_once,
    )


def srg_compute(curves: Statistics) -> Statistics:
    """Return ``1/N Σ_k (least first − most first)`` over the ``N`` steps, per output; the whole image at step 0 does not count.

    As both curves begin and end alike, this is the area between them by the trapezoidal rule over the share of removed patches.
    """
    scores: Statistics = {}
    for name in (one for one in ("logit", "probability") if f"lerf_{one}_curve" in curves):
        least, most = (curves[f"{order}_{name}_curve"] for order in ("lerf", "morf"))
        scores |= {
            f"{name}_srg": (least - most)[..., 1:].mean(-1),
            f"least_first_{name}_curve": least,
            f"most_first_{name}_curve": most,
        }
    return scores


_INF = float("inf")
_ORDERS: tuple[tuple[str, Direction], ...] = (("least", "higher"), ("most", "lower"))
_SPANS = {"logit": (-_INF, _INF), "probability": (0.0, 1.0)}

SRG = MetricSpec(
    name="srg",
    values=(
        Value(
            "logit_srg",
            "higher",
            -_INF,
            _INF,
            "mean over the steps of the logit, least relevant patches first, minus most relevant first",
        ),
        Value("probability_srg", "higher", -1, 1, "the same of the probability"),
        *(
            Value(f"{order}_first_{name}_curve", better, *span, f"{name} while the {order} relevant patches are removed first")
            for name, span in _SPANS.items()
            for order, better in _ORDERS
        ),
    ),
    needs=(Need.RELEVANCE, Need.INPUTS, Need.TARGET, Need.MODEL, Need.SEEDS),
    update=srg_update,
    compute=srg_compute,
    source="Blücher et al., Decoupling Pixel Flipping and Occlusion Strategy for Consistent XAI Benchmarks, TMLR 2024",
    follows=Follows.NUMBER,
)
