"""How far the evidence for the classes of the output spreads where it is counted by region, measured by a few directions among them."""

from functools import cache

import torch
from torch import Tensor

from relprop.inputs import Question
from relprop.propagation.run import Run
from relprop.rules.starts import Start, start_of
from relprop.targets import Aim

MANY = 100
"""From so many classes on, what is usual among them can be told: of fewer, the explained one and its rivals make most of the spread."""
DIRECTIONS = 4
"""How many directions: each costs a pass from the output to the regions."""


def measure_spread(run: Run, question: Question) -> tuple[Tensor | None, int | None]:
    """Measure the spread that the region rule of a run's plan reads, and the dimension in which it has one for every map of a sample.

    Evidence is linear in the class, so that ``mean_i e_p(v_i)²`` over orthonormal directions ``v_i`` is its variance over the classes. Few
    directions make a rough mean of it: ``mean_i Σ_k r_pk(v_i)²``, which leaves the correlation of channels out and is far steadier, says
    how the variance is spread over the regions, and the former its size in the whole sample.

    Returns:
        No spread where the method reads none, the user gave relevance of the output, or too few classes compete with the explained one;
        no dimension where all maps share it.
    """
    if run.plan.regions is None or not run.plan.region_rule.reads_spread or question.output_relevance is not None:
        return None, None
    aims = question.asked.aims
    if any(aim.classes is None or aim.weights.shape[aim.class_dim] < MANY for aim in aims):
        return None, None
    shares = [aim.weights.sum(aim.class_dim) for aim in aims]
    if all(torch.equal(shares[0], other) for other in shares[1:]):
        return _spread(run, question.logits, aims[0]), None
    return torch.stack([_spread(run, question.logits, aim) for aim in aims]), 0


def _spread(run: Run, output: Tensor, aim: Aim) -> Tensor:
    place, rule = run.place, run.plan.region_rule

    def squares(start: Tensor) -> tuple[Tensor, Tensor]:
        evidence = rule.weigh(run.arriving(start), place)
        return evidence.sum(place.channels, keepdim=True).square(), evidence.square().sum(place.channels, keepdim=True)

    starts = start_of(_along(directions(output.shape[aim.class_dim], DIRECTIONS).to(output)), output, aim)
    found = torch.func.vmap(squares)(torch.stack([relevance for _, relevance in starts]))
    whole, apart = (part.mean(0) for part in found)
    scale = place.layout.sum(whole, run.batch) / place.layout.sum(apart, run.batch).clamp(min=torch.finfo(apart.dtype).tiny)
    return (apart * place.layout.spread(scale, apart)).sqrt()


def _along(chosen: Tensor) -> Start:
    """The start that gives every class its share in a direction, in units of the logits, for each of several directions."""

    def start(logits: Tensor, _: Tensor) -> list[tuple[float, Tensor]]:
        return [(1.0, direction * logits) for direction in chosen]

    return start


@cache
def directions(classes: int, count: int) -> Tensor:
    """Return orthonormal directions among the differences of classes, ``(count, classes)``: each has the sum zero."""
    drawn = torch.randn(classes, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.qr(drawn - drawn.mean(0)).Q.T.contiguous()
