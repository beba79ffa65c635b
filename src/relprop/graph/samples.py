"""Samples: where those of a batch lie in every value, and which ops mix them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from relprop.graph.nodes import (
    BATCHES,
    Size,
    explained,
    nodes_in,
    product,
    quotient,
    shape_of,
    sources_of,
    tensor_inputs,
    twin_of,
    value_of,
)
from relprop.graph.passes.constants import depends_on_input
from relprop.ops.layout import SampleLayout
from relprop.ops.op import Op, op_name
from relprop.ops.samples import MIXES
from relprop.ops.table import arguments_of, entry

ONE = SampleLayout(None)


@dataclass(frozen=True)
class Samples:
    """Where the samples of a batch lie.

    Attributes:
        layouts: The layout of every tensor; ``SampleLayout(None)`` for those without samples, and for those of mixed samples.
        mixing: Ops whose results depend on several samples at once, though each of their arguments does not.
        unsettled: Ops of which only a run can tell.
    """

    layouts: Mapping[fx.Node, SampleLayout]
    mixing: tuple[fx.Node, ...]
    unsettled: tuple[fx.Node, ...]


def find_samples(graph: fx.Graph, *, dynamic: bool) -> Samples:
    """Follow the samples from the inputs through the ops; without a dynamic batch, every tensor holds a single sample."""
    tensors = [n for n in graph.nodes if n.op != "output" and isinstance(_first(value_of(n)), Tensor)]
    if not dynamic:
        return Samples(dict.fromkeys(tensors, ONE), (), ())
    active, needed = depends_on_input(graph), sources_of(explained(graph))
    layouts: dict[fx.Node, SampleLayout] = {n: SampleLayout(0) if _has_batch(n) else ONE for n in tensor_inputs(graph)}
    sampled = {n for n in tensor_inputs(graph) if _has_batch(n)}
    mixing, unsettled = list[fx.Node](), list[fx.Node]()
    for node in graph.nodes:
        if node in layouts or node.op == "output" or not isinstance(_first(value_of(node)), Tensor):
            continue
        sources = [n for n in dict.fromkeys(nodes_in((*node.args, *node.kwargs.values()))) if n in sampled and n in active]
        found = _result(node, sources, layouts) if sources and node in active else _constant(node)
        layouts[node] = found.layout
        if sources and node in active and not _is_empty(node):
            sampled.add(node)
            if node not in needed:  # it is only checked
                continue
            if found.mixes and all(layouts[source].dim is not None for source in sources):
                mixing.append(node)
            elif found.unsettled:
                unsettled.append(node)
    return Samples(layouts, tuple(mixing), tuple(unsettled))


@dataclass(frozen=True)
class _Found:
    layout: SampleLayout
    mixes: bool = False
    unsettled: bool = False


_MIXED = _Found(ONE, mixes=True)


def _first(value: Any) -> Any:  # noqa: ANN401
    return value[0] if isinstance(value, list | tuple) and value else value


def _shape(node: fx.Node) -> tuple[int | Size, ...]:
    """The shape of a value, of the first of several."""
    values = [_first(v) for v in (value_of(node), twin_of(node))]
    return tuple(a if a == b else Size(a, b) for a, b in zip(*(v.shape for v in values), strict=True))


def _is_empty(node: fx.Node) -> bool:
    """Whether a value has no elements, as positions of which a mask has none; it holds nothing of any sample."""
    value = value_of(node)
    return isinstance(value, Tensor) and not value.numel() and not twin_of(node).numel()


def _has_batch(node: fx.Node) -> bool:
    return value_of(node).dim() > 0 and shape_of(node)[0] == BATCHES


def _batch_dim(node: fx.Node) -> tuple[int, int] | None:
    """The one dimension whose size depends on the batch, and its multiple of it; None where there is none, or several."""
    dims = [(dim, size) for dim, size in enumerate(_shape(node)) if isinstance(size, Size)]
    return (dims[0][0], dims[0][1].per_sample) if len(dims) == 1 and dims[0][1].per_sample else None


def _constant(node: fx.Node) -> _Found:
    """The layout of a value that does not depend on the input, but maybe on the size of the batch."""
    found = _batch_dim(node)
    return _Found(ONE if found is None else SampleLayout(found[0]))


def _result(node: fx.Node, sources: list[fx.Node], layouts: Mapping[fx.Node, SampleLayout]) -> _Found:
    place = _batch_dim(node)
    if place is None or any(layouts[source].dim is None for source in sources):
        return _MIXED
    dim, multiple = place
    inners, unsettled = set[int](), False
    for source in sources:
        inner = _inner(node, source, layouts[source], dim, multiple)
        unsettled = unsettled or inner is None
        inners.add(layouts[source].inner if inner is None else inner)
    if unsettled and 0 not in inners and (len(inners) > 1 or multiple % max(inners)):
        return _Found(SampleLayout(dim, multiple), unsettled=True)  # rows that are picked may lie sample by sample
    inner = inners.pop()
    if inners or inner == 0 or multiple % inner:
        return _MIXED
    return _Found(SampleLayout(dim, inner), unsettled=unsettled)


def _inner(node: fx.Node, source: fx.Node, layout: SampleLayout, dim: int, multiple: int) -> int | None:
    """How many consecutive entries of a result's batch dimension belong to one sample; 0 where the op mixes samples, None where only a run tells."""
    op, arguments = entry(node), arguments_of(node)
    shape = _shape(source)
    if op is not None and op.reshapes:
        return _static(quotient(product((layout.inner, *shape[_dim(layout) + 1 :])), product(_shape(node)[dim + 1 :])))
    if op is not None and op.repeats is not None:
        repeated, times = op.repeats(arguments, len(shape))
        if repeated is None:  # flattened first
            return _static(product((layout.inner, *shape[_dim(layout) + 1 :], times)))
        return layout.inner * times if repeated == layout.dim else layout.inner
    if op is not None and op.slices is not None and _sliced(node, op, source, layout, dim):
        return layout.inner
    if op is not None and op.order is not None:
        return layout.inner if op.order(arguments, len(shape))[dim] == layout.dim else 0
    return _along(node, arguments, source, layout, multiple)


