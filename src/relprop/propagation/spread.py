"""How far the evidence spreads where it is tested, over the classes or over what other last weights would find."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx

from relprop.inputs import Question
from relprop.ops.op import Role
from relprop.propagation.regions import Regions
from relprop.propagation.run import Run
from relprop.propagation.step import Step
from relprop.rules.regional import Place
from relprop.rules.starts import Start, start_of
from relprop.targets import Aim

MANY = 100
"""From so many classes, or features of the last layer, on what is usual can be told: of fewer, the explained class makes most of it."""
TOGETHER = 16
"""How many directions take their way at once: it bounds the memory."""


def measure_spread(run: Run, question: Question) -> tuple[Tensor | None, int | None]:
    """Measure the spread where a run's plan tests evidence, and the dimension in which it has one for every map of a sample.

    Evidence is linear in the class, so that ``mean_i e_p(v_i)²`` over orthonormal directions ``v_i`` is its variance over the classes. In
    models of few classes the directions are those of random weights in the last layer instead, as large as its own.

    Returns:
        No spread where the method tests nothing, the user gave relevance of the output, or what is explained is no class, or one of few
        by a model whose last op is no dense layer of many features; no dimension where all maps share it.
    """
    tested, aims = run.plan.tested, question.asked.aims
    if tested is None or not run.plan.region_rule.tests or question.output_relevance is not None:
        return None, None
    if any(aim.classes is None for aim in aims):
        return None, None
    test = _Test(run, tested)
    if any(aim.weights.shape[aim.class_dim] < MANY for aim in aims):
        return test.spread_of_weights(), None
    shares = [aim.weights.sum(aim.class_dim) for aim in aims]
    if all(torch.equal(shares[0], other) for other in shares[1:]):
        return test.spread_of_classes(question.logits, aims[0]), None
    return torch.stack([test.spread_of_classes(question.logits, aim) for aim in aims]), 0


@dataclass(frozen=True)
class _Test:
    """The value at which a run tests evidence."""

    run: Run
    tested: Regions

    @property
    def passes(self) -> int:
        """How many directions there are."""
        return self.run.plan.directions.count

    def spread_of_classes(self, output: Tensor, aim: Aim) -> Tensor:
        """The spread over the classes, in units of an aim."""
        starts = start_of(_along(directions(output.shape[aim.class_dim], self.passes).to(output)), output, aim)
        return self._spread(torch.stack([relevance for _, relevance in starts]), {})

    def spread_of_weights(self) -> Tensor | None:
        """The spread over random weights in the place of the last layer's, as large as those of a logit minus the mean of the others."""
        run, head = self.run, _head(self.run)
        if head is None:
            return None
        data, weight = (head.arguments[name] for name in (head.operands[0], "weight"))
        own = run.value(weight)
        count, features = own.shape
        if features < MANY:
            return None
        contrast = (own - own.mean(0)) * (count / (count - 1)) if count > 1 else own
        drawn = contrast.square().mean().sqrt() * _draws(features, self.passes).to(own)
        # where the multiplier of what the layer reads is carried, the rule divides relevance by the output and reads no more
        output = own.new_ones(run.batch, self.passes) if data in run.plan.multipliers else run.value(data) @ drawn
        others: dict[Any, Tensor] = {weight: drawn.mT, head.node: output, head.arguments.get("bias"): own.new_zeros(self.passes)}
        return self._spread(torch.eye(self.passes).to(output).unsqueeze(1) * output, others)

    def _spread(self, starts: Tensor, others: Mapping[fx.Node, Tensor]) -> Tensor:
        """The standard deviation of the evidence over some starts, moderated where they are fewer than its degrees of freedom."""
        run, place, rule = self.run, self.run.place(self.tested), self.run.plan.region_rule
        moderated = self.passes < run.plan.directions.freedom

        def squares(start: Tensor) -> tuple[Tensor, ...]:
            evidence = rule.weigh(run.arriving(start, others), place)
            whole = evidence.sum(place.channels, keepdim=True).square()
            return (whole, evidence.square().sum(place.channels, keepdim=True)) if moderated else (whole,)

        whole, *apart = (part.mean(0) for part in torch.func.vmap(squares, chunk_size=TOGETHER)(starts))
        return (self._moderated(whole, apart[0], place) if apart else whole).sqrt()

    def _moderated(self, whole: Tensor, apart: Tensor, place: Place) -> Tensor:
        """The mean square of few directions, moderated as by Smyth (2004).

        That of a region, ``whole``, is rough. That of its channels apart, ``Σ_k r_pk²``, leaves their correlation out and is far steadier;
        times the mean ratio of the two it is what the regions have in common, and counts as so many directions as lack.
        """
        batch, freedom = self.run.batch, self.run.plan.directions.freedom
        ratio = whole / apart.clamp(min=torch.finfo(apart.dtype).tiny)
        mean = place.layout.sum(ratio, batch) / place.layout.sum((apart > 0).to(apart), batch).clamp(min=1)
        common = apart * place.layout.spread(mean, apart)
        return (common * (freedom - self.passes) + whole * self.passes) / freedom


def _head(run: Run) -> Step | None:
    """The dense layer whose output, ``(batch, classes)``, is explained, if it is one's."""
    step = next(s for s in reversed(run.plan.steps) if s.node is run.plan.output)
    of_layer = step.role is Role.OUTPUT and len(step.operands) == 1 and isinstance(step.arguments.get("weight"), fx.Node)
    return step if of_layer and run.logits.dim() == 2 else None


def _along(chosen: Tensor) -> Start:
    """The start that gives every class its share in a direction, in units of the logits, for each of several directions."""

    def start(logits: Tensor, _: Tensor) -> list[tuple[float, Tensor]]:
        return [(1.0, direction * logits) for direction in chosen]

    return start


@cache
def directions(classes: int, count: int) -> Tensor:
    """Return orthonormal directions among the differences of classes, ``(count, classes)``: each has the sum zero."""
    drawn = _draws(classes, count)
    return torch.linalg.qr(drawn - drawn.mean(0)).Q.T.contiguous()


@cache
def _draws(size: int, count: int) -> Tensor:
    """Return normal numbers, ``(size, count)``, always the same."""
    return torch.randn(size, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
