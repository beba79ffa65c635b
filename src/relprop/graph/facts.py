"""What is known of every value before anything runs: does it depend on the input, can it be negative, where are its samples."""

import math
import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from relprop.errors import UnsupportedOpError
from relprop.graph.nodes import PATH, is_floating, tensor_inputs
from relprop.graph.passes.constants import depends_on_input, values_read
from relprop.ops.layout import SampleLayout
from relprop.ops.op import op_name
from relprop.ops.table import arguments_of, known_op

_VIEWS = frozenset(
    f"aten::{n}"
    for n in ["view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"]
)
_WEIGHTED = frozenset(
    f"aten::{n}"
    for n in ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "batch_norm"]
)
SOFTMAX = frozenset({"aten::softmax", "aten::_softmax"})
_FLOORS = {"aten::hardtanh": "min_val", "aten::clamp": "min", "aten::clamp_min": "min", "aten::threshold": "value"}


@dataclass(frozen=True)
class Facts:
    """What is known of a graph's values, by node.

    Attributes:
        active: Nodes that depend on the values of the input.
        carriers: Those of them that can carry relevance, see :func:`find_carriers`.
        nonnegative: Nodes none of whose elements can be negative.
        layouts: Where the samples lie, for every active tensor.
    """

    active: frozenset[fx.Node]
    carriers: frozenset[fx.Node]
    nonnegative: frozenset[fx.Node]
    layouts: Mapping[fx.Node, SampleLayout]


def from_softmax(node: object, active: Collection[fx.Node]) -> bool:
    """Whether a value comes from a softmax by ops that read one floating value among the ``active`` ones."""
    while isinstance(node, fx.Node) and node.op == "call_function":
        if op_name(node.target) in SOFTMAX:
            return True
        parents = [p for p in node.all_input_nodes if p in active and is_floating(p)]
        if len(parents) != 1:
            return False
        (node,) = parents
    return False


def analyze(module: fx.GraphModule, *, dynamic: bool) -> Facts:
    """Work out the facts of a normalized graph; without a dynamic batch, every tensor holds a single sample.

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
    return Facts(frozenset(active), find_carriers(graph), frozenset(nonnegative), _layouts(graph, active, dynamic=dynamic))


def _refuse_unknown_sizes(graph: fx.Graph) -> None:
    for node in graph.nodes:
        if node.op == "call_function" and is_floating(node) and free_unbacked_symbols(node.meta["val"]):
            where = node.meta.get(PATH) or "the model itself"
            raise UnsupportedOpError(
                f"The size of what {op_name(node.target)} (in {where}) returns depends on the input's values, so no plan can be made."
            )


def find_carriers(graph: fx.Graph) -> frozenset[fx.Node]:
    """Return the values that can carry relevance: floating inputs, and floating values made from values that carry.

    Integers, comparisons and what is made from them count as constants, but for the first floating values made from integer inputs.
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


def _cannot_be_negative(module: fx.GraphModule, node: fx.Node, known: set[fx.Node]) -> bool:  # noqa: PLR0911 - one return per kind of op
    if node.op == "get_attr":
        if all(op_name(user.target) in _WEIGHTED for user in node.users):
            return False  # nobody asks for the sign of a layer's weights, and reading them all takes time
        value = getattr(module, str(node.target))
        ordered = isinstance(value, Tensor) and value.dtype != torch.bool and not value.is_complex() and not value.is_meta
        return ordered and value.numel() > 0 and bool((value >= 0).all())
    if node.op != "call_function":
        return False
    if node.target is operator.getitem:
        return node.args[0] in known
    op, name, arguments = known_op(node), op_name(node.target), arguments_of(node)
    tensors = [a for a in node.all_input_nodes if isinstance(a.meta.get("val"), Tensor)]
    if name in _FLOORS:
        floor = arguments[_FLOORS[name]]
        return isinstance(floor, int | float) and floor >= 0
    if name == "aten::pow":
        exponent = arguments["exponent"]
        return isinstance(exponent, int | float) and (exponent % 2 == 0 or all(t in known for t in tensors))
    if name in {"aten::add", "aten::mul", "aten::div"}:
        numbers = [v for k, v in arguments.items() if k in {"other", "alpha"} and isinstance(v, int | float)]
        square = name == "aten::mul" and arguments["self"] is arguments["other"]
        return square or (all(t in known for t in tensors) and all(v >= 0 for v in numbers))
    if op is None or op.keeps_sign == "never":
        return False
    carriers = [a for a in tensors if a.meta["val"].is_floating_point()]
    return op.keeps_sign == "always" or all(t in known for t in carriers)


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
    """How many times the batch a dimension is; 0 where it does not depend on the batch."""
    if isinstance(size, int):
        return 0
    ratio = size.node.expr / batch
    return int(ratio) if ratio.is_number else 0


def _stride(shape: torch.Size, layout: SampleLayout) -> int:
    """How many elements of one sample lie next to each other in row-major order."""
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
    """How many consecutive entries of a result's batch dimension belong to one sample; 0 where they do not lie together."""
    name = op_name(node.target)
    if name in _VIEWS:
        elements, rest = _stride(source.meta["val"].shape, layout), math.prod(after)
        return elements // rest if rest and elements % rest == 0 else 0
    if name == "aten::repeat_interleave" and arguments_of(node)["dim"] in {layout.dim, layout.dim - source.meta["val"].dim()}:
        return layout.inner * arguments_of(node)["repeats"]
    return layout.inner
