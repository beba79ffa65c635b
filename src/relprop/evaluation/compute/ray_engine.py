"""Run units on a Ray cluster: actors compute, this process distributes tasks and collects results; a lost actor is replaced."""

import contextlib
import importlib
import os
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from relprop.datasets import Dataset
from relprop.errors import OptionError
from relprop.evaluation.compute.tasks import Pair, Task
from relprop.evaluation.compute.worker import Outcome, Worker, attempt
from relprop.evaluation.settings import Evaluation

DEATHS = 3
"""Number of actors that may die while computing a unit before it is recorded as failed."""
_STORE_BYTES = 100 * 2**20
_REACHABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""The variable by which Ray decides, on every system, whether a new cluster listens on all interfaces; read when Ray is imported."""


class RemoteWorker:
    """The class of the actors: a worker in its own process."""

    def __init__(self, data: tuple[Evaluation, Dataset, dict[str, str]]) -> None:
        self.worker = Worker(*data)

    def process(self) -> int:
        """Return the process ID; the answer proves that the actor has started."""
        return os.getpid()

    def compute(self, task: Task, following: Sequence[Task]) -> Outcome:
        """Compute a task, and prefetch the images of the next."""
        self.worker.prefetch([task, *following])
        return attempt(self.worker, task)


@dataclass
class _Seat:
    """An actor with its current and its next task."""

    actor: Any
    task: Task | None = None
    following: Task | None = None


def run_on_ray(worker: Worker, tasks: Sequence[Task]) -> Generator[tuple[Task, Outcome], None, None]:
    """Compute the tasks on the actors of a cluster.

    Args:
        worker: The worker of this process: its settings name the cluster, its data set and fingerprints are sent to the actors.
        tasks: The tasks to compute.

    Raises:
        OptionError: Ray is not installed, the cluster cannot be joined, or its actors cannot start.
    """
    with _cluster(worker.evaluation) as ray:
        crew = Crew(ray, worker, tasks)
        try:
            yield from crew.run()
        finally:
            crew.dismiss()


class Crew:
    """The pool of actors and its queue of tasks."""

    def __init__(self, ray: Any, worker: Worker, tasks: Sequence[Task]) -> None:  # noqa: ANN401 - the module
        self.ray, self.worker, self.waiting = ray, worker, deque(tasks)
        self.deaths: Counter[tuple[str, int]] = Counter()
        self.broken: set[Pair] = set()
        self.running: dict[Any, _Seat] = {}
        self.in_vain = 0
        self.data = ray.put((worker.evaluation, worker.dataset, dict(worker.fingerprints)))
        self.workers = _number_of_workers(ray, worker.evaluation)
        self.seats = [_Seat(self.hire()) for _ in range(min(self.workers, len(tasks)))]
        self._greet()

    def run(self) -> Iterator[tuple[Task, Outcome]]:
        """Yield each task with its outcome as it completes."""
        for seat in self.seats:
            seat.following = self._next()
            self._start(seat)
        while self.running:
            (ready,), _ = self.ray.wait(list(self.running), num_returns=1)
            seat = self.running.pop(ready)
            task, seat.task = seat.task, None
            if task is not None:
                outcome = self._outcome(ready, seat, task)
                self._start(seat)
                if outcome is not None:
                    yield task, outcome

    def dismiss(self) -> None:
        """Kill the actors."""
        for seat in self.seats:
            with contextlib.suppress(Exception):
                self.ray.kill(seat.actor)

    def hire(self) -> Any:  # noqa: ANN401 - an actor's handle
        """Start an actor."""
        gpus = 1 if self.worker.evaluation.device.startswith("cuda") else 0
        kind = self.ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(RemoteWorker)
        return kind.remote(self.data)

    def _greet(self) -> None:
        try:
            self.ray.get([seat.actor.process.remote() for seat in self.seats])
        except self.ray.exceptions.RayError as error:
            self.dismiss()
            lines = [line for line in str(error).strip().splitlines() if line.strip()]
            raise OptionError(f"The workers of the Ray cluster cannot start: {lines[-1].strip()}") from error

    def _next(self) -> Task | None:
        while self.waiting:
            task = self.waiting.popleft()
            if task.pair not in self.broken:
                return task
        return None

    def _start(self, seat: _Seat) -> None:
        seat.task = seat.following if seat.following and seat.following.pair not in self.broken else self._next()
        seat.following = self._next()
        if seat.task is not None:
            following = [seat.following] if seat.following else []
            self.running[seat.actor.compute.remote(seat.task, following)] = seat

    def _outcome(self, ready: Any, seat: _Seat, task: Task) -> Outcome | None:  # noqa: ANN401 - an object reference
        """Return the outcome of the task; None if its actor died and it is queued again, or if its pair has already failed."""
        try:
            outcome: Outcome = self.ray.get(ready)
        except self.ray.exceptions.RayTaskError:
            raise
        except self.ray.exceptions.RayError as error:
            return self._replace(seat, task, error)
        self.in_vain = 0
        if isinstance(outcome, str):
            known = task.pair in self.broken
            self.broken.add(task.pair)
            return None if known else outcome
        return outcome

    def _replace(self, seat: _Seat, task: Task, error: Exception) -> Outcome | None:
        self.in_vain += 1
        if self.in_vain > DEATHS * self.workers + DEATHS:
            raise OptionError("The workers of the Ray cluster die one after the other; see its logs.") from error
        self.deaths[task.pair.key, task.block] += 1
        if seat.following is not None:
            self.waiting.appendleft(seat.following)
            seat.following = None
        seat.actor = self.hire()
        deaths = self.deaths[task.pair.key, task.block]
        if deaths < DEATHS:
            self.waiting.appendleft(task)
            return None
        return self.worker.give_up(task, f"{deaths} workers died while they computed this block.")


def _number_of_workers(ray: Any, evaluation: Evaluation) -> int:  # noqa: ANN401 - the module
    kind = "GPU" if evaluation.device.startswith("cuda") else "CPU"
    there = int(ray.cluster_resources().get(kind, 0))
    wanted = evaluation.workers or there
    if not 0 < wanted <= there:
        raise OptionError(f"The Ray cluster has {there} {kind}s for {wanted or 'any'} workers; each worker takes one.")
    return wanted


@contextlib.contextmanager
def _cluster(evaluation: Evaluation) -> Generator[Any, None, None]:
    """Join the cluster of the settings, reuse one that this process has joined, or start one that listens on the loopback interface."""
    if not evaluation.address:
        os.environ.setdefault(_REACHABLE, "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise OptionError('The engine ray needs the package ray: pip install "relprop[ray]".') from error
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if evaluation.address:
        options["address"] = evaluation.address
    else:
        cpus = max(evaluation.workers or 0, os.cpu_count() or 1)
        options |= {"include_dashboard": False, "num_cpus": cpus, "object_store_memory": _STORE_BYTES}
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises a bare Exception when a cluster does not start in time
        lines = str(error).strip().splitlines()
        raise OptionError(f"The Ray cluster {evaluation.address or ''} cannot be used: {lines[0] if lines else error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
