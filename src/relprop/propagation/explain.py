"""Explain or trace one batch: one forward pass, a backward pass per start, relevance at modules on the way."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_flatten, tree_unflatten

from relprop.errors import OptionError, TargetError, suggestion
from relprop.explanation import Answer
from relprop.graph.nodes import OUTPUTS, module_outputs, output_notes, widened
from relprop.inputs import Question, Request
from relprop.propagation.checks import Start, note_on_classes, note_on_zeros, refuse_not_finite
from relprop.propagation.concepts import Restriction, find_restrictions
from relprop.propagation.plan import Plan
from relprop.propagation.run import Run
from relprop.propagation.spread import measure_spread
from relprop.propagation.trace import Trace, trace_run
from relprop.rules.starts import start_of


def explain(plan: Plan, request: Request) -> Answer:
    """Run a plan forward, then backward from every start of its method.

    Raises:
        TargetError: The target or the relevance of the output does not fit the output.
        OptionError: An unknown module path, or one at whose output no relevance passes.
        RelevanceError: The relevance is not finite.
    """
    layers = request.layers
    _check_layers(plan, layers)
    restrictions = find_restrictions(plan, request.concepts)
    run = Run(plan, request.given, inspected=bool(layers or restrictions))
    question = request.ask(run.logits)
    starts, (spread, of_map) = _starts(plan, question), measure_spread(run, question)
    several = question.asked.several
    total: list[Any] | None = None
    for i, (factor, start) in enumerate(starts):
        last = i == len(starts) - 1 and not several

        def propagate(start: Tensor, spread: Tensor | None, *, last: bool = last) -> Any:  # noqa: ANN401 - tensors in lists and dicts
            return _propagate(run, start, spread, layers, restrictions, last=last)

        mapped = torch.func.vmap(propagate, in_dims=(1, of_map), out_dims=1) if several else propagate
        found = mapped(start, spread)
        leaves, structure = tree_flatten(found)
        scaled = [leaf * factor for leaf in leaves] if factor != 1 else leaves
        total = scaled if total is None else [a + b for a, b in zip(total, scaled, strict=True)]
    parts, at_layers, absorbed = tree_unflatten(total, structure)  # pyright: ignore[reportArgumentType, reportPossiblyUnboundVariable]
    refuse_not_finite(plan, request, starts, [*parts, *at_layers.values(), absorbed], several=several)
    alike = note_on_classes(plan.method) if several and question.target is not None else ()
    notes = (
        *output_notes(plan.module, layers),
        *note_on_zeros(request.given, parts, absorbed, chosen=spread is not None),
        *alike,
    )
    if not plan.method.conserves:
        return Answer(parts, absorbed, question, at_layers, notes=notes)
    given = torch.stack([start.reshape(*absorbed.shape, -1) * factor for factor, start in starts])
    sums = {"conserved": given.sum((0, -1)), "magnitude": given.abs().sum((0, -1))}
    return Answer(parts, absorbed, question, at_layers, notes=notes, **sums)


def trace(plan: Plan, request: Request) -> Trace:
    """Run a plan and sum the relevance at every op.

    Raises:
        TargetError: Several targets per sample, or a target that does not fit the output.
    """
    run = Run(plan, request.given, inspected=True)
    question = request.ask(run.logits)
    if question.asked.several:
        raise TargetError("A trace follows one target per sample; call it once for each.")
    return trace_run(run, _starts(plan, question)[0][1], measure_spread(run, question)[0])


def _starts(plan: Plan, question: Question) -> list[Start]:
    """The starts of all maps, which are stacked in dimension 1 where there are several of a sample."""
    if question.output_relevance is not None:
        return [(1.0, question.output_relevance)]
    columns = [start_of(plan.method.start, question.logits, aim) for aim in question.asked.aims]
    if not question.asked.several:
        return columns[0]
    passes = [[column[number] for column in columns] for number in range(len(columns[0]))]
    return [(maps[0][0], torch.stack([relevance for _, relevance in maps], 1)) for maps in passes]


def _propagate(
    run: Run,
    start: Tensor,
    spread: Tensor | None,
    layers: Sequence[str],
    restrictions: Mapping[fx.Node, Restriction],
    *,
    last: bool,
) -> tuple[list[Tensor], dict[str, Tensor], Tensor]:
    seen: dict[str, Tensor] = {}

    def watch(node: fx.Node, relevance: Tensor) -> None:
        for path in node.meta.get(OUTPUTS, ()):
            if path in layers:
                part = widened(node, path, relevance)
                seen[path] = seen[path] + part if path in seen else part

    masks = {node: restriction.mask for node, restriction in restrictions.items()}
    parts, absorbed = run.backward(start, spread=spread, watch=watch if layers else None, kept_part=masks, last=last)
    for leaf, part in zip(run.plan.leaves, parts, strict=True):
        if leaf.op == "placeholder":  # the output of a module that returns the model's input
            watch(leaf, part)
    missing = [path for path in layers if path not in seen]
    if missing:
        raise OptionError(f"No relevance passes the output of module {missing[0]!r}; explainer.plan shows which ops it passes.")
    return parts, {path: seen[path] for path in layers}, absorbed


def _check_layers(plan: Plan, layers: Sequence[str]) -> None:
    known = module_outputs(plan.module.graph)
    for path in layers:
        if path not in known:
            near = suggestion(str(path), known)
            raise OptionError(f"No module {path!r} with an output of its own.{near} explainer.plan lists the modules.")
