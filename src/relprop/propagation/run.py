"""Run a plan: a forward pass that keeps the values which the plan needs, then backward passes; each value is freed at its last use."""

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map

from relprop.errors import OptionError
from relprop.graph.nodes import call_op, interpret, is_floating
from relprop.inputs import Inputs, batch_size
from relprop.ops.op import ABSORBED, Call, Role, hollow
from relprop.propagation.plan import Plan
from relprop.propagation.regions import Regions
from relprop.propagation.step import Step
from relprop.rules.discoveries import standing_out
from relprop.rules.regional import Place

Values = dict[fx.Node, Any]
Watch = Callable[[fx.Node, Tensor], None]
Mask = Callable[[Tensor], Tensor]
Shares = list[tuple[fx.Node, Tensor]]
Audit = Callable[[Step, Any, Shares, Tensor | float], None]
Bounds = tuple[Any, Any]
"""The lower and the upper bound of a value: two tensors, or two lists of them for an op that returns a list."""


def _filled(value: Any, values: Values) -> Any:  # noqa: ANN401 - an argument of an op
    """Replace nodes by their values, in an argument or a list of arguments."""
    if isinstance(value, fx.Node):
        return values[value]
    return [_filled(item, values) for item in value] if isinstance(value, list | tuple) else value


def _like(bound: Tensor, value: Tensor) -> Tensor:
    try:
        return bound.to(value).expand_as(value)
    except RuntimeError:
        shape, wanted = tuple(bound.shape), "×".join(map(str, value.shape[1:]))
        raise OptionError(f"A bound of the input has shape {shape}; it must be a number or fit an input, {wanted}.") from None


