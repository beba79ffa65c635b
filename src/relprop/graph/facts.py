"""Static analysis of a normalized graph: activity, carriers of relevance, signs, and the layout of samples."""

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from relprop.graph.nodes import is_floating, tensor_inputs, values_read
from relprop.graph.samples import find_samples
from relprop.ops.layout import SampleLayout
from relprop.ops.op import Op
from relprop.ops.table import arguments_of, entry, known_op


@dataclass(frozen=True)
class Facts:
    """The result of the static analysis of a graph's values, by node.

    Attributes:
        carriers: Nodes that depend on the values of the input and can carry relevance, see :func:`find_carriers`.
        nonnegative: Nodes none of whose elements can be negative.
        layouts: Where the samples lie, for every active tensor.
    """

    carriers: frozenset[fx.Node]
    nonnegative: frozenset[fx.Node]
    layouts: Mapping[fx.Node, SampleLayout]


def is_softmax(node: fx.Node) -> bool:
    """Whether a node is a softmax; its outputs may be attention weights."""
    op = entry(node)
    return op is not None and op.gives_weights


def from_softmax(node: object, active: Collection[fx.Node]) -> bool:
    """Whether a value comes from a softmax by ops that read one floating value among the ``active`` ones."""
    while isinstance(node, fx.Node) and node.op == "call_function":
        if is_softmax(node):
            return True
        parents = [p for p in node.all_input_nodes if p in active and is_floating(p)]
        if len(parents) != 1:
            return False
        (node,) = parents
    return False


def analyze(module: fx.GraphModule, *, dynamic: bool) -> Facts:
    """Analyze a normalized graph; without a dynamic batch, every tensor holds a single sample."""
    graph = module.graph
    nonnegative: set[fx.Node] = set()
    for node in graph.nodes:
        if _cannot_be_negative(module, node, nonnegative):
            nonnegative.add(node)
    return Facts(find_carriers(graph), frozenset(nonnegative), find_samples(graph, dynamic=dynamic).layouts)


def find_carriers(graph: fx.Graph) -> frozenset[fx.Node]:
    """Return the values that can carry relevance: floating inputs, and floating values computed from carriers.

    Detached values, integers, comparisons and whatever is computed from them count as constants, except the first floating value computed
    from each integer input, such as word embeddings; embeddings of positions that the model counts from the same input are constants.
    """
    carriers = {n for n in tensor_inputs(graph) if is_floating(n)}
    made_from = {n: frozenset([n]) for n in tensor_inputs(graph) if n not in carriers}
    without = set(made_from)  # integer inputs of which no floating value is made yet
    for node in graph.nodes:
        if node.op != "call_function" or _is_detached(node):
            continue
        read = values_read(node)
        if not carriers.isdisjoint(read):
            if is_floating(node):
                carriers.add(node)
            continue
        sources = frozenset[fx.Node]().union(*(made_from.get(value, ()) for value in read))
        if not is_floating(node) or not isinstance(node.meta["val"], Tensor):
            made_from[node] = sources
        elif not without.isdisjoint(sources):
            carriers.add(node)
            without -= sources
    return frozenset(carriers)


def _is_detached(node: fx.Node) -> bool:
    op = entry(node)
    return op is not None and op.detaches


def _cannot_be_negative(module: fx.GraphModule, node: fx.Node, known: set[fx.Node]) -> bool:
    if node.op == "get_attr":
        if all(_is_weight(user) for user in node.users):
            return False  # no rule asks for the sign of a layer's weights, and reading them all takes time
        value = getattr(module, str(node.target))
        ordered = isinstance(value, Tensor) and value.dtype != torch.bool and not value.is_complex() and not value.is_meta
        return ordered and value.numel() > 0 and bool((value >= 0).all())
    if node.op != "call_function":
        return False
    if node.target is operator.getitem:
        return node.args[0] in known
    op = known_op(node)
    return op is not None and _is_nonnegative(node, op, known)


def _is_weight(user: fx.Node) -> bool:
    """Whether an op is a layer, whose constants are its weight and bias."""
    op = entry(user)
    return op is not None and "weight" in op.needs


def _is_nonnegative(node: fx.Node, op: Op, known: set[fx.Node]) -> bool:
    """Whether the output of an op cannot be negative, given the values of which that is known."""
    arguments = arguments_of(node)

    def is_known(value: Any) -> bool:  # noqa: ANN401 - an argument
        return value in known if isinstance(value, fx.Node) else isinstance(value, int | float) and value >= 0

    if callable(op.nonnegative):
        return op.nonnegative(arguments, is_known)
    if op.nonnegative == "inherits":
        numbers = [v for name in op.data if isinstance(v := arguments.get(name), int | float)]
        return all(map(is_known, [*numbers, *(n for n in node.all_input_nodes if is_floating(n))]))
    return op.nonnegative == "always"
