"""The blocks of a transformer: the stream of values that attention and dense layers add to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from relprop.errors import UnsupportedOpError
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import PATH, call_op, nodes_in
from relprop.methods.rollout import find_tokens, note_tokens
from relprop.methods.tokens import Attention
from relprop.ops.op import Role
from relprop.ops.table import arguments_of
from relprop.propagation.roles import Roles


@dataclass(frozen=True)
class Block:
    """One block of a transformer.

    Attributes:
        attention: Its attention layer.
        input: What the attention's result is added to, ``(B, N, C)``.
        output: The input of the next block; for the last block, the last sum that adds to the stream.
    """

    attention: Attention
    input: fx.Node
    output: fx.Node


def find_blocks(name: str, model: CapturedModel, layers: Sequence[Attention]) -> tuple[Block, ...]:
    """Find the block of every attention layer.

    Raises:
        UnsupportedOpError: An attention layer whose result is added to nothing, or to no tokens ``(B, N, C)``.
    """
    roles = Roles(model.module.graph)
    sums = [node for node in model.active if roles.of(node) is Role.ADD]
    found = [_first_sum(model, sums, layer.result) for layer in layers]
    for layer, pair in zip(layers, found, strict=True):
        count = layer.values.meta["val"].shape[-2]
        if pair is None or pair[0].meta["val"].dim() != 3 or pair[0].meta["val"].shape[1] != count:
            where = layer.weights.meta.get(PATH) or layer.weights.name
            raise UnsupportedOpError(
                f"Method {name!r} needs tokens (batch, tokens, channels) that every attention adds to; that of {where!r} does not."
            )
    pairs = [pair for pair in found if pair is not None]
    inputs = [pair[0] for pair in pairs]
    return tuple(map(Block, layers, inputs, [*inputs[1:], _end(sums, model, pairs[-1][1])]))


def note_blocks(name: str, model: CapturedModel) -> tuple[str, ...]:
    """Say what the map is made of.

    Raises:
        UnsupportedOpError: As :func:`find_blocks`.
    """
    find_blocks(name, model, find_tokens(name, model).layers)
    return note_tokens(name, model)


def _derived(model: CapturedModel, source: fx.Node) -> set[fx.Node]:
    """The node and all that depend on it."""
    found = {source}
    for node in model.ops:
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _summands(node: fx.Node) -> list[fx.Node]:
    arguments = arguments_of(node)
    return [n for name in ("self", "other") for n in nodes_in(arguments.get(name))]


def _first_sum(model: CapturedModel, sums: Sequence[fx.Node], result: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """What the result of an attention is first added to, and the sum."""
    derived = _derived(model, result)
    for node in sums:
        others = [n for n in _summands(node) if n not in derived]
        if node in derived and others:
            return others[0], node
    return None


def _end(sums: Sequence[fx.Node], model: CapturedModel, stream: fx.Node) -> fx.Node:
    """Follow the stream from sum to sum; the last one."""
    while True:
        derived = _derived(model, stream)
        following = [n for n in sums if stream in _summands(n) and all(s in derived for s in _summands(n))]
        if not following:
            return stream
        stream = following[0]


@dataclass(frozen=True)
class Tail:
    """The part of a model that comes after one of its values.

    Attributes:
        model: The model.
        start: The value.
        nodes: The ops that depend on it, in forward order.
        needed: The other values that they read.
    """

    model: CapturedModel
    start: fx.Node
    nodes: tuple[fx.Node, ...]
    needed: tuple[fx.Node, ...]

    def run(self, value: Tensor, others: Mapping[fx.Node, Tensor]) -> Tensor:
        """Return the model's output where the start has another value; ``others`` holds the values needed."""
        return rerun(self.nodes, {**others, self.start: value}, self.model.output)


def rerun(nodes: Sequence[fx.Node], given: Mapping[fx.Node, Any], end: fx.Node) -> Tensor:
    """Run some ops again, in forward order, on the values that others had, and return the value of one of them."""
    values: dict[fx.Node, Any] = dict(given)
    device = next(value.device for value in given.values() if isinstance(value, Tensor))
    for node in nodes:
        values[node] = call_op(node, values, device)
    return values[end]


def tail_after(model: CapturedModel, start: fx.Node) -> Tail:
    """Return the part of a model after a value."""
    derived = _derived(model, start)
    nodes = [node for node in model.ops if node in derived and node is not start]
    inside = {start, *nodes}
    needed = dict.fromkeys(parent for node in nodes for parent in node.all_input_nodes if parent not in inside)
    return Tail(model, start, tuple(nodes), tuple(needed))