def _along(node: fx.Node, arguments: Mapping[str, Any], source: fx.Node, layout: SampleLayout, multiple: int) -> int | None:
    """The same for ops that mix along certain dimensions."""
    groups = arguments.get("groups")
    if isinstance(groups, fx.Node) and layout.dim == (0 if source is arguments["weight"] else 1):
        return multiple  # a group of channels per sample
    name = op_name(node.target).removeprefix("aten::")
    if name == "nonzero":  # sorted by the first dimension, and checked to hold as many of every sample
        return multiple if layout.dim == 0 and _shape(source)[0] == Size(*(layout.inner * n for n in BATCHES)) else 0
    if name in {"cat", "stack", "getitem"} or (name in MIXES and source is not _operand(node, arguments)):
        return layout.inner if name != "cat" or arguments["dim"] % len(_shape(node)) != layout.dim or layout.inner == 1 else 0
    mixes = MIXES[name](arguments, value_of(source)) if name in MIXES else None
    if mixes is None:
        return None
    if layout.dim not in mixes:
        return layout.inner
    return None if name in _PARTS else 0


_PARTS = frozenset({"slice", "split", "chunk", "split_with_sizes", "tensor_split", "narrow", "gather", "index_select"})
"""Ops that may part a batch of several towers between samples."""


def _operand(node: fx.Node, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
    op = entry(node)
    names = [name for name in (op.data if op is not None and op.data else ()) if name in arguments] or list(arguments)
    return arguments[names[0]]


def _sliced(node: fx.Node, op: Op, source: fx.Node, layout: SampleLayout, dim: int) -> bool:
    """Whether a slice of the result along its batch dimension is made of the slice of a source along its own."""
    names = [name for name, value in arguments_of(node).items() if value is source]
    for read in (value_of, twin_of):
        arguments = {name: read(argument) for name, argument in arguments_of(node).items()}
        found = op.slices(arguments, read(node), dim) if op.slices is not None else None
        if found is None or any(found.get(name) != layout.dim for name in names):
            return False
    return True


def _dim(layout: SampleLayout) -> int:
    return layout.dim or 0


def _static(size: int | Size | None) -> int:
    return size if isinstance(size, int) else 0
