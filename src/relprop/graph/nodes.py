"""Tools for ``fx`` graphs: metadata of nodes; inserting, replacing and running nodes."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from relprop.ops.fast import FASTER
from relprop.ops.shapes import on_meta
from relprop.ops.table import arguments_of, entry

OUTPUTS = "module_outputs"
"""Key of ``node.meta``: the paths of the modules whose output a node is."""

PATH = "module_path"
"""Key of ``node.meta``: the path of the module that an op belongs to."""

TWIN = "twin"
"""Key of ``node.meta``: the value of a node for a batch of another size than that of ``"val"``; both are tensors on the meta device, or sizes."""

DEVICE = "device"
"""Key of ``node.meta``: the device of a value that the model moved to another than its input's."""

OF_CELL = "of_cell"
"""Key of ``node.meta``: whether an op is part of a recurrent layer or cell, whose sigmoids are gates."""

WINDOWS = "windows"
"""Key of ``node.meta``: by path of a module of whose output a node is a part, the windows, in one dimension each, that make that part."""


RETURNS = "returns"
"""Key of a graph module's ``meta``: :class:`Returns` by path of a module whose output is marked."""


class Returns(NamedTuple):
    """How a module's marked output relates to its calls and tensors.

    Attributes:
        calls: How often the module is called; the last output is marked.
        tensors: How many of the returned tensors are read later; the last one computed is marked.
        passes_on: Whether the module returns its input or a view of it.
    """

    calls: int
    tensors: int
    passes_on: bool


class Graph(fx.GraphModule):
    """A graph with its tensors, which is interpreted node by node; no Python code is made of it."""

    def recompile(self) -> Any:  # noqa: ANN401
        """Do nothing."""

    def forward(self, *inputs: Any) -> Tensor:  # noqa: ANN401 - whatever the model takes
        """Return the explained value."""
        values: dict[fx.Node, Any] = {}
        for _, values in interpret(self, inputs):  # noqa: B007
            pass
        return values[explained(self.graph)]


def as_meta(value: Any) -> Any:  # noqa: ANN401 - a tensor, or a plain argument
    """Return a tensor on the meta device with the shape, strides and dtype of another; anything else stands for itself."""
    if not isinstance(value, Tensor) or value.is_meta:
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


class Window(NamedTuple):
    """A slice of a value that begins at ``start`` in a dimension of ``size``."""

    dim: int
    start: int
    size: int


def explained(graph: fx.Graph) -> fx.Node:
    """The value that a captured graph returns first, which is explained; after it come the checks of what the recording assumed."""
    result: Any = graph.output_node().args[0]
    return result[0]


def sources_of(node: fx.Node) -> set[fx.Node]:
    """A node and all that it is computed from."""
    found, queue = {node}, [node]
    while queue:
        more = [source for source in queue.pop().all_input_nodes if source not in found]
        found.update(more)
        queue.extend(more)
    return found


def tensor_inputs(graph: fx.Graph) -> list[fx.Node]:
    """The tensors among the model's inputs, in order."""
    return [n for n in graph.find_nodes(op="placeholder") if isinstance(n.meta.get("val"), Tensor)]


