"""The recorder: a dispatch mode that enters every ATen op of a forward pass into a graph, before torch takes composite ops apart.

Below autograd, which is switched off for the thread, torch hands every op to the mode as the model called it. Constants are computed; what depends
on the input has no values. Writes in place become new values, see :mod:`relprop.graph.recording.writes`.
"""

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode

from relprop.errors import PackedSequenceError, UnsupportedOpError
from relprop.graph.nodes import DEVICE, OF_CELL, as_meta
from relprop.graph.recording.assumptions import assume, assume_shape
from relprop.graph.recording.calls import device_of, holds_tensors, mapped, run_on, run_without_values, share_memory
from relprop.graph.recording.custom_gradients import CustomGradient, Region, emptied, running_function, stop_gradient
from relprop.graph.recording.decompose import definition
from relprop.graph.recording.examples import Examples
from relprop.graph.recording.tape import AT, CONSTANT, FUNCTION, NO_GRAD, Tape
from relprop.graph.recording.traced import Entry, Traced, View
from relprop.graph.recording.writes import functional, item_view, put_back, written
from relprop.ops.op import op_name
from relprop.ops.recorded import INDEXED, PACKING, RECURRENT, is_random

aten = torch.ops.aten


class ReadsValueError(Exception):
    """The model reads a value that depends on its input."""


