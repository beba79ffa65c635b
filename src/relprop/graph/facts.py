"""Static analysis of a normalized graph: activity, carriers of relevance, signs, and the layout of samples."""

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from relprop.graph.lookups import find_lookups
from relprop.graph.nodes import OF_CELL, is_floating, nodes_in, tensor_inputs, values_read
from relprop.graph.samples import find_samples
from relprop.ops.layout import SampleLayout
from relprop.ops.op import Op, Role, op_name
from relprop.ops.table import arguments_of, entry, known_op


@dataclass(frozen=True)
class Facts:
    """The result of the static analysis of a graph's values, by node.

    Attributes:
        carriers: Nodes that depend on the values of the input and can carry relevance, see :func:`find_carriers`.
        first_made: By integer input, the first floating value computed from it, which carries its relevance.
        nonnegative: Nodes none of whose elements can be negative.
        layouts: Where the samples lie, for every active tensor.
    """

    carriers: frozenset[fx.Node]
    first_made: Mapping[fx.Node, fx.Node]
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
        parents = [p for p in values_read(node) if p in active and is_floating(p)]
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
    return Facts(*_carriers(graph), frozenset(nonnegative), find_samples(graph, dynamic=dynamic).layouts)


def find_carriers(graph: fx.Graph) -> frozenset[fx.Node]:
    """Return the values that can carry relevance: floating inputs, and floating values computed from carriers.

    In recurrent cells the product of a gate and a constant, such as a bias or a first state, is a constant, since gates take no relevance.

    Detached values, integers, comparisons and whatever is computed from them or chosen by them count as constants, except the first floating
    value computed from each integer input, such as word embeddings; embeddings of positions that the model counts from the same input are
    constants. Where several embeddings look up columns of one input, all carry relevance, and so do the integers between, see
    :func:`relprop.graph.lookups.find_lookups`.
    """
    return _carriers(graph)[0]


def _carriers(graph: fx.Graph) -> tuple[frozenset[fx.Node], dict[fx.Node, fx.Node]]:
    """The carriers, and by integer input the first floating value made from it; of several inputs together, by the first of them."""
    carriers = {n for n in tensor_inputs(graph) if is_floating(n)}
    lookups = find_lookups(graph)
    looked_up = {node for found in lookups.values() for node in found.readers}
    made_from = {n: frozenset([n]) for n in tensor_inputs(graph) if n not in carriers and n not in lookups}
    first, without = dict[fx.Node, fx.Node](), list(made_from)  # integer inputs of which no floating value is made yet
    for node in graph.nodes:
        if node.op != "call_function" or _is_detached(node) or _is_gated_constant(node, carriers):
            continue
        read = values_read(node)
        if node in looked_up or not carriers.isdisjoint(read):
            if is_floating(node):
                carriers.add(node)
            continue
        sources = frozenset[fx.Node]().union(*(made_from.get(value, ()) for value in _values_taken(node, read)))
        if not is_floating(node) or not isinstance(node.meta["val"], Tensor):
            made_from[node] = sources
        elif of := [source for source in without if source in sources]:
            carriers.add(node)
            first[of[0]] = node
            without = [source for source in without if source not in sources]
    return frozenset(carriers.union(*(found.columns for found in lookups.values()))), first


def _values_taken(node: fx.Node, read: list[fx.Node]) -> list[fx.Node]:
    """The values that an op reads; of one that chooses between floating values, as a mask of attention does, not the condition.

    Nor are positions numbers of the input: where a mask holds.
    """
    op = entry(node)
    if op is None or op.role is not Role.SELECT or not is_floating(node):
        return [n for n in read if op_name(n.target) != "aten::nonzero" and not _is_index(n, node)]
    return [n for name in op.data for n in nodes_in(arguments_of(node)[name])]


def _is_index(value: fx.Node, node: fx.Node) -> bool:
    """Whether a value is a mask by which an op picks elements, or puts others in their place."""
    indices = arguments_of(node).get("indices")
    mask = value.meta["val"]
    return isinstance(indices, list | tuple) and value in indices and isinstance(mask, Tensor) and mask.dtype == torch.bool


def _is_detached(node: fx.Node) -> bool:
    op = entry(node)
    return op is not None and op.detaches


def _is_gated_constant(node: fx.Node, carriers: set[fx.Node]) -> bool:
    """Whether an op of a recurrent cell multiplies a constant by a gate."""
    op = entry(node)
    if OF_CELL not in node.meta or op is None or op.role is not Role.GATE:
        return False
    return (
        all(_is_gate(n) for n in node.all_input_nodes if n in carriers) and len(carriers.intersection(node.all_input_nodes)) == 1
    )


def _is_gate(node: fx.Node) -> bool:
    """Whether a value is a sigmoid, or one minus it."""
    while node.op == "call_function":
        op = entry(node)
        if op is not None and op.probabilities:
            return True
        if op is None or op.role not in {Role.ADD, Role.SHAPE, Role.GATE} or len(node.all_input_nodes) != 1:
            return False
        node = node.all_input_nodes[0]
    return False


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