def call_op(
    node: fx.Node,
    values: Mapping[fx.Node, Any],
    device: torch.device | None = None,
    function: Callable[..., Any] | None = None,
) -> Any:  # noqa: ANN401 - what the op returns
    """Run one op, or ``function`` in its place, on the values of its arguments; new tensors are allocated on ``device``."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)  # pyright: ignore[reportAttributeAccessIssue]
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": device}
    return (function or FASTER.get(node.target, node.target))(*args, **kwargs)  # pyright: ignore[reportCallIssue]


def interpret(
    module: fx.GraphModule, inputs: Sequence[object], functions: Mapping[fx.Node, Callable[..., Any]] | None = None
) -> Iterator[tuple[fx.Node, dict[fx.Node, Any]]]:
    """Run a graph node by node; after each, yield it and the dict of values, from which the caller may drop dead ones.

    Args:
        module: The graph with its tensors.
        inputs: One for every placeholder; new tensors are allocated on the device of the first tensor among them.
        functions: Replacements of ops, by node.
    """
    functions, given = functions or {}, iter(inputs)
    device = next(v.device for v in inputs if isinstance(v, Tensor))
    values: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            values[node] = getattr(module, str(node.target))
        elif node.op == "call_function":
            values[node] = call_op(node, values, device, functions.get(node))
        yield node, values


def value_of(node: object) -> Any:  # noqa: ANN401 - a tensor without values, a list of them, or a plain argument
    """The value of a node, a tensor on the meta device; anything else stands for itself."""
    return node.meta.get("val") if isinstance(node, fx.Node) else node


def twin_of(node: object) -> Any:  # noqa: ANN401
    """The same for a batch of another size."""
    return node.meta.get(TWIN, node.meta.get("val")) if isinstance(node, fx.Node) else node


BATCHES = (11, 13)
"""The sizes of the batches of :func:`value_of` and :func:`twin_of`: primes that are rarely sizes of anything else."""


class Size(NamedTuple):
    """A size that depends on the batch, for the batches of :data:`BATCHES`."""

    value: int
    twin: int

    @property
    def per_sample(self) -> int:
        """The size as a multiple of the batch; 0 where it is none."""
        multiple = self.value // BATCHES[0]
        return multiple if self == (multiple * BATCHES[0], multiple * BATCHES[1]) else 0


def for_one(size: int | Size) -> int:
    """A size for a batch of one."""
    if isinstance(size, int):
        return size
    slope = (size.twin - size.value) // (BATCHES[1] - BATCHES[0])
    return size.value - slope * (BATCHES[0] - 1)


def product(sizes: Iterable[int | Size]) -> int | Size:
    """The product of sizes."""
    value, twin = 1, 1
    for size in sizes:
        a, b = (size, size) if isinstance(size, int) else size
        value, twin = value * a, twin * b
    return value if value == twin else Size(value, twin)


def quotient(a: int | Size, b: int | Size) -> int | Size | None:
    """Return ``a / b`` where ``b`` divides ``a``, whatever the batch; else None."""
    pairs = list(zip(*((n, n) if isinstance(n, int) else n for n in (a, b)), strict=True))
    if any(m == 0 or n % m for n, m in pairs):
        return None
    value, twin = (n // m for n, m in pairs)
    return value if value == twin else Size(value, twin)


def shape_of(node: fx.Node) -> tuple[int | Size, ...]:
    """The shape of a node's value; sizes that depend on the batch are a :class:`Size`."""
    return tuple(a if a == b else Size(a, b) for a, b in zip(value_of(node).shape, twin_of(node).shape, strict=True))


def set_value(node: fx.Node) -> None:
    """Compute the value of a node, and its twin, from those of its arguments."""
    target: Any = node.target
    for key, read in (("val", value_of), (TWIN, twin_of)):
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), read)  # pyright: ignore[reportAttributeAccessIssue]
        with torch.no_grad():
            node.meta[key] = on_meta(target, args, kwargs) if isinstance(target, OpOverload) else target(*args, **kwargs)


def nodes_in(value: object) -> list[fx.Node]:
    """The nodes in an argument, or in a list of them, in order."""
    if isinstance(value, list | tuple):
        return [n for item in value for n in nodes_in(item)]
    return [value] if isinstance(value, fx.Node) else []


def values_read(node: fx.Node) -> list[fx.Node]:
    """The values that an op reads, without those of which only the shape or the dtype matters to it."""
    op = entry(node)
    if op is None or op.reads is None:
        return node.all_input_nodes
    arguments = arguments_of(node)
    return [n for name in op.reads for n in nodes_in(arguments[name])]


def is_floating(node: fx.Node) -> bool:
    """Whether the value of a node is a floating (or complex) tensor, or a list that starts with one."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, Tensor) and (first.is_floating_point() or first.is_complex())


def module_outputs(graph: fx.Graph) -> dict[str, fx.Node]:
    """The outputs of the model's modules, by module path, in forward order."""
    return {path: node for node in graph.nodes for path in node.meta.get(OUTPUTS, ())}


def returns(module: fx.GraphModule) -> dict[str, Returns]:
    """The :class:`Returns` of the model's modules, by module path."""
    return module.meta.setdefault(RETURNS, {})


