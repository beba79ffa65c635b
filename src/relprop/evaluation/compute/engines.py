"""Where units are computed: a table of engines, each a function from tasks to what became of them, in any order."""

from collections.abc import Callable, Generator, Sequence

from relprop.evaluation.compute.ray_engine import run_on_ray
from relprop.evaluation.compute.tasks import Pair, Task
from relprop.evaluation.compute.worker import Outcome, Worker, attempt

AHEAD = 2
"""Units whose images are read ahead."""

Engine = Callable[[Worker, Sequence[Task]], Generator[tuple[Task, Outcome], None, None]]


def run_here(worker: Worker, tasks: Sequence[Task]) -> Generator[tuple[Task, Outcome], None, None]:
    """Compute the tasks one after the other; the rest of a pair that cannot be computed is skipped."""
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
