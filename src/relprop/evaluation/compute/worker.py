"""A worker that computes units, in this process or in an actor; it caches one model, one explainer and prefetched images."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from relprop.datasets import Dataset
from relprop.errors import ModelError, RelpropError
from relprop.evaluation.compute.asking import Asking
from relprop.evaluation.compute.batches import Batches, NoMemory, sentence
from relprop.evaluation.compute.keeping import kept_of
from relprop.evaluation.compute.loading import Loader, model_classes
from relprop.evaluation.compute.measures import make_measure
from relprop.evaluation.compute.subject import Subject, fingerprint, load_model, make_subject
from relprop.evaluation.compute.tasks import Pair, Task
from relprop.evaluation.compute.unit import Unit, failed_rows
from relprop.evaluation.results.maps import Kept
from relprop.evaluation.results.rows import Row, Table, options_text, to_table
from relprop.evaluation.settings import Evaluation, ModelChoice
from relprop.version import __version__
from relprop.zoo import LoadedModel


@dataclass(frozen=True)
class Result:
    """The result of a task: its rows, its maps, and messages for the user (``told``)."""

    table: Table
    maps: Kept | None
    told: tuple[str, ...] = ()


Outcome = Result | str
"""The outcome of a task: its result, or the reason why its pair cannot be computed."""


@dataclass
class _Current:
    """The cache of a worker: at most one model and one subject."""

    model: ModelChoice | None = None
    loaded: LoadedModel | None = None
    pair: Pair | None = None
    subject: Subject | None = None


class Worker:
    """A worker that computes tasks.

    Args:
        evaluation: The settings.
        dataset: The source of the images.
        fingerprints: Known fingerprints of weights by ``ModelChoice.key``; a model with other weights is refused.
        device: The device, if not that of the settings: the process that hands tasks to other machines only checks them, on the CPU.

    Attributes:
        fingerprints: The same, and those of the models loaded since.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        dataset: Dataset,
        fingerprints: Mapping[str, str] | None = None,
        *,
        device: str | None = None,
    ) -> None:
        self.evaluation, self.dataset = evaluation, dataset
        self.fingerprints = dict(fingerprints or {})
        self.device = torch.device(device or evaluation.device)
        self.loader = Loader(dataset)
        self._told: list[str] = []
        self._current = _Current()
        self._batches = self._fresh_batches()

    def _fresh_batches(self) -> Batches:
        return Batches(self.evaluation.batch_size, self._told.append)

    def model(self, choice: ModelChoice) -> LoadedModel:
        """Return the model; load it unless it is cached.

        Raises:
            RelpropError: The model cannot be loaded, or its weights differ from those at the start of the run.
        """
        if self._current.model != choice or self._current.loaded is None:
            self._current = _Current()
            loaded = load_model(choice, self.evaluation, self.dataset.grid)
            found = fingerprint(loaded.model)
            if self.fingerprints.setdefault(choice.key, found) != found:
                raise ModelError(
                    f"The model {choice} now has other weights than when the run was started; take another folder of results."
                )
            self._current = _Current(choice, loaded)
        return self._current.loaded  # pyright: ignore[reportReturnType]

    def subject(self, pair: Pair) -> Subject:
        """Return the subject of a pair; build it unless it is cached.

        Raises:
            RelpropError: The model cannot be loaded, or the method cannot explain it.
        """
        loaded = self.model(pair.model)
        if self._current.pair != pair or self._current.subject is None:
            self._batches = self._fresh_batches()
            before = self._current.subject
            self._current.subject = make_subject(loaded, pair.method, self.evaluation, self.device, before)
            self._current.pair = pair
        return self._current.subject

    def classes(self, subject: Subject) -> tuple[int, ...] | None:
        """Return the class of the cached model for each class of the data set; None where they do not fit."""
        labels = None if self._current.loaded is None else self._current.loaded.labels
        return model_classes(self.dataset.classes, labels, subject.classes)

    def prefetch(self, tasks: Iterable[Task]) -> None:
        """Start reading the images of the next tasks, if they use the cached model."""
        for task in tasks:
            if task.pair.model == self._current.model and self._current.loaded is not None:
                self.loader.start(task.images, self._current.loaded.preprocessing)

    def compute(self, task: Task) -> Result:
        """Compute a task.

        Raises:
            NoMemory: A single image does not fit into memory.
            RelpropError: The pair cannot be computed.
        """
        subject = self.subject(task.pair)
        images = self.loader.take(task.images, self.model(task.pair.model).preprocessing)
        classes = self.classes(subject) if self.evaluation.by_label else None
        asked = Asking(classes, self.evaluation.asked, self.evaluation.place)
        unit = Unit(subject, images, self._batches, self._stamp(task.pair), asked)
        activation = subject.activation if asked.of_class else "none"
        measures = [make_measure(choice, self.evaluation.seed, activation) for choice in task.metrics]
        table = to_table(row for measure in measures for row in unit.rows(measure))
        told, self._told[:] = tuple(f"{task.pair}: {text}" for text in self._told), ()
        return Result(table, self._kept(unit, task.pair) if self.evaluation.keep_maps else None, told)

    def _kept(self, unit: Unit, pair: Pair) -> Kept | None:
        return kept_of(unit, self.model(pair.model), self.dataset.classes, self.classes(unit.subject))

    def give_up(self, task: Task, reason: str) -> Result:
        """Return failed rows for a task that cannot be computed."""
        stamp, measures = self._stamp(task.pair), [make_measure(choice, self.evaluation.seed) for choice in task.metrics]
        return Result(to_table(row for m in measures for row in failed_rows(stamp, m, task.images, reason)), None)

    def time(self, task: Task) -> float:
        """Return the seconds that a task takes, without the time to build its subject."""
        self.subject(task.pair)
        start = time.perf_counter()
        self.compute(task)
        return time.perf_counter() - start

    def close(self) -> None:
        """Stop the threads that read images."""
        self.loader.close()

    def _stamp(self, pair: Pair) -> Row:
        return Row(
            image="",
            model=pair.model.name,
            weights=pair.model.source,
            method=pair.method.name,
            method_options=options_text(pair.method.options),
            metric="",
            metric_options="{}",
            seed=self.evaluation.seed,
            relprop=__version__,
            torch=str(torch.__version__),
            device=torch.device(self.evaluation.device).type,
        )


def attempt(worker: Worker, task: Task) -> Outcome:
    """Compute a task; return the reason if its pair cannot be computed."""
    try:
        return worker.compute(task)
    except NoMemory:
        return "The memory does not suffice for one image."
    except RelpropError as error:
        return sentence(error)
