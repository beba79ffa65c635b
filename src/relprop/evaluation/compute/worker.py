"""What computes units, in this process or in an actor: it keeps one model, one explainer and the images of the next units."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from relprop.datasets import Dataset
from relprop.errors import ModelError, RelpropError
from relprop.evaluation.compute.batches import Batches, NoMemory, sentence
from relprop.evaluation.compute.loading import Loader
from relprop.evaluation.compute.measures import make_measure
from relprop.evaluation.compute.subject import Subject, fingerprint, load_model, make_subject
from relprop.evaluation.compute.tasks import Pair, Task
from relprop.evaluation.compute.unit import Maps, Unit, failed_rows
from relprop.evaluation.results.rows import Row, Table, options_text, to_table
from relprop.evaluation.settings import Evaluation, ModelChoice
from relprop.version import __version__
from relprop.zoo import LoadedModel


@dataclass(frozen=True)
class Result:
    """What became of a task: its rows and maps; ``told`` is what the user should know."""

    table: Table
    maps: Maps | None
    told: tuple[str, ...] = ()


Outcome = Result | str
"""What became of a task: its result, or why its pair cannot be computed."""


@dataclass
class _Current:
    """The model and the subject that a worker holds; at most one of each."""

    model: ModelChoice | None = None
    loaded: LoadedModel | None = None
    pair: Pair | None = None
    subject: Subject | None = None


class Worker:
    """Computes tasks.

    Args:
        evaluation: The settings.
        dataset: Where images come from.
        fingerprints: Of the models' weights by ``ModelChoice.key``, as far as they are known: other weights are refused.
        device: Where it computes, if not where the settings say; the process that hands units to other machines only checks them.

    Attributes:
        fingerprints: The same, with those of the models that were loaded since.
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
        """Return the model, loading it if it is not the current one.

        Raises:
            RelpropError: It cannot be loaded, or its weights are not those that the run started with.
        """
        if self._current.model != choice or self._current.loaded is None:
            self._current = _Current()
            loaded = load_model(choice, self.evaluation)
            found = fingerprint(loaded.model)
            if self.fingerprints.setdefault(choice.key, found) != found:
                raise ModelError(
                    f"The model {choice} now has other weights than when the run was started; take another folder of results."
                )
            self._current = _Current(choice, loaded)
        return self._current.loaded  # pyright: ignore[reportReturnType]

    def subject(self, pair: Pair) -> Subject:
        """Return the explainer of a pair, building it if it is not the current one.

        Raises:
            RelpropError: The model cannot be loaded, or the method cannot explain it.
        """
        loaded = self.model(pair.model)
        if self._current.pair != pair or self._current.subject is None:
            self._batches = self._fresh_batches()
            captured = self._current.subject.explainer.captured if self._current.subject else None
            self._current.subject = make_subject(loaded, pair.method, self.evaluation, self.device, captured)
            self._current.pair = pair
        return self._current.subject

    def prefetch(self, tasks: Iterable[Task]) -> None:
        """Begin to read the images of the next tasks, as far as they are of the current model."""
        for task in tasks:
            if task.pair.model == self._current.model and self._current.loaded is not None:
                self.loader.start(task.images, self._current.loaded.preprocessing)

    def compute(self, task: Task) -> Result:
        """Compute a task.

        Raises:
            NoMemory: The memory does not suffice for one image.
            RelpropError: The pair cannot be computed at all.
        """
        subject = self.subject(task.pair)
        images = self.loader.take(task.images, self.model(task.pair.model).preprocessing)
        unit = Unit(subject, images, self._batches, self._stamp(task.pair), labeled=self.evaluation.target == "label")
        measures = [make_measure(choice, self.evaluation.seed) for choice in task.metrics]
        table = to_table(row for measure in measures for row in unit.rows(measure))
        told, self._told[:] = tuple(f"{task.pair}: {text}" for text in self._told), ()
        return Result(table, unit.maps() if self.evaluation.keep_maps else None, told)

    def give_up(self, task: Task, reason: str) -> Result:
        """Return failed rows for a task that cannot be computed."""
        stamp, measures = self._stamp(task.pair), [make_measure(choice, self.evaluation.seed) for choice in task.metrics]
        return Result(to_table(row for m in measures for row in failed_rows(stamp, m, task.images, reason)), None)

    def time(self, task: Task) -> float:
        """Return the seconds that a task takes, after its subject is there."""
        self.subject(task.pair)
        start = time.perf_counter()
        self.compute(task)
        return time.perf_counter() - start

    def close(self) -> None:
        """End the threads that read images."""
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
    """Compute a task; return why where its pair cannot be computed at all."""
    try:
        return worker.compute(task)
    except NoMemory:
        return "The memory does not suffice for one image."
    except RelpropError as error:
        return sentence(error)