class Recorder(TorchDispatchMode):
    """Records the ops of one forward pass.

    Args:
        names: The names of the model's parameters and buffers, by identity.

    Attributes:
        tape: What was recorded so far.
        assumed: The checks of what the model reads of its integer inputs.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.tape = Tape(names)
        self.assumed: list[fx.Node] = []
        self._examples = Examples(self.tape.constants)

    # --- tensors -----------------------------------------------------------------------------------------------------------------

    def input(self, name: str, example: Tensor) -> Traced:
        """Return a tensor without values for an input."""
        value = torch.empty(example.shape, dtype=example.dtype, device="meta")
        node = self.tape.placeholder(name, value)
        self._examples.add(node, example)
        return self.tape.traced(node, value, example.device)

    def entry(self, tensor: Tensor) -> Entry:
        """The entry of a tensor, as of the last write to its memory."""
        found = self.tape.known(tensor)
        if found.version != found.memory.version:
            current = self.entry(self._chain(found)[-1])
            found.node, found.value, found.version = current.node, current.value, found.memory.version
        return found

    def read(self, tensor: Tensor) -> Entry:
        """The entry of a tensor as an op reads it: behind the custom gradient, or the end of gradients, that the model gives it."""
        entry = self.entry(tensor)
        node = entry.node
        region: Region | None = node.meta.get(FUNCTION)
        if region is not None and region is not self.tape.region:
            entry.node = self._with_custom_gradient(node, region)
        elif NO_GRAD in node.meta and not self.tape.gradients_off and entry.value.is_floating_point():
            entry.node = self.tape.add(stop_gradient, (node,), {}, entry.value)
        return entry

    def read_last(self, tensor: Tensor) -> Entry:
        """The entry of the model's result."""
        self.tape.region = self._running_region()
        return self.read(tensor)

    def _running_region(self) -> Region | None:
        """The call of a ``torch.autograd.Function`` that is running; they run with gradients off."""
        frame, running = (None, False) if torch.is_grad_enabled() else running_function()
        self.tape.gradients_off = not (torch.is_grad_enabled() or running)
        if frame is None:
            return None
        if self.tape.region is None or self.tape.region.frame is not frame:
            return Region(frame, self.tape.count, frame.f_locals["cls"], frame.f_locals["args"])
        return self.tape.region

    def _with_custom_gradient(self, node: fx.Node, region: Region) -> fx.Node:
        """Give a value that a ``torch.autograd.Function`` returned the function's gradient."""
        tensors: list[Tensor] = []
        arguments = emptied(region.args, tensors)
        before, count, outer = len(self.tape.graph.nodes), self.tape.count, self.tape.region
        with self, torch.no_grad():  # once more, to see which of its results it is
            results = region.function.apply(*region.args)
        offsets = [self.entry(r).node.meta[AT] - count for r in results] if isinstance(results, tuple) else None
        self.tape.erase(self.tape.added_since(before))
        self.tape.count, self.tape.region = count, outer
        item = None if offsets is None else offsets.index(node.meta[AT] - region.begun)
        sources = [self.entry(tensor).node for tensor in tensors]
        return self.tape.add(CustomGradient(region.function, arguments, item), (node, *sources), {}, node.meta["val"])

    def _chain(self, entry: Entry) -> list[Tensor]:
        """The tensors from the whole memory to a view of it, as of the last write."""
        memory = entry.memory
        if entry.memory.value.is_meta:
            chain: list[Tensor] = [self.tape.traced(memory.node, memory.value, entry.device)]
        else:
            chain = [memory.value.detach()]  # an object of its own: the model's keeps its entry
            self.tape.enter(chain[0], memory.node, memory.value)
        with self:
            for view in entry.path:
                chain.append(view.of(chain[-1]))
        return chain

    # --- ops ---------------------------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Record one op, a write as its functional twin, a composite op without an entry as its parts; return what the model shall see.

        Raises:
            PackedSequenceError: The model packs sequences.
        """
        kwargs = kwargs or {}
        if op_name(func) in PACKING:
            raise PackedSequenceError(
                f"The model packs sequences (in {self.tape.where}), which lays the samples of a batch out among each other; "
                "let its recurrent layers read the padded sequences, and take the output of every sample at its own last step, with gather."
            )
        if func is aten.masked_select.default and self._examples.without_weights(self.entry(args[1])) is not None:
            with self:
                x, mask = torch.broadcast_tensors(*args)
            func, args = aten.index.Tensor, (x, [mask])
        if len(args) > 1 and op_name(func) in INDEXED:
            values = args[2] if len(args) > 2 else None
            args = (args[0], [part for index in args[1] for part in self._positions(index, args[0], values)], *args[2:])
        if func is aten.detach.default and not isinstance(args[0], Traced):
            return args[0]  # torch itself detaches plain tensors that are indexed; they have no gradient
        if func is aten.squeeze.default:  # a batch of one stays a batch
            func, args = aten.squeeze.dims, (args[0], [dim for dim, size in enumerate(args[0].shape) if size == 1])
        if func._schema.is_mutable:
            return self._write(func, args, kwargs)
        parts = definition(func, args)
        return self._record(func, args, kwargs) if parts is None else self._decomposed(func, parts, args, kwargs)

    def _decomposed(self, func: Any, parts: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        """Record a composite op as its parts."""
        before = len(self.tape.graph.nodes)
        with self:
            result = parts(*args, **kwargs)
        added = self.tape.added_since(before)
        if op_name(func) in RECURRENT:
            for node in added:
                node.meta[OF_CELL] = True
        if not any(str(node.target).startswith("prims") for node in added):
            return self._as_view(result, args[0], View(func, args[1:], kwargs)) if func is aten.as_strided.default else result
        self.tape.erase(added)  # torch's primitives would hide the op's name
        return self._record(func, args, kwargs)

    def _as_view(self, result: Tensor, source: Tensor, view: View) -> Tensor:
        """Return what a recorded view holds as a view of its source, so that writes to the one are seen in the other, or refused."""
        made, whole = self.entry(result), self.entry(source)
        if not made.symbolic:
            return result
        return self.tape.traced(made.node, made.value, made.device, whole.memory, (*whole.path, view))

    def _positions(self, index: Tensor | None, x: Tensor, values: Tensor | None) -> Sequence[Tensor | None]:
        """The indices of a mask, one per dimension, so that sizes are known; any other index as it is.

        A mask that depends on the input stays one where ``values`` are written that are the same at all its places.
        """
        if index is None or index.dtype not in {torch.bool, torch.uint8}:
            return [index]
        if (entry := self.entry(index)).symbolic:
            same = values is not None and (values.dim() <= x.dim() - index.dim() or values.shape[0] == 1)
            if same or self._examples.without_weights(entry) is None:
                return [index]
        with self:
            return index.nonzero().unbind(1)

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        self.tape.region = self._running_region()
        operands: dict[int, tuple[Tensor, Entry]] = {}
        mapped((args, kwargs), lambda tensor: operands.update({id(tensor): (tensor, self.read(tensor))}))
        entries = {key: entry for key, (_, entry) in operands.items()}
        depends = any(entry.symbolic for entry in entries.values())
        if depends and not any("Tensor" in str(r.type) for r in func._schema.returns):
            return self._assumed(func, *(entry.node for entry in entries.values()))
        symbolic = depends or is_random(func, args, kwargs)
        values = {key: as_meta(entry.value) if symbolic else entry.value for key, entry in entries.items()}
        if symbolic:
            result, known = self._without_values(func, args, kwargs, entries, values)
        else:
            result, known = run_on(func, args, kwargs, values), True
        passed_on = [tensor for key, (tensor, _) in operands.items() if result is values[key]]
        if passed_on or not holds_tensors(result):
            return passed_on[0] if passed_on else result
        nodes, named = mapped((args, kwargs), lambda tensor: entries[id(tensor)].node)
        node = self.tape.add(func, nodes, named, result)
        before = next((entry.device for entry in entries.values() if entry.symbolic), torch.device("cpu"))
        device = device_of(args, kwargs) or before
        if depends and device != before:
            node.meta[DEVICE] = device
        sources = [(entry, values[key]) for key, entry in entries.items()]
        if isinstance(result, Tensor):
            shown: Any = self._shown(result, node, sources, device, lambda: View(func, args[1:], kwargs))
        else:
            shown = self._shown_items(result, node, sources, device, partial(item_view, func, args, kwargs, result))
        return shown if known else self._assumed_shapes(shown)

    def _without_values(
        self,
        func: Any,  # noqa: ANN401
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        entries: Mapping[int, Entry],
        values: Mapping[int, Tensor],
    ) -> tuple[Any, bool]:
        """Run an op without values; return the result, and whether its sizes are known or those of the example."""
        try:
            return run_on(partial(run_without_values, func), args, kwargs, values), True
        except NotImplementedError:
            return self._sized(func, args, kwargs, entries), False

    def _shown_items(
        self,
        result: Sequence[Any],
        node: fx.Node,
        sources: Sequence[tuple[Entry, Tensor]],
        device: torch.device,
        view: Callable[[int], View],
    ) -> Sequence[Any]:
        """What the model sees of an op with several results: each an item of its node."""
        items = [
            self._shown(value, self.tape.add(operator.getitem, (node, i), {}, value), sources, device, partial(view, i))
            if isinstance(value, Tensor)
            else value
            for i, value in enumerate(result)
        ]
        return items if isinstance(result, list) else tuple(items)

    def _assumed(self, func: Any, node: fx.Node, *_: fx.Node) -> Any:  # noqa: ANN401
        """Return what the model reads of its integer inputs, as the example gives it, and note the check of it.

        Raises:
            ReadsValueError: It depends on floating inputs, or on chance.
        """
        value = self._examples.value_of(node)
        if value is None:
            raise ReadsValueError(op_name(func))
        expected = func(value)
        self.assumed.append(self.tape.add(assume, (node, expected), {}, None))
        return expected

    def _sized(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], entries: Mapping[int, Entry]) -> Any:  # noqa: ANN401
        """Run an op whose result has a size that depends on values on those of the example; return the result without values.

        Raises:
            UnsupportedOpError: It depends on floating inputs, on weights, or on chance.
        """
        values = {key: self._examples.without_weights(entry) for key, entry in entries.items()}
        if is_random(func, args, kwargs) or any(value is None for value in values.values()):
            raise UnsupportedOpError(
                f"The size of what {op_name(func)} (in {self.tape.where}) returns depends on the input's values, so no plan "
                "can be made; capture a part of the model that does without it."
            ) from None
        return mapped(run_on(func, args, kwargs, values), as_meta)

    def _assumed_shapes(self, result: Any) -> Any:  # noqa: ANN401 - tensors, as the model sees them
        """Note the check of shapes that are those of the example; return the result."""
        checks = [(self.entry(t).node, list(t.shape)) for t in (result if isinstance(result, list | tuple) else [result])]
        self.assumed += [self.tape.add(assume_shape, check, {}, None) for check in checks]
        return result

    def _shown(
        self,
        value: Tensor,
        node: fx.Node,
        sources: Sequence[tuple[Entry, Tensor]],
        device: torch.device,
        view: Callable[[], View],
    ) -> Tensor:
        """The tensor that the model sees for a result, which may be a view of an argument."""
        source = next((entry for entry, read in sources if share_memory(value, read)), None)
        memory, path = (None, ()) if source is None else (source.memory, (*source.path, view()))
        if value.is_meta:
            return self.tape.traced(node, value, device, memory, path)
        node.meta[CONSTANT] = value
        self.tape.enter(value, node, value, memory, path)
        return value

    def _write(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:  # noqa: ANN401
        """Record an op that writes in place as a new value of the memory that it writes to; the model's own tensors stay as they are."""
        target = written(func, args, kwargs, self.tape.where)
        entry = self.entry(target)
        twin, given, named = functional(func, args, kwargs, self.tape.where)
        with self:
            new = twin(*given, **named)
            new = new if new.dtype == target.dtype else new.to(target.dtype)
        part, (*wholes, _) = self.entry(new), self._chain(entry)
        with self:
            for view, whole in zip(reversed(entry.path), reversed(wholes), strict=True):
                new = put_back(view, whole, new, self.tape.where)
        memory, written_whole = entry.memory, self.entry(new)
        memory.node, memory.value, memory.version = written_whole.node, written_whole.value, memory.version + 1
        entry.node, entry.value, entry.version = part.node, part.value, memory.version
        return target


# torch wraps the method so that importing its compiler, which takes a second, precedes the first op
Recorder.__torch_dispatch__ = inspect.unwrap(Recorder.__torch_dispatch__)
