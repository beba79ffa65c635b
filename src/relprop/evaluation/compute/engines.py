"""Engines that compute tasks: a table of functions from tasks to their outcomes, in any order."""

from collections.abc import Callable, Generator, Sequence

from relprop.evaluation.compute.ray_engine import run_on_ray
from relprop.evaluation.compute.tasks import Pair, Task
from relprop.evaluation.compute.worker import Outcome, Worker, attempt

AHEAD = 2
"""Number of units whose images are prefetched."""

Engine = Callable[[Worker, Sequence[Task]], Generator[tuple[Task, Outcome], None, None]]


def run_here(worker: Worker, tasks: Sequence[Task]) -> Generator[tuple[Task, Outcome], None, None]:
    """Compute the tasks one after the other in this process; skip the other tasks of a pair that cannot be computed."""
    broken: set[Pair] = set()
    for number, task in enumerate(tasks):
        if task.pair in broken:
            continue
        worker.prefetch(tasks[number : number + 1 + AHEAD])
        outcome = attempt(worker, task)
        if isinstance(outcome, str):
            broken.add(task.pair)
        yield task, outcome


ENGINES: dict[str, Engine] = {"local": run_here, "ray": run_on_ray}
"""The engines by name."""