class Run:
    """One run of a plan: the constructor runs the forward pass, ``backward`` the backward passes.

    Args:
        plan: The plan.
        given: The inputs of one batch.
        inspected: Whether backward passes are watched or audited; values whose relevance is carried as multipliers are kept for them.
    """

    def __init__(self, plan: Plan, given: Inputs, *, inspected: bool = False) -> None:
        self.plan, self.batch = plan, batch_size(given)
        self._schedule = plan.inspected_schedule if inspected else plan.schedule
        values: Values = {}
        for node, values in interpret(plan.module, given.flat):
            _free(self._schedule.forward.get(node, ()), values)
        self._values = values

    @property
    def logits(self) -> Tensor:
        """The explained value."""
        return self._values[self.plan.output]

    def backward(
        self,
        output_relevance: Tensor,
        *,
        spread: Tensor | None = None,
        watch: Watch | None = None,
        audit: Audit | None = None,
        kept_part: Mapping[fx.Node, Mask] | None = None,
        last: bool,
    ) -> tuple[list[Tensor], Tensor]:
        """Propagate relevance from the output to the inputs.

        Args:
            output_relevance: Relevance of the output, shaped like it.
            spread: How far the evidence for the classes spreads, for methods that count evidence by region where it stands out.
            watch: Called with every value's node and its relevance, once it is complete; the run must be ``inspected``.
            audit: Called after every step with its relevance, the shares of its operands and the absorbed relevance; likewise.
            kept_part: By value, a function ``value -> mask``: relevance that the mask leaves out is absorbed; likewise.
            last: Whether this is the last backward pass, which frees values.

        Returns:
            The relevance of every tensor input (of its first floating value where it is not floating), and the absorbed relevance,
            ``(batch,)``.
        """
        plan = self.plan
        values = self._values if last else dict(self._values)
        relevances: dict[fx.Node, Any] = {plan.output: output_relevance}
        absorbed = output_relevance.new_zeros(self.batch)
        for part in self._passed(plan.steps, relevances, values, spread, watch, audit, kept_part):
            absorbed = absorbed + part
        found = [relevances.get(leaf) for leaf in plan.leaves]
        filled = [
            _zeros(values[leaf], output_relevance.dtype) if r is None else r for leaf, r in zip(plan.leaves, found, strict=True)
        ]
        return [self._batch_first(leaf, part) for leaf, part in zip(plan.leaves, filled, strict=True)], absorbed

    def value(self, node: fx.Node) -> Tensor:
        """A value that a backward pass reads."""
        return self._values[node]

    def arriving(self, output_relevance: Tensor, others: Mapping[fx.Node, Tensor]) -> Tensor:
        """Return what becomes of relevance of the output at the value where evidence is tested, where some values are others."""
        tested: Any = self.plan.tested
        above = itertools.dropwhile(lambda step: step.node is not tested.node, self.plan.steps)
        relevances: dict[fx.Node, Any] = {self.plan.output: output_relevance}
        for _ in self._passed(list(above)[1:], relevances, {**self._values, **others}):
            pass
        return relevances[tested.node]

    def place(self, regions: Regions) -> Place:
        """A value with regions."""
        return Place(self._values[regions.node], regions.channels, self.plan.facts.layouts[regions.node], self.batch)

    def _passed(
        self,
        steps: Sequence[Step],
        relevances: dict[fx.Node, Any],
        values: Values,
        spread: Tensor | None = None,
        watch: Watch | None = None,
        audit: Audit | None = None,
        kept_part: Mapping[fx.Node, Mask] | None = None,
    ) -> Iterator[Tensor]:
        """Pass relevance through steps, the last first, from value to value; yield what each absorbs, ``(batch,)``."""
        leaves = set(self.plan.leaves)
        for step in reversed(steps):
            relevance = relevances.get(step.node) if step.node in leaves else relevances.pop(step.node, None)
            if relevance is None:
                continue
            if kept_part is not None and step.node in kept_part:
                relevance, left_out = self._masked(step, relevance, kept_part[step.node], values)
                yield left_out
            if watch is not None and isinstance(relevance, Tensor):
                watch(step.node, self._whole(step.node, relevance, values))
            if step.node in leaves:
                continue
            if step.node.target is operator.getitem:
                _put_item(step, relevance, relevances, values)
                continue
            counted, silent = self._counted(step, relevance, spread)
            shares, absorbed = self._propagate(step, self._call(step, values), counted)
            absorbed = absorbed + silent
            if isinstance(absorbed, Tensor):
                yield absorbed
            if audit is not None:
                whole = [(node, self._whole(node, part, values)) for node, part in shares]
                audit(step, self._whole(step.node, relevance, values), whole, absorbed)
            for target, part in shares:  # a value with several readers: their relevance adds up
                relevances[target] = relevances[target] + part if target in relevances else part
            _free(self._schedule.backward.get(step.node, ()), values)

    def _counted(self, step: Step, relevance: Any, spread: Tensor | None) -> tuple[Any, Tensor | float]:  # noqa: ANN401
        """Test and count evidence where that is done; return it with the sum of what does not stand out."""
        regions, tested, lost = self.plan.regions, self.plan.tested, 0.0
        if regions is None or tested is None:
            return relevance, lost
        here = step.node is regions.node
        if here:
            relevance = self.plan.region_rule.weigh(relevance, self.place(regions))
        if spread is not None and step.node is tested.node:
            relevance, lost = self._tested(relevance, self.place(tested), spread)
        return self.plan.region_rule.share(relevance, self.place(regions)) if here else relevance, lost

    def _tested(self, evidence: Tensor, place: Place, spread: Tensor) -> tuple[Tensor, Tensor | float]:
        """Evidence as far as its region counts, and the sum of the rest, ``(batch,)``."""
        rule = self.plan.region_rule
        region = evidence.sum(place.channels, keepdim=True)
        freedom, rate = self.plan.directions.freedom, rule.false_discovery_rate
        kept = evidence * standing_out(region, spread, freedom, rate, place.layout, self.batch)
        return kept, place.layout.sum(evidence - kept, self.batch) if rule.conserves else 0.0

    def _batch_first(self, leaf: fx.Node, relevance: Tensor) -> Tensor:
        """Relevance as ``(batch, …)``, where what is looked up of an input has its samples elsewhere: time first, say."""
        return relevance if leaf.op == "placeholder" else self.plan.facts.layouts[leaf].batch_first(relevance, self.batch)

    def _whole(self, node: fx.Node, relevance: Any, values: Values) -> Any:  # noqa: ANN401 - a tensor, or a list with gaps
        """Relevance: ``R = x c`` where the multiplier ``c`` is carried in its place."""
        return relevance * values[node] if node in self.plan.multipliers else relevance

    def _masked(self, step: Step, relevance: Tensor, mask: Mask, values: Values) -> tuple[Tensor, Tensor]:
        """What a mask keeps of the relevance of a value, and the sum of what it leaves out, ``(batch,)``."""
        kept = relevance * mask(relevance)
        return kept, step.layout.sum(self._whole(step.node, relevance - kept, values), self.batch)

    @cached_property
    def _bounds(self) -> Mapping[fx.Node, Bounds]:
        """By node, the bounds of the model's input, run through the ops before the first layers: a padded zero stays a zero.

        Empty where the method fixes no bounds and the first layers read the input itself: their rule takes each sample's extremes.
        """
        if self.plan.method.bounds is None and all(node.op == "placeholder" for node in self.plan.before):
            return {}
        bounds: dict[fx.Node, Bounds] = {}
        for node in self.plan.before:
            if node.op == "placeholder":
                low, high = self._input_bounds(node, self._values[node])
            else:
                low, high = (call_op(node, {**self._values, **{n: b[side] for n, b in bounds.items()}}) for side in (0, 1))
            # a negative factor swaps the bounds
            bounds[node] = (tree_map(torch.minimum, low, high), tree_map(torch.maximum, low, high))
        return bounds

    def _input_bounds(self, node: fx.Node, value: Tensor) -> Bounds:
        """The bounds that the method fixes, else each sample's extremes; both have the input's shape."""
        if self.plan.method.bounds is not None:
            low, high = (_like(torch.as_tensor(bound, dtype=value.dtype), value) for bound in self.plan.method.bounds)
            return low, high
        layout = self.plan.facts.layouts[node]
        low, high = (layout.spread(bound, value).expand_as(value) for bound in layout.extremes(value, self.batch))
        return low, high

    def _call(self, step: Step, values: Values) -> Call:
        return Call(
            op=step.entry,  # pyright: ignore[reportArgumentType] - a step with a backward function has one
            function=step.node.target,  # pyright: ignore[reportArgumentType]
            arguments={name: _filled(value, values) for name, value in step.arguments.items()},
            output=values[step.node],
            nonnegative=step.nonnegative,
            operands=step.operands,
            data=step.operands[0],
            layout=step.layout,
            layouts=step.layouts,
            batch=self.batch,
            bounds=self._bounds.get(step.arguments[step.operands[0]]) if step.role is Role.INPUT else None,
        )

    def _propagate(self, step: Step, call: Call, relevance: Any) -> tuple[Shares, Tensor | float]:  # noqa: ANN401
        """Run one step backward; return the shares of its operands and the absorbed relevance, ``(batch,)`` or zero."""
        found = step.backward(call, relevance)  # pyright: ignore[reportOptionalCall]
        shares: Shares = []
        absorbed: Any = found.get(ABSORBED, 0.0)
        for name, share in found.items():
            if name == ABSORBED:
                continue
            argument = step.arguments.get(name)
            pairs = zip(argument, share, strict=True) if isinstance(share, list) else [(argument, share)]  # pyright: ignore[reportArgumentType]
            for target, part in pairs:
                if isinstance(target, fx.Node) and target in self.plan.facts.carriers and name in step.operands:
                    # an op on values of two precisions returns the higher one; integers have relevance of the precision that comes
                    wanted = target.meta["val"].dtype if is_floating(target) else part.dtype
                    shares.append((target, part if part.dtype == wanted else part.to(wanted)))
                elif part is not None and part.numel():
                    absorbed = absorbed + step.layout.sum(part, call.batch)
        return shares, absorbed


def _free(done: Sequence[fx.Node], values: Values) -> None:
    for value in done:
        values[value] = hollow(values[value])


def _zeros(value: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(value.shape, dtype=value.dtype if value.is_floating_point() else dtype, device=value.device)


def _put_item(step: Step, relevance: Tensor, relevances: dict[fx.Node, Any], values: Values) -> None:
    """Accumulate the relevance of one item of a list in the relevance of the list."""
    source, index = step.node.args[0], int(step.node.args[1])  # pyright: ignore[reportArgumentType]
    items = relevances.setdefault(source, [None] * len(values[source]))  # pyright: ignore[reportArgumentType, reportCallIssue]
    items[index] = relevance if items[index] is None else items[index] + relevance
