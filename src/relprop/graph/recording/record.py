"""Record one forward pass of a model: a graph, its constants, and the values that its modules return."""

import dataclasses
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from relprop.graph.nodes import Graph
from relprop.graph.recording.recorder import Recorder
from relprop.graph.recording.shadow import Shadow
from relprop.graph.recording.tape import AT
from relprop.graph.recording.writes import is_view
from relprop.inputs import Inputs


class Returned(NamedTuple):
    """What one call of a module returned.

    Attributes:
        path: The module.
        values: The tensors in it, in order.
        last: The last node of the graph then.
        passes_on: Whether they are the module's input, or views of it.
    """

    path: str
    values: tuple[fx.Node, ...]
    last: fx.Node
    passes_on: bool


@dataclass(frozen=True)
class Recording:
    """One recorded forward pass.

    Attributes:
        graph: Its ops; a placeholder for every argument, tensor or not.
        constants: The tensors that the graph reads, by name.
        returned: The calls of modules, in the order of their returns.
        caches: Names of the model's buffers that it fills anew, whatever they hold.
    """

    graph: fx.Graph
    constants: Mapping[str, Tensor]
    returned: tuple[Returned, ...]
    caches: frozenset[str]


class _Calls:
    """Follows the calls of modules."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None
        self.returned: list[Returned] = []
        self._begun: dict[str, int] = {}

    def call(self, path: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        recorder = self.recorder
        if recorder is None:
            return forward(*args, **kwargs)
        tape = recorder.tape
        outer, tape.path = tape.path, path
        self._begun[path] = tape.count
        try:
            return forward(*args, **kwargs)
        finally:
            tape.path = outer

    def note(self, path: str, _module: object, _args: object, result: object) -> None:
        if self.recorder is None:
            return
        entries = [self.recorder.entry(tensor) for tensor in _tensors(result)]
        if path and entries:
            last = next(iter(reversed(self.recorder.tape.graph.nodes)))
            passes_on = all(self._is_passed_on(entry.node, path) for entry in entries)
            self.returned.append(Returned(path, tuple(entry.node for entry in entries), last, passes_on))

    def _is_passed_on(self, node: fx.Node, path: str) -> bool:
        """Whether a returned value is the module's input, or a view of it."""
        while node.meta[AT] >= self._begun[path]:
            if not is_view(node):
                return False
            node = node.args[0]  # pyright: ignore[reportAssignmentType]
        return node.op != "get_attr"


def record(model: nn.Module, inputs: Inputs, select: Callable[[object], Tensor], copies: int = 1) -> Recording:
    """Run a model's own code once, without values of what depends on its input, and record its ops.

    Args:
        model: The model; it is left as it is.
        inputs: Its arguments; of tensors only shape, dtype and device matter.
        select: Picks the tensor to explain from the model's result.
        copies: How often a single sample is repeated to make the batch that the model takes; recorded with it.
    """
    calls = _Calls()
    shadow = Shadow(model, calls.call, calls.note)
    recorder = calls.recorder = Recorder(shadow.names)
    tape, flat = recorder.tape, list[Any]()
    for i, value in enumerate(inputs.flat):
        flat.append(recorder.input(f"input_{i}", value) if isinstance(value, Tensor) else _fixed(tape.graph, i, value))
    with torch.enable_grad(), _without_autograd(), recorder:
        result = inputs.call(shadow.model, flat if copies == 1 else inputs.with_flat(flat).resized(copies).flat)
        explained = recorder.read_last(select(result)).node
    tape.graph.output((explained, *recorder.assumed))
    calls.recorder = None
    caches = shadow.replaced() - tape.read_names
    return Recording(tape.graph, tape.constants, tuple(calls.returned), caches)


def as_module(recording: Recording) -> Graph:
    """Return a recording as a graph that owns its constants."""
    owner = nn.Module()
    for name, tensor in recording.constants.items():
        owner.register_buffer(name, tensor)
    return Graph(owner, recording.graph)


@contextmanager
def _without_autograd() -> Generator[None, None, None]:
    """Switch off autograd and its count of writes for this thread, whatever the gradient mode that the model sees."""
    torch_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]
    counts = torch_c.DispatchKeySet(torch_c.DispatchKey.ADInplaceOrView)
    with torch_c._AutoDispatchBelowAutograd(), torch_c._ExcludeDispatchKeyGuard(counts):
        yield


def _fixed(graph: fx.Graph, index: int, value: Any) -> Any:  # noqa: ANN401 - an argument that is no tensor
    graph.placeholder(f"input_{index}")
    return value


def _tensors(value: Any) -> list[Tensor]:  # noqa: ANN401 - whatever a module returns
    """The tensors in what a module returns, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    elif dataclasses.is_dataclass(value):
        value = list(vars(value).values())
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, list | tuple) else []
