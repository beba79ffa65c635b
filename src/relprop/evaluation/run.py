"""Run an evaluation: compute the missing blocks, store each one, report progress."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow.compute as pc

from relprop.errors import OptionError, OutputError
from relprop.evaluation.compute.asking import no_place
from relprop.evaluation.compute.batches import sentence
from relprop.evaluation.compute.engines import ENGINES
from relprop.evaluation.compute.measures import Measure
from relprop.evaluation.compute.subject import Subject
from relprop.evaluation.compute.tasks import Pair, Task
from relprop.evaluation.compute.worker import Result, Worker
from relprop.evaluation.prepare import Prepared, pair_file, prepare, settings_of, tasks_of
from relprop.evaluation.results.damage import find_damaged, lost_maps
from relprop.evaluation.results.maps import write_kept
from relprop.evaluation.results.parts import Coverage, coverage
from relprop.evaluation.results.redo import failed_metrics
from relprop.evaluation.results.rows import FAILED, Table
from relprop.evaluation.results.run_file import RUN, read_settings
from relprop.evaluation.results.store import Store, locked
from relprop.evaluation.settings import Choice, Evaluation
from relprop.metrics import Need
from relprop.metrics.randomization import known_layers


def _ignore(*_: object) -> None:
    return None


@dataclass(frozen=True)
class Observer:
    """Callbacks for the progress of a run; by default they do nothing.

    Attributes:
        tell: Called with each message for the user.
        stage: Called with the name of each step before the first unit.
        begin: Called with the number of images in all units, and the number of those that are already stored.
        advance: Called with the number of images of a finished unit, and its pair.
    """

    tell: Callable[[str], None] = _ignore
    stage: Callable[[str], None] = _ignore
    begin: Callable[[int, int], None] = _ignore
    advance: Callable[[int, str], None] = _ignore


@dataclass
class RunResult:
    """The summary of a run.

    Attributes:
        rows: Number of stored rows.
        failed: Number of rows with the status ``failed``.
        reasons: For each pair and metric with failed rows, their number and the first reason.
        left_out: Pairs, single metrics of a pair that cannot be computed, and metrics that do not suit the target, with the reason.
        good: Whether the folder holds a row of these models and methods that did not fail.
    """

    rows: int = 0
    failed: int = 0
    reasons: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict[tuple[str, str], tuple[int, str]])
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    good: bool = False


def evaluate(evaluation: Evaluation, observer: Observer | None = None) -> RunResult:
    """Compute the missing rows of the folder of results; after an interruption, the next call resumes.

    With ``redo_failed``, blocks with failed rows are computed again, and the new rows replace the failed ones.

    Args:
        evaluation: The settings.
        observer: Callbacks for the progress.

    Raises:
        OptionError: An unknown model, data set, method, metric, engine or option.
        InputError: The data set cannot be used, or the folder belongs to another run or is locked by another process.
        ModelError: A model cannot be loaded.
        OutputError: The results cannot be written, for example because the disk is full; finished units are kept.
    """
    observer = observer or Observer()
    observer.stage("Looking at the images …")
    prepared = prepare(evaluation)
    for text in prepared.notes:
        observer.tell(text)
    with locked(evaluation.output):
        store = Store(evaluation.output, settings_of(prepared, _stored(evaluation)))
        for text in store.told:
            observer.tell(text)
        with closing(_checker(prepared, store.settings["fingerprints"])) as worker:
            run = _Run(prepared, store, worker, observer)
            run.check()
            try:
                run.compute()
            except OutputError as error:
                raise OutputError(f"{error} What was finished is kept; the same command goes on from there.") from error
            run.summary.good = run.summary.rows > run.summary.failed or store.holds_good(map(pair_file, prepared.pairs))
    return run.summary


def _stored(evaluation: Evaluation) -> dict[str, object] | None:
    return read_settings(evaluation.output) if (evaluation.output / RUN).exists() else None


def _checker(prepared: Prepared, fingerprints: Mapping[str, str]) -> Worker:
    """Return the worker of this process; with a remote engine it only checks the pairs, on the CPU."""
    device = None if prepared.evaluation.engine == "local" else "cpu"
    return Worker(prepared.evaluation, prepared.dataset, fingerprints, device=device)


def check_pair(worker: Worker, prepared: Prepared, pair: Pair) -> tuple[list[Choice], dict[str | None, str]]:
    """Capture the pair; return the metrics that can be computed, and the reason for each other one by its key (None: for all).

    Raises:
        ModelError: The model cannot be loaded.
        OptionError: There is no such model.
    """
    worker.model(pair.model)
    try:
        subject = worker.subject(pair)
    except Exception as error:  # any error during capture leaves the pair out
        return [], {None: sentence(error)}
    place = prepared.evaluation.place
    if place is not None and (reason := no_place(subject, place)) is not None:
        return [], {None: reason}
    if prepared.evaluation.by_label and worker.classes(subject) is None:
        counts = f"The model has {subject.classes} classes and the data set {len(prepared.dataset.classes)}"
        return [], {None: f"{counts}; labels do not fit, and the names of the data set's classes are not all among the model's."}
    reasons: dict[str | None, str] = {}
    if not subject.gives_layers:
        text = f"Method {pair.method.name!r} gives relevance to inputs only."
        reasons = {m.choice.key: text for m in prepared.measures if Need.EXPLAIN_LAYERS in m.spec.needs}
    reasons |= {m.choice.key: text for m in prepared.measures if (text := _unknown_layer(subject, m)) is not None}
    return [m.choice for m in prepared.measures if m.choice.key not in reasons], reasons


def _unknown_layer(subject: Subject, measure: Measure) -> str | None:
    """Return the sentence on a layer that a metric names and the model does not have."""
    layers: Any = measure.metric.options.get("layers")
    if Need.MODULE not in measure.spec.needs or not layers:
        return None
    try:
        known_layers(subject.module, layers)
    except OptionError as error:
        return str(error)
    return None


class _Run:
    """One run into one folder of results."""

    def __init__(self, prepared: Prepared, store: Store, worker: Worker, observer: Observer) -> None:
        self.prepared, self.store, self.worker, self.observer = prepared, store, worker, observer
        self.summary = RunResult(left_out=dict(prepared.left_out))
        self.pairs = len(prepared.pairs)
        self.tasks: list[Task] = []

        redo = prepared.evaluation.redo_failed
        failed = failed_metrics(store.folder, store.settings, prepared.blocks) if redo else {}
        self.again = {**failed, **_of_lost_maps(store.lost, store.done)}

    def check(self) -> None:
        """Find the missing tasks and leave out pairs that cannot be computed; in reverse, so that the worker then holds the first pair."""
        for pair in reversed(self.prepared.pairs):
            if not self._missing(pair, self.prepared.evaluation.metrics):
                self.store.compact(pair_file(pair))  # a run may have been killed just before compacting
                continue
            self.observer.stage(f"Checking {pair} …")
            metrics, reasons = check_pair(self.worker, self.prepared, pair)
            for key, reason in reasons.items():
                self._leave_out(pair, key, reason)
            self.pairs -= None in reasons
            self.tasks = [*self._missing(pair, metrics), *self.tasks]
        self.store.add_fingerprints(self.worker.fingerprints)

    def compute(self) -> None:
        """Run the engine on the missing tasks and store their results."""
        evaluation = self.prepared.evaluation
        total = self.pairs * len(self.prepared.images)
        waiting = Counter(task.pair for task in self.tasks)
        self.observer.begin(total, total - sum(len(task.images) for task in self.tasks))
        with closing(ENGINES[evaluation.engine](self.worker, self.tasks)) as outcomes:
            for task, outcome in outcomes:
                if isinstance(outcome, str):
                    self._leave_out(task.pair, None, outcome)
                    continue
                self._write(task, outcome)
                waiting[task.pair] -= 1
                if not waiting[task.pair]:
                    self.store.compact(pair_file(task.pair))

    def _missing(self, pair: Pair, metrics: Sequence[Choice]) -> list[Task]:
        done = _kept(pair, self.prepared, self.store.done, self.again)
        return tasks_of(self.prepared, pair, metrics, done)

    def _leave_out(self, pair: Pair, metric: str | None, reason: str) -> None:
        name = f"{pair}" if metric is None else f"{pair} × {metric.removesuffix(' {}')}"
        if name not in self.summary.left_out:
            self.summary.left_out[name] = reason
            self.store.leave_out(str(pair.model), str(pair.method), metric, reason)
            self.observer.tell(f"Left out: {name}. {reason}")

    def _write(self, task: Task, result: Result) -> None:
        file = pair_file(task.pair)
        if result.maps is not None:
            write_kept(self.store.folder, file, task.block, result.maps)
        stored = self.store.write(file, task.block, [choice.key for choice in task.metrics], result.table)
        for text in result.told:
            self.observer.tell(text)
        self._count(task, stored)
        self.observer.advance(len(task.images), str(task.pair))

    def _count(self, task: Task, stored: Table) -> None:
        self.summary.rows += len(stored)
        failed = stored.filter(pc.equal(stored["status"], FAILED))  # pyright: ignore[reportAttributeAccessIssue]
        self.summary.failed += len(failed)
        columns = (failed[name].to_pylist() for name in ("metric", "metric_options", "reason"))
        for metric, options, reason in zip(*columns, strict=True):
            place = (str(task.pair), f"{metric} {options}".removesuffix(" {}"))
            number, first = self.summary.reasons.get(place, (0, reason))
            self.summary.reasons[place] = (number + 1, first)


@dataclass(frozen=True)
class Forecast:
    """The forecast for one pair.

    Attributes:
        pair: The pair.
        units: Number of missing units.
        images: Number of images in them.
        rows: Number of rows to compute.
        done: Number of images that are stored with all metrics.
        seconds: Estimated time, extrapolated from ``sample`` images; None if nothing is missing.
        sample: Number of images that were measured.
        left_out: Metrics that cannot be computed, with the reason.
    """

    pair: str
    units: int
    images: int
    rows: int
    done: int
    seconds: float | None
    sample: int
    left_out: tuple[str, ...] = ()


SAMPLE = 4
"""Number of images that a forecast measures."""


def forecast(evaluation: Evaluation, observer: Observer | None = None) -> Iterator[Forecast]:
    """Yield a forecast for each pair, with the time extrapolated from a few images; nothing is written.

    Raises:
        RelpropError: See ``evaluate``.
    """
    observer = observer or Observer()
    prepared = prepare(evaluation)
    for text in prepared.notes:
        observer.tell(text)
    evaluation, settings = prepared.evaluation, settings_of(prepared, _stored(evaluation))
    folder, damaged = evaluation.output, find_damaged(evaluation.output)
    for path, reason in damaged.items():
        observer.tell(f"{path} is damaged ({reason}); a run computes what it held again.")
    done = coverage(folder, settings, damaged)
    failed = failed_metrics(folder, settings, prepared.blocks, damaged) if evaluation.redo_failed else {}
    again = {**failed, **_of_lost_maps(lost_maps(folder), done)}
    with closing(_checker(prepared, settings["fingerprints"])) as worker:
        for number, pair in enumerate(prepared.pairs, 1):
            keys = _kept(pair, prepared, done, again)
            observer.stage(f"Measuring {number} of {len(prepared.pairs)}: {pair} …")
            yield _forecast(prepared, worker, pair, keys)


def _of_lost_maps(lost: AbstractSet[tuple[str, int]], done: Coverage) -> Coverage:
    """Return all stored metrics of the blocks whose maps are lost; their rows stay, and computing them again gives the maps."""
    return {place: done[place] for place in lost if place in done}


def _kept(pair: Pair, prepared: Prepared, stored: Coverage, again: Coverage) -> list[set[str]]:
    """Return by block the keys of the metrics that need no computing: the stored ones, except those to compute again."""
    places = [(pair_file(pair), block) for block in range(len(prepared.blocks))]
    return [stored.get(place, set()) - again.get(place, set()) for place in places]


def _forecast(prepared: Prepared, worker: Worker, pair: Pair, keys: list[set[str]]) -> Forecast:
    metrics, reasons, seconds, sample = list(prepared.evaluation.metrics), dict[str | None, str](), None, 0
    if tasks_of(prepared, pair, metrics, keys):
        metrics, reasons = check_pair(worker, prepared, pair)
    tasks = tasks_of(prepared, pair, metrics, keys)
    images = sum(len(task.images) for task in tasks)
    if tasks:
        few = replace(tasks[0], images=tasks[0].images[:SAMPLE])
        sample = len(few.images)
        seconds = worker.time(few) / sample * images
    rows = sum(len(worker.give_up(task, "").table) for task in tasks)
    left_out = tuple(f"{key or 'all metrics'}: {reason}" for key, reason in reasons.items())
    done = 0 if None in reasons else len(prepared.images) - images
    return Forecast(str(pair), len(tasks), images, rows, done, seconds, sample, left_out)