def output_notes(module: fx.GraphModule, paths: Iterable[str]) -> tuple[str, ...]:
    """Notes on modules whose outputs may surprise: a view of the input, several calls, several tensors."""
    notes: list[str] = []
    for path in paths:
        known = returns(module).get(path, Returns(1, 1, passes_on=False))
        if known.passes_on:
            notes.append(f"Module {path!r} computes nothing: its output is its input, or a view of it.")
        if known.calls > 1:
            notes.append(f"Module {path!r} is called {known.calls} times: its output is that of the last call.")
        if known.tensors > 1:
            notes.append(f"Module {path!r} returns {known.tensors} tensors: its output is the one computed last.")
    return tuple(notes)


def widened(node: fx.Node, path: str, relevance: Tensor) -> Tensor:
    """Pad the relevance of a part of a module's output with zeros to the whole output."""
    for window in node.meta.get(WINDOWS, {}).get(path, ()):
        after = window.size - window.start - relevance.shape[window.dim]
        relevance = nn.functional.pad(relevance, [0, 0] * (relevance.dim() - window.dim - 1) + [window.start, after])
    return relevance


def insert(before: fx.Node, target: Any, *args: Any, **kwargs: Any) -> fx.Node:  # noqa: ANN401 - an op and its arguments
    """Insert a call before a node, with its module path."""
    with before.graph.inserting_before(before):
        node = before.graph.call_function(target, args, kwargs)
    node.meta[PATH] = before.meta.get(PATH, "")
    set_value(node)
    return node


def replace(node: fx.Node, new: fx.Node) -> None:
    """Replace all uses of ``node``, as a module's output too, by ``new``, and erase ``node``."""
    if OUTPUTS in node.meta:
        new.meta[OUTPUTS] = [*new.meta.get(OUTPUTS, []), *node.meta[OUTPUTS]]
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def add_constant(module: fx.GraphModule, before: fx.Node, name: str, value: Tensor) -> fx.Node:
    """Register ``value`` as a buffer under a free name like ``name`` and return a node that reads it."""
    free = next(c for i in itertools.count() if not hasattr(module, c := f"{name}_{i}"))
    module.register_buffer(free, value)
    with module.graph.inserting_before(before):
        node = module.graph.create_node("get_attr", free)
    node.meta[PATH] = before.meta.get(PATH, "")
    node.meta["val"] = as_meta(value)
    return node


def copy_module(module: fx.GraphModule, change: Callable[[Tensor], Tensor] | None = None) -> fx.GraphModule:
    """Copy a graph module; tensors are those that ``change`` returns, or shared; values on the meta device are shared."""
    owner, changed = nn.Module(), dict[int, Tensor]()
    for name, tensor in module.named_buffers(remove_duplicate=False):
        if change is not None and id(tensor) not in changed:
            changed[id(tensor)] = change(tensor)
        owner.register_buffer(name, changed.get(id(tensor), tensor))
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    copied = Graph(owner, graph)
    copied.meta.update(module.meta)
    return copied


def change_dtypes(graph: fx.Graph, dtypes: Mapping[torch.dtype, torch.dtype]) -> None:
    """Replace dtypes in the arguments of ops and in the values."""

    def changed(value: Any) -> Any:  # noqa: ANN401 - an argument, or a value
        if isinstance(value, torch.dtype):
            return dtypes.get(value, value)
        if isinstance(value, Tensor):
            return value.to(dtypes.get(value.dtype, value.dtype))
        if isinstance(value, list | tuple):
            return type(value)(changed(item) for item in value)
        return value

    for node in graph.nodes:
        node.args = changed(node.args)
        node.kwargs = {name: changed(value) for name, value in node.kwargs.items()}
        value = node.meta["val"] = changed(node.meta.get("val"))
        if TWIN in node.meta:
            node.meta[TWIN] = changed(node.meta[TWIN])
        if _makes_floats(node) and "dtype" in arguments_of(node):  # else it would take the default dtype
            node.kwargs = {**node.kwargs, "dtype": value.dtype}


def _makes_floats(node: fx.Node) -> bool:
    """Whether an op makes floating values from sizes and numbers."""
    reads = any(isinstance(value_of(parent), Tensor) for parent in node.all_input_nodes)
    return node.op == "call_function" and is_floating(node) and not reads
