"""Static analysis of a normalized graph: activity, carriers of relevance, signs, and the layout of samples."""

import math
import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from relprop.errors import UnsupportedOpError
from relprop.graph.aliasing import values_read
from relprop.graph.nodes import PATH, is_floating, tensor_inputs
from relprop.graph.passes.constants import depends_on_input
from relprop.ops.layout import SampleLayout
from relprop.ops.op import Op, op_name
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
    """Analyze a normalized graph; without a dynamic batch, every tensor holds a single sample.

    Raises:
        UnsupportedOpError: An op whose result has a size that depends on the input's values.
    """
    graph = module.graph
    active = depends_on_input(graph)
    _refuse_unknown_sizes(graph)
    nonnegative: set[fx.Node] = set()
    for node in graph.nodes:
        if _cannot_be_negative(module, node, nonnegative):
            nonnegative.add(node)
    return Facts(find_carriers(graph), frozenset(nonnegative), _layouts(graph, active, dynamic=dynamic))


def _refuse_unknown_sizes(graph: fx.Graph) -> None:
    for node in graph.nodes:
        if node.op == "call_function" and is_floating(node) and free_unbacked_symbols(node.meta["val"]):
            where = node.meta.get(PATH) or "the model itself"
            raise UnsupportedOpError(
                f"The size of what {op_name(node.target)} (in {where}) returns depends on the input's values, so no plan can be made."
            )


def find_carriers(graph: fx.Graph) -> frozenset[fx.Node]:
    """Return the values that can carry relevance: floating inputs, and floating values computed from carriers.

    Integers, comparisons and whatever is computed from them count as constants, except the first floating values computed from integer inputs.
    """
    carriers = {n for n in tensor_inputs(graph) if is_floating(n)}
    integers = set(tensor_inputs(graph)) - carriers
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        if not carriers.isdisjoint(values_read(node)):
            if is_floating(node):
                carriers.add(node)
        elif not integers.isdisjoint(values_read(node)):
            (carriers if is_floating(node) and isinstance(node.meta["val"], Tensor) else integers).add(node)
    return frozenset(carriers)


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


def _layouts(graph: fx.Graph, active: set[fx.Node], *, dynamic: bool) -> dict[fx.Node, SampleLayout]:
    batch = _batch_symbol(graph) if dynamic else None
    layouts: dict[fx.Node, SampleLayout] = {}
    for node in graph.nodes:
        value = node.meta.get("val")
        tensor = value[0] if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor) else value
        if isinstance(tensor, Tensor):
            sources = {n: layouts[n] for n in node.all_input_nodes if n in active and n in layouts}
            layouts[node] = SampleLayout(None) if batch is None else _layout(node, tensor, batch, sources)
    return layouts


def _batch_symbol(graph: fx.Graph) -> Any:  # noqa: ANN401 - a sympy symbol, or None
    for node in tensor_inputs(graph):
        shape = node.meta["val"].shape
        if shape and not isinstance(shape[0], int):
            return shape[0].node.expr
    return None


def _multiple(size: int | torch.SymInt, batch: Any) -> int:  # noqa: ANN401
    """The size of a dimension as a multiple of the batch; 0 where it does not depend on the batch."""
    if isinstance(size, int):
        return 0
    ratio = size.node.expr / batch
    return int(ratio) if ratio.is_number else 0


def _stride(shape: torch.Size, layout: SampleLayout) -> int:
    """How many elements of one sample are contiguous in row-major order."""
    stride = layout.inner
    for size in shape[layout.dim + 1 :]:  # pyright: ignore[reportOptionalOperand]
        stride *= size
    return stride


def _layout(node: fx.Node, value: Tensor, batch: Any, sources: Mapping[fx.Node, SampleLayout]) -> SampleLayout:  # noqa: ANN401
    """Where the samples lie in the result of an op; ``SampleLayout(None)`` where it mixes them or has none."""
    dims = [(d, m) for d, size in enumerate(value.shape) if (m := _multiple(size, batch))]
    if len(dims) != 1:
        return SampleLayout(None)
    dim, multiple = dims[0]
    inners = {
        _inner(node, source, value.shape[dim + 1 :], layout) for source, layout in sources.items() if layout.dim is not None
    }
    inner = inners.pop() if inners else 1
    return SampleLayout(None) if inners or inner == 0 or multiple % inner else SampleLayout(dim, inner)


def _inner(node: fx.Node, source: fx.Node, after: torch.Size, layout: SampleLayout) -> int:
    """How many consecutive entries of a result's batch dimension belong to one sample; 0 where a sample is not contiguous in it."""
    op = entry(node)
    if op is None or not (op.reshapes or op.repeats):
        return layout.inner
    shape = source.meta["val"].shape
    if op.reshapes:
        elements, rest = _stride(shape, layout), math.prod(after)
        return elements // rest if rest and elements % rest == 0 else 0
    if op.repeats is not None:
        dim, times = op.repeats(arguments_of(node), len(shape))
        if dim is None:  # flattened first
            return _stride(shape, layout) * times
        return layout.inner * times if dim == layout.dim else layout.inner
    return layout.inner
