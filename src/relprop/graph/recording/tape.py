"""The tape: the graph of what was recorded so far, and what is known of the tensors that the model holds."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, fx

from relprop.graph.nodes import PATH, as_meta
from relprop.graph.recording.calls import mapped
from relprop.graph.recording.custom_gradients import Region
from relprop.graph.recording.traced import Entry, Memory, Traced, View

CONSTANT = "constant"
"""Key of ``node.meta``: the value of a node that does not depend on the input."""

AT = "at"
"""Key of ``node.meta``: how many nodes were recorded before."""

NO_GRAD = "no_grad"
"""Key of ``node.meta``: whether the model computes the value with gradients off."""

FUNCTION = "function"
"""Key of ``node.meta``: the :class:`Region` of the ``torch.autograd.Function`` that computes the value."""


class Tape:
    """Takes down ops as nodes of a graph.

    Args:
        names: The names of the model's parameters and buffers, by identity.

    Attributes:
        graph: The ops.
        constants: The tensors that the graph reads, by name.
        read_names: The names of the model's parameters and buffers among them.
        path: The path of the module that is being called.
        count: How many nodes were recorded.
        region: The call of a ``torch.autograd.Function`` that is running.
        gradients_off: Whether the model runs with gradients off.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.graph = fx.Graph()
        self.constants: dict[str, Tensor] = {}
        self.read_names: set[str] = set()
        self.path = ""
        self.count = 0
        self.region: Region | None = None
        self.gradients_off = False
        self._names = names
        self._entries: dict[int, tuple[Tensor, Entry]] = {}

    @property
    def where(self) -> str:
        """The module that is being called, as messages name it."""
        return self.path or "the model itself"

    # --- nodes -------------------------------------------------------------------------------------------------------------------

    def placeholder(self, name: str, value: Tensor) -> fx.Node:
        """Add an input."""
        node = self._counted(self.graph.placeholder(name))
        node.meta["val"] = value
        return node

    def add(self, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> fx.Node:  # noqa: ANN401
        """Add a call of an op, as of the module and the function that are running."""
        node = self._counted(self.graph.call_function(op, args, kwargs))
        node.meta[PATH] = self.path
        node.meta["val"] = mapped(result, as_meta)
        if self.region is not None:
            node.meta[FUNCTION] = self.region
        elif self.gradients_off:
            node.meta[NO_GRAD] = True
        return node

    def _counted(self, node: fx.Node) -> fx.Node:
        node.meta[AT] = self.count
        self.count += 1
        return node

    def added_since(self, size: int) -> list[fx.Node]:
        """The nodes since the graph had so many, the last one first."""
        return list(islice(reversed(self.graph.nodes), len(self.graph.nodes) - size))

    def erase(self, nodes: Iterable[fx.Node]) -> None:
        """Take nodes back, each after those that read it."""
        for node in nodes:
            self.graph.erase_node(node)

    # --- tensors -----------------------------------------------------------------------------------------------------------------

    def known(self, tensor: Tensor) -> Entry:
        """The entry of a tensor; one that no recorded op returned, such as a parameter, a buffer or one made elsewhere, is entered."""
        if isinstance(tensor, Traced):
            return tensor.entry
        return self._entries[id(tensor)][1] if id(tensor) in self._entries else self._constant(tensor)

    def _constant(self, tensor: Tensor) -> Entry:
        path, value = self._names.get(id(tensor), ""), tensor.detach()
        name = f"c{len(self.constants)}_{path}".replace(".", "_")
        self.constants[name] = value
        self.read_names.add(path)
        node = self._counted(self.graph.get_attr(name))
        node.meta.update({"val": as_meta(value), PATH: path, CONSTANT: value})
        return self.enter(tensor, node, value)

    def enter(
        self, tensor: Tensor, node: fx.Node, value: Tensor, memory: Memory | None = None, path: tuple[View, ...] = ()
    ) -> Entry:
        """Enter a tensor that has values; without ``memory`` it has one of its own."""
        memory = Memory(node, value) if memory is None else memory
        entry = Entry(node, value, memory, path, tensor.device, memory.version)
        self._entries[id(tensor)] = tensor, entry
        return entry

    @staticmethod
    def traced(
        node: fx.Node, value: Tensor, device: torch.device, memory: Memory | None = None, path: tuple[View, ...] = ()
    ) -> Traced:
        """Return a tensor without values, which has its entry with it."""
        memory = Memory(node, value) if memory is None else memory
        return Traced.of(Entry(node, value, memory, path, device, memory.version))
