"""Two recordings of one model with batches of two sizes, joined into one graph for any batch."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from relprop.graph.nodes import BATCHES, TWIN, Size, shape_of, twin_of, value_of
from relprop.graph.recording.assumptions import assume_even, assume_shape
from relprop.graph.recording.record import Recording
from relprop.graph.recording.tape import CONSTANT

aten = torch.ops.aten


class FixedBatchError(Exception):
    """The model does different things with batches of different sizes."""


def join(small: Recording, large: Recording) -> None:
    """Make the first recording hold for any batch: sizes that differ become functions of the batch; nodes get the second's values as twins.

    Raises:
        FixedBatchError: The recordings differ in more than sizes that are multiples of the batch, plus a constant.
    """
    pairs = list(zip(small.graph.nodes, large.graph.nodes, strict=False))
    if len(small.graph.nodes) != len(large.graph.nodes):
        raise FixedBatchError("its number of ops depends on the batch")
    sizes = _Sizes(small.graph)
    twins = {b: a for a, b in pairs}
    for a, b in pairs:
        if (a.op, a.op == "call_function" and a.target) != (b.op, b.op == "call_function" and b.target):
            raise FixedBatchError("its ops depend on the batch")
        if "val" in b.meta:
            a.meta[TWIN] = b.meta["val"]
        if a.op == "call_function" and a not in sizes.made:
            a.args = sizes.joined(a, a.args, _mapped(b.args, twins))
            a.kwargs = sizes.joined(a, a.kwargs, _mapped(b.kwargs, twins))
        if a.target is assume_shape:
            sizes.check_even(a)
        _join_constants(a, b)
    result: Any = small.graph.output_node().args[0]
    if value_of(result[0]).shape == twin_of(result[0]).shape:
        raise FixedBatchError("its output has no batch dimension")


def _join_constants(a: fx.Node, b: fx.Node) -> None:
    """A node is constant if its value is in both recordings the same."""
    first, second = a.meta.get(CONSTANT), b.meta.get(CONSTANT)
    if first is None or first is second:
        return
    inner = [n for n in a.all_input_nodes if CONSTANT not in n.meta]
    same = second is not None and first.shape == second.shape
    if a.op == "get_attr" and second is not None:
        if not same or (first.data_ptr() != second.data_ptr() and not torch.equal(first, second)):
            raise FixedBatchError("a constant depends on the batch")
    elif inner or not same:
        del a.meta[CONSTANT]


def _mapped(value: Any, twins: dict[fx.Node, fx.Node]) -> Any:  # noqa: ANN401
    return fx.node.map_arg(value, twins.__getitem__)  # pyright: ignore[reportAttributeAccessIssue]


class _Sizes:
    """Sizes as functions of the batch, ``a B + b``, in the first recording's graph."""

    def __init__(self, graph: fx.Graph) -> None:
        self.graph = graph
        self.made: dict[tuple[int, int] | fx.Node, fx.Node] = {}

    def joined(self, node: fx.Node, first: Any, second: Any) -> Any:  # noqa: ANN401 - an argument of an op
        """Join an argument of both recordings."""
        if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
            return {k: self.joined(node, v, second[k]) for k, v in first.items()}
        if isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
            return type(first)([self.joined(node, a, b) for a, b in zip(first, second, strict=True)])  # pyright: ignore[reportUnknownArgumentType]
        if type(first) is int and type(second) is int and first != second:
            return self._size(first, second)
        if type(first) is not type(second) or (first is not second and first != second):
            raise FixedBatchError(f"an argument of {node.target} depends on the batch")
        return first

    def check_even(self, node: fx.Node) -> None:
        """Let the check of a size that grows with the batch ask it of every sample, so that samples lie one after another.

        Raises:
            FixedBatchError: No position tells which sample an element belongs to, or samples of the example have several sizes.
        """
        picked: Any = node.args[0]
        count, *_ = shape_of(picked)
        if not isinstance(count, Size):
            return
        rows = shape_of(picked.args[0])[0] if picked.target is aten.nonzero.default else 0
        if not isinstance(rows, Size) or not rows.per_sample or not count.per_sample:
            raise FixedBatchError("a size that depends on values is not the same for every sample")
        node.target, node.args = assume_even, (picked, count.per_sample, rows.per_sample, self._size(*BATCHES))

    def _size(self, first: int, second: int) -> fx.Node:
        small, large = BATCHES
        factor, rest = divmod(second - first, large - small)
        offset = first - factor * small
        if rest:
            raise FixedBatchError("a size is no multiple of the batch")
        if (factor, offset) not in self.made:
            batch = self._batch()
            node = batch if factor == 1 else self._number(operator.mul, batch, factor, (factor * small, factor * large))
            self.made[factor, offset] = node if not offset else self._number(operator.add, node, offset, (first, second))
        return self.made[factor, offset]

    def _batch(self) -> fx.Node:
        if (1, 0) not in self.made:
            source = next(n for n in self.graph.find_nodes(op="placeholder") if _has_batch(n))
            self._last = source
            while self._last.next.op == "placeholder":
                self._last = self._last.next
            self.made[1, 0] = self._number(aten.sym_size.int, source, 0, BATCHES)
        return self.made[1, 0]

    def _number(self, op: Any, source: fx.Node, operand: int, values: Sequence[int]) -> fx.Node:  # noqa: ANN401
        with self.graph.inserting_after(self._last):
            node = self._last = self.graph.call_function(op, (source, operand))
        node.meta.update({"val": values[0], TWIN: values[1]})
        self.made[node] = node
        return node


def _has_batch(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == BATCHES[0]
