"""The plans of one method for one captured model: of its output, of other values that targets read, and of other ways through the model."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from relprop.captured import record
from relprop.graph.grids import channel_dim
from relprop.graph.model import CapturedModel
from relprop.graph.reading import read_at
from relprop.graph.recording.assumptions import AssumptionError
from relprop.inputs import Request, batch_size
from relprop.methods.protocol import AnyMethod, MethodPlan
from relprop.precision import as_computed, at_least
from relprop.targets import Head, Reading, reading_of

_T = TypeVar("_T")

_MOST = 8
"""The most plans that are kept besides a model's own, for targets that read another value than the output."""


@dataclass(frozen=True)
class Planned:
    """A captured model that returns what a target reads, and the method's plan of it."""

    captured: CapturedModel
    plan: MethodPlan

    @cached_property
    def head(self) -> Head:
        """What is known of the explained value."""
        return Head(self.captured.labels, self.captured.activation, channel_dim(self.captured, self.captured.output))

    def computed(self, request: Request) -> Request:
        """Return a request in the precision of the plan."""
        return replace(request, given=as_computed(request.given, self.plan.model))


class Plans:
    """The plans of a captured model by a method; those of other readings and ways are made when they are asked for, from any thread.

    Args:
        captured: The captured model.
        method: The method.

    Attributes:
        own: The plan of the model's output.

    Raises:
        UnsupportedOpError: Relevance reaches ops without a rule; all are listed.
    """

    def __init__(self, captured: CapturedModel, method: AnyMethod) -> None:
        self._method, self._lock = method, threading.Lock()
        self.own = self._planned(captured)
        self._readings: dict[Reading, Planned] = {Reading(): self.own}
        self._ways: dict[Reading, list[Planned]] = {}

    def _planned(self, captured: CapturedModel) -> Planned:
        return Planned(captured, self._method.plan(at_least(captured, self._method.precision)))

    def of(self, reading: Reading) -> Planned:
        """Return the model that a target reads with its plan, which is made once."""
        with self._lock:
            if reading not in self._readings:
                if len(self._readings) > _MOST:
                    del self._readings[list(self._readings)[1]]  # the oldest but the model's own
                self._readings[reading] = self._planned(read_at(self.own.captured, reading))
            return self._readings[reading]

    def run(self, run: Callable[[Request, Planned], _T], parts: Sequence[tuple[Request, Planned]]) -> list[_T]:
        """Run the requests of one call, each on its way; samples one by one where no recording takes them all."""
        return [found for request, planned in parts for found in self._on_its_way(run, request, planned)]

    def _on_its_way(self, run: Callable[[Request, Planned], _T], request: Request, planned: Planned) -> list[_T]:
        """Run a request by the recording whose assumptions its inputs meet; record the model anew where none is there yet."""
        reading, size = reading_of(request.target), batch_size(request.given)
        known = (planned, *self._ways.get(reading, ()))
        for one in known:
            if one.captured.dynamic or size == 1:
                try:
                    return [run(request, one)]
                except AssumptionError:
                    continue
        if self.own.captured.watch is None:  # a copy does not follow the model
            return [run(request, planned)]
        if size > 1 and any(not one.captured.dynamic for one in known):
            return self._one_by_one(run, request, planned)
        other = self._recorded(request, reading)
        return [run(request, other)] if other.captured.dynamic or size == 1 else self._one_by_one(run, request, planned)

    def _one_by_one(self, run: Callable[[Request, Planned], _T], request: Request, planned: Planned) -> list[_T]:
        return self.run(run, [(sample, planned) for sample in request.samples()])

    def _recorded(self, request: Request, reading: Reading) -> Planned:
        """Record the model's way for the inputs of a request, and keep it."""
        held = self.own.captured
        found = replace(record(held.original, request.given, held.chosen, held.activation), labels=held.labels)
        other = self._planned(read_at(found, reading))
        with self._lock:
            self._ways[reading] = [other, *self._ways.get(reading, ())][:_MOST]
        return other
