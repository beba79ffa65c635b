"""The run: the graph forwards, keeping only what the plan needs, then backwards, freeing each value at its last use."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from relprop.errors import OptionError
from relprop.graph.nodes import call_op, interpret
from relprop.ops.op import ABSORBED, Call, Role, hollow
from relprop.propagation.plan import Plan
from relprop.propagation.step import Step

Values = dict[fx.Node, Any]
Watch = Callable[[fx.Node, Tensor], None]
Shares = list[tuple[fx.Node, Tensor]]
Audit = Callable[[Step, Any, Shares, Tensor | float], None]
Box = tuple[Tensor, Tensor]


def _needed(step: Step) -> list[fx.Node]:
    """The nodes whose values the backward pass of a step reads."""
    nodes = [step.node] if "output" in step.needs else []
    for name in step.needs - {"output"}:
        value = step.arguments.get(name)
        nodes += [v for v in (value if isinstance(value, list | tuple) else [value]) if isinstance(v, fx.Node)]
    return nodes


def _filled(value: Any, values: Values) -> Any:  # noqa: ANN401 - an argument of an op
    """An argument, or a list of arguments, with values in place of nodes."""
    if isinstance(value, fx.Node):
        return values[value]
    return [_filled(item, values) for item in value] if isinstance(value, list | tuple) else value


def _like(bound: Tensor, value: Tensor) -> Tensor:
    try:
        return bound.to(value).expand_as(value)
    except RuntimeError:
        shape, wanted = tuple(bound.shape), "×".join(map(str, value.shape[1:]))
        raise OptionError(f"A bound of the input has shape {shape}; it must be a number or fit an input, {wanted}.") from None


class Runner:
    """Runs a plan. Holds only what follows from the plan; every run has its own values."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.module = plan.module
        self.watched = {n for step in plan.steps if step.backward for n in _needed(step)}
        self.forget_forward = self._last_readers()
        self.forget_backward = self._first_needs()

    def _last_readers(self) -> Mapping[fx.Node, list[fx.Node]]:
        """By node, the values that no later op of the forward pass reads and the backward pass does not need."""
        last: dict[fx.Node, fx.Node] = {}
        for node in self.module.graph.nodes:
            for parent in node.all_input_nodes:
                last[parent] = node
        forget: dict[fx.Node, list[fx.Node]] = {}
        for value, reader in last.items():
            if value.op == "call_function" and value not in self.watched and value is not self.plan.output:
                forget.setdefault(reader, []).append(value)
        return forget

    def _first_needs(self) -> Mapping[fx.Node, list[fx.Node]]:
        """By step, the values that no step further back needs."""
        first: dict[fx.Node, fx.Node] = {}
        for step in reversed(self.plan.steps):
            if step.backward:
                first.update(dict.fromkeys(_needed(step), step.node))
        forget: dict[fx.Node, list[fx.Node]] = {}
        for value, step in first.items():
            if value.op == "call_function":
                forget.setdefault(step, []).append(value)
        return forget

    def forward(self, inputs: Sequence[object], *, inspected: bool = False) -> Values:
        """Run the model; values that the backward pass does not need are hollow in the result.

        Args:
            inputs: All inputs of the graph.
            inspected: Whether the backward pass is to be watched or audited: then it needs the values whose relevance is carried per unit.
        """
        values: Values = {}
        for node, values in interpret(self.module, inputs):
            self._forget(self.forget_forward.get(node, ()), values, inspected=inspected)
        return values

    def backward(
        self,
        values: Values,
        output_relevance: Tensor,
        batch: int,
        watch: Watch | None = None,
        audit: Audit | None = None,
        *,
        free: bool,
    ) -> tuple[list[Tensor], Tensor]:
        """Propagate relevance from the output to the inputs.

        Args:
            values: From :meth:`forward`, which must know where there is a ``watch`` or ``audit``.
            output_relevance: Relevance of the output, shaped like it.
            batch: Number of samples.
            watch: Called with every value's node and its relevance, once it is complete.
            audit: Called after every step with the relevance that came, the shares that were handed on, and what was absorbed.
            free: Whether values may be dropped on the way, because this run is the last to read them.

        Returns:
            The relevance of every tensor input (of its first floating value where it is not floating), and what was absorbed, ``(batch,)``.
        """
        values = values if free else dict(values)
        relevances: dict[fx.Node, Any] = {self.plan.output: output_relevance}
        absorbed = output_relevance.new_zeros(batch)
        boxes = self._boxes(values, batch)
        leaves = set(self.plan.leaves)
        for step in reversed(self.plan.steps):
            relevance = relevances.get(step.node) if step.node in leaves else relevances.pop(step.node, None)
            if relevance is None:
                continue
            if watch is not None and isinstance(relevance, Tensor):
                watch(step.node, self._whole(step.node, relevance, values))
            if step.node in leaves:
                continue
            if step.node.target is operator.getitem:
                self._put_item(step, relevance, relevances, values)
                continue
            shares, kept = self._propagate(step, self._call(step, values, boxes, batch), relevance)
            if isinstance(kept, Tensor):
                absorbed = absorbed + kept
            if audit is not None:
                whole = [(node, self._whole(node, part, values)) for node, part in shares]
                audit(step, self._whole(step.node, relevance, values), whole, kept)
            self._hand_on(shares, relevances)
            self._forget(self.forget_backward.get(step.node, ()), values, inspected=watch is not None or audit is not None)
        found = [relevances.get(leaf) for leaf in self.plan.leaves]
        return [self._zeros(values[leaf]) if r is None else r for leaf, r in zip(self.plan.leaves, found, strict=True)], absorbed

    @staticmethod
    def _hand_on(shares: Shares, relevances: dict[fx.Node, Any]) -> None:
        """Add shares to what their values have from other uses."""
        for target, part in shares:
            relevances[target] = relevances[target] + part if target in relevances else part

    def _whole(self, node: fx.Node, relevance: Any, values: Values) -> Any:  # noqa: ANN401 - a tensor, or a list with gaps
        """Relevance that may be carried per unit of its value, as relevance."""
        return relevance * values[node] if node in self.plan.multipliers else relevance

    def _forget(self, done: Sequence[fx.Node], values: Values, *, inspected: bool) -> None:
        for value in done:
            if not (inspected and value in self.plan.multipliers):
                values[value] = hollow(values[value])

    @staticmethod
    def _zeros(value: Tensor) -> Tensor:
        dtype = value.dtype if value.is_floating_point() else torch.get_default_dtype()
        return torch.zeros(value.shape, dtype=dtype, device=value.device)

    @staticmethod
    def _put_item(step: Step, relevance: Tensor, relevances: dict[fx.Node, Any], values: Values) -> None:
        source, index = step.node.args[0], int(step.node.args[1])  # pyright: ignore[reportArgumentType]
        items = relevances.setdefault(source, [None] * len(values[source]))  # pyright: ignore[reportArgumentType, reportCallIssue]
        items[index] = relevance if items[index] is None else items[index] + relevance

    def _boxes(self, values: Values, batch: int) -> Mapping[fx.Node, Box]:
        """By node, the bounds of the model's input, carried forward to the first layers: a padded zero stays a zero.

        Empty where the method fixes no bounds and the first layers see the input itself: then their rule takes each sample's own.
        """
        if self.plan.method.bounds is None and all(node.op == "placeholder" for node in self.plan.before):
            return {}
        boxes: dict[fx.Node, Box] = {}
        for node in self.plan.before:
            if node.op == "placeholder":
                low, high = self._input_bounds(node, values[node], batch)
            else:
                low, high = (call_op(node, {**values, **{n: box[side] for n, box in boxes.items()}}) for side in (0, 1))
            # a negative factor swaps the bounds
            boxes[node] = (torch.minimum(low, high), torch.maximum(low, high))
        return boxes

    def _input_bounds(self, node: fx.Node, value: Tensor, batch: int) -> Box:
        """The bounds that the method fixes, else each sample's smallest and largest value, both of the input's shape."""
        if self.plan.method.bounds is not None:
            low, high = (_like(torch.as_tensor(bound), value) for bound in self.plan.method.bounds)
            return low, high
        layout = self.plan.facts.layouts[node]
        low, high = (layout.spread(bound, value).expand_as(value) for bound in layout.extremes(value, batch))
        return low, high

    def _call(self, step: Step, values: Values, boxes: Mapping[fx.Node, Box], batch: int) -> Call:
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
            batch=batch,
            bounds=boxes.get(step.arguments[step.operands[0]]) if step.role is Role.INPUT else None,
        )

    def _propagate(self, step: Step, call: Call, relevance: Any) -> tuple[Shares, Tensor | float]:  # noqa: ANN401
        """Run one step back; return the shares of the values that it read, and what it absorbed, ``(batch,)`` or zero."""
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
                    # an op on values of two precisions returns the higher one
                    wanted = target.meta["val"].dtype
                    shares.append((target, part if part.dtype == wanted else part.to(wanted)))
                elif part is not None and part.numel():
                    absorbed = absorbed + step.layout.sum(part, call.batch)
        return shares, absorbed
