"""Tables of integers: the columns of one input that several embeddings look up."""

import operator
from dataclasses import dataclass

from torch import Tensor, fx

from relprop.graph.nodes import is_floating, tensor_inputs
from relprop.ops.op import Role, op_name
from relprop.ops.table import arguments_of, known_op

_BY_NUMBERS = frozenset({Role.SCALE, Role.ADD, Role.GATE})
"""Roles of ops that make floating values of columns of numbers: casts, and arithmetic with constants."""
_BY_INTEGERS = _BY_NUMBERS | {Role.ACTIVATION}
"""Roles of ops that make integers of integers one by one, with constants: offsets, and also ``remainder`` or ``clamp``."""


@dataclass(frozen=True)
class Lookups:
    """What several ops read of an integer input.

    Attributes:
        readers: The floating values made of its columns, in forward order: embeddings, and numbers that are cast.
        columns: The input, and the integers that are moved from it to the readers, or made of it one by one: ``x + offsets``.
    """

    readers: tuple[fx.Node, ...]
    columns: frozenset[fx.Node]


def find_lookups(graph: fx.Graph) -> dict[fx.Node, Lookups]:
    """Return, by integer input, what is looked up of it, where that is several values, an embedding among them.

    Integers that are made of several numbers, such as positions that are counted from tokens, are no columns.
    """
    found = dict[fx.Node, Lookups]()
    for source in tensor_inputs(graph):
        if not is_floating(source):
            lookups = _lookups(graph, source)
            if len(lookups.readers) > 1 and any(is_lookup(node) for node in lookups.readers):
                found[source] = lookups
    return found


def looked_up_inputs(graph: fx.Graph) -> list[str]:
    """Return the names of the integer inputs of which an embedding is looked up."""
    sources = [source for source in tensor_inputs(graph) if not is_floating(source)]
    return [source.name for source in sources if any(map(is_lookup, _lookups(graph, source).readers))]


def is_lookup(node: fx.Node) -> bool:
    """Whether an op looks up the rows of an embedding."""
    return op_name(node.target) == "aten::embedding"


def _lookups(graph: fx.Graph, source: fx.Node) -> Lookups:
    columns, readers = {source}, list[fx.Node]()
    for node in graph.nodes:
        if node.op != "call_function" or columns.isdisjoint(node.all_input_nodes):
            continue
        if is_lookup(node):
            if arguments_of(node)["indices"] in columns:
                readers.append(node)
        elif is_floating(node):
            if _made_of_numbers(node, columns):
                readers.append(node)
        elif _moves(node, columns) or _made_one_by_one(node, columns):
            columns.add(node)
    return Lookups(tuple(readers), frozenset(columns))


def _moves(node: fx.Node, columns: set[fx.Node]) -> bool:
    """Whether an op moves integers that come from the input, and nothing else."""
    if node.target is operator.getitem:
        return True
    op = known_op(node)
    return op is not None and (op.role is Role.SHAPE or bool(op.identity)) and columns.issuperset(node.all_input_nodes)


def _made_one_by_one(node: fx.Node, columns: set[fx.Node]) -> bool:
    """Whether an op makes an integer of each integer of one column, with constants."""
    op = known_op(node)
    read = [n for n in node.all_input_nodes if n.op != "get_attr"]
    return op is not None and op.role in _BY_INTEGERS and len(read) == 1 and read[0] in columns


def _made_of_numbers(node: fx.Node, columns: set[fx.Node]) -> bool:
    """Whether an op makes floating values of columns alone, by a cast or by arithmetic with constants."""
    op = known_op(node)
    read = [n for n in node.all_input_nodes if n.op != "get_attr"]
    numbers = isinstance(node.meta["val"], Tensor) and columns.issuperset(read) and len(read) == 1
    return numbers and op is not None and op.role in _BY_NUMBERS
