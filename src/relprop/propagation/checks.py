"""What is checked of every map: that it is finite, that it conserves, that it is not zero everywhere."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from relprop.errors import RelevanceError
from relprop.explanation import Answer
from relprop.inputs import Inputs, Request
from relprop.propagation.composite import Composite
from relprop.propagation.plan import Plan
from relprop.propagation.run import Run, Shares
from relprop.propagation.step import Step

Start = tuple[float, Tensor]
"""A factor and the relevance of the output, ``(B, C)`` or ``(B, K, C)``; the maps of several starts, times their factors, add up."""

_MISSED = 0.01


def refuse_not_finite(plan: Plan, request: Request, starts: Sequence[Start], maps: Sequence[Tensor], *, several: bool) -> None:
    """Refuse maps with NaN or infinite values; only then the run is repeated, to find the op where they began.

    Raises:
        RelevanceError: A map is not finite.
    """
    if all(bool(part.isfinite().all()) for part in maps):
        return
    columns = [column for _, start in starts for column in (start.unbind(1) if several else [start])]
    step = next((found for column in columns if (found := _first_not_finite(plan, request.given, column))), None)
    where = "" if step is None else f" from {step.op} in {step.path or 'the model itself'} (rule {step.rule}) on"
    raise RelevanceError(
        f"Method {plan.method.name!r}: relevance is NaN or infinite{where}, where a rule divides by sums near zero; "
        "compute in float64 (explainer.double()), raise epsilon, or choose another rule."
    )


def _first_not_finite(plan: Plan, given: Inputs, start: Tensor) -> Step | None:
    """The first op, from the output back, that hands on relevance which is not finite."""
    found: list[Step] = []

    def audit(step: Step, _: Any, shares: Shares, __: Tensor | float) -> None:  # noqa: ANN401 - of every audit
        if not found and not all(bool(part.isfinite().all()) for _, part in shares):
            found.append(step)

    Run(plan, given, inspected=True).backward(start, audit=audit, last=True)
    return found[0] if found else None


def note_on_zeros(given: Inputs, maps: Sequence[Tensor], absorbed: Tensor, *, chosen: bool = False) -> tuple[str, ...]:
    """A note on maps that are zero everywhere; ``chosen`` where only evidence that stands out was counted."""
    flat = _flat(given, maps, absorbed.dim())
    zero = ~torch.stack([part.any(-1) for part in flat]).any(0)
    if not bool(zero.any()):
        return ()
    count = f"{int(zero.sum())} of {zero.numel()} maps are zero everywhere"
    if chosen:
        return (
            f"{count}: in no region does the evidence for the class stand out from what is usual; false_discovery_rate=1 counts all.",
        )
    return (f"{count}: no relevance reached the input; explainer.trace(inputs) shows where it was absorbed.",)


def note_on_classes(method: Composite) -> tuple[str, ...]:
    """A note on maps of several classes by a method whose maps hardly depend on the class."""
    if method.of_class:
        return ()
    why = f"Method {method.name!r} starts from absolute influence, so its maps of several classes are nearly alike"
    return (
        f"{why}: they show what is important and what is not, not what speaks for which class; start=clrp or another method does.",
    )


def note_on_conservation(given: Inputs, answer: Answer) -> tuple[str, ...]:
    """A note on maps that, with the absorbed relevance, miss what they promise by more than one percent of the relevance of the output."""
    wanted, size, absorbed = answer.conserved, answer.magnitude, answer.absorbed
    if wanted is None or size is None:
        return ()
    found = torch.stack([part.sum(-1) for part in _flat(given, answer.relevance, absorbed.dim())]).sum(0) + absorbed
    missed = (found - wanted).abs()
    rounding = torch.finfo(wanted.dtype).eps * float(size.max())
    if not bool((missed > size * _MISSED + rounding).any()):
        return ()
    worst = float((missed / size.clamp(min=torch.finfo(size.dtype).tiny)).max())
    missed_by = f"Relevance and absorbed relevance miss the explained output by up to {100 * worst:.3g} %"
    why = f"rounding errors grew too large for {str(wanted.dtype).removeprefix('torch.')}, or a rule does not conserve"
    return (f"{missed_by}: {why}; explainer.trace(inputs) shows where, and explainer.double() computes in float64.",)


def _flat(given: Inputs, maps: Sequence[Tensor], kept: int) -> list[Tensor]:
    """Maps as ``(B, elements)`` or ``(B, K, elements)``; one that all samples share belongs to a single sample."""
    found: list[Tensor] = []
    for (name, _), part in zip(given.tensors, maps, strict=True):
        own = part.movedim(1, 0) if kept == 2 and name in given.shared else part
        whole = own.unsqueeze(0) if name in given.shared else own
        found.append(whole.reshape(*whole.shape[:kept], -1))
    return found
