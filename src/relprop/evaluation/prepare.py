"""Prepare a run: check its settings against the data set and the stored results, and list the missing tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from relprop.datasets import Dataset, open_dataset
from relprop.errors import InputError, OptionError
from relprop.evaluation.compute.loading import digest, find_annotations
from relprop.evaluation.compute.measures import Measure, make_measure
from relprop.evaluation.compute.subject import method_options
from relprop.evaluation.compute.tasks import Pair, Task
from relprop.evaluation.results.parts import file_key
from relprop.evaluation.results.run_file import FORMAT
from relprop.evaluation.settings import Choice, Evaluation, ModelChoice, as_json
from relprop.methods.choose import choose_method
from relprop.metrics import METRICS, Need
from relprop.metrics.rehearsal import rehearse
from relprop.version import __version__


@dataclass(frozen=True)
class Prepared:
    """A validated run: its data set, image names and metrics, and messages for the user (``notes``).

    ``evaluation`` has the metrics that suit its target; ``left_out`` says why the others do not, by their names.
    """

    evaluation: Evaluation
    dataset: Dataset
    images: tuple[str, ...]
    measures: tuple[Measure, ...]
    notes: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def pairs(self) -> list[Pair]:
        """All pairs, model by model."""
        return [Pair(model, method) for model in self.evaluation.models for method in self.evaluation.methods]

    @property
    def blocks(self) -> list[tuple[str, ...]]:
        """The names of the images of each block."""
        size = self.evaluation.block
        return [self.images[start : start + size] for start in range(0, len(self.images), size)]


def prepare(evaluation: Evaluation) -> Prepared:
    """Open the data set, look up methods and metrics, and leave out metrics that do not suit the target.

    Raises:
        OptionError: An unknown data set, method, metric or option, or no metric that suits the target.
        InputError: The data set cannot be opened, or has no annotations of the kind that is needed.
    """
    activation = None if evaluation.of_class else "none"
    named = tuple(make_measure(choice, evaluation.seed, activation) for choice in evaluation.metrics)
    measures = tuple(measure for measure in named if evaluation.of_class or measure.spec.any_target)
    unsuited = _unsuited(evaluation, [measure.choice for measure in named if measure not in measures], len(measures))
    evaluation = replace(evaluation, metrics=tuple(measure.choice for measure in measures))
    for measure in measures:
        rehearse(measure.metric, measure.choice.options)
    for method in evaluation.methods:
        choose_method(method.name, method_options(method, evaluation.seed))
    dataset = open_dataset(evaluation.data, **evaluation.data_options)
    images = dataset.ids[: evaluation.limit]
    there = find_annotations(dataset, images)
    kinds = (
        (Need.MASK, there.mask or there.boxes, "neither masks nor boxes"),
        (Need.PARTS, there.parts, "no maps of parts or cells"),
        (Need.SCENES, there.facts, "no images without their parts"),
    )
    for need, given, what in kinds:
        lacking = [measure.choice.name for measure in measures if need in measure.spec.needs]
        if lacking and not given:
            raise InputError(f"{evaluation.data} has {what}, which {', '.join(lacking)} need; leave them out.")
    if evaluation.by_label and not there.labels:
        raise InputError(f"{evaluation.data} has no labels; explain the predicted class instead (target predicted).")
    if evaluation.target == "mask" and not there.mask and not there.boxes:
        raise InputError(f"{evaluation.data} has neither masks nor boxes, which the target mask needs; explain another one.")
    if evaluation.target == "boxes" and not there.boxes:
        raise InputError(f"{evaluation.data} has no boxes, which the target boxes needs; explain another one.")
    _check_mosaics(evaluation, dataset, measures)
    notes = [*dict.fromkeys(unsuited.values()), *(str(problem) for problem in dataset.problems)]
    if evaluation.limit and evaluation.limit > len(dataset):
        notes.append(f"The data set has {len(dataset)} images, fewer than the limit of {evaluation.limit}.")
    return Prepared(evaluation, dataset, images, measures, (*notes, *_left_over(measures, len(images))), unsuited)


def _check_mosaics(evaluation: Evaluation, dataset: Dataset, measures: Sequence[Measure]) -> None:
    """Refuse settings that do not suit mosaics, or that suit mosaics alone.

    Raises:
        InputError: They do not.
    """
    if dataset.grid == 1 and evaluation.grid != "shrunk":
        raise InputError(
            f"The grid {evaluation.grid!r} is for mosaics; {evaluation.data} has photos. `relprop mosaics` makes mosaics."
        )
    if dataset.grid > 1 and (evaluation.target, evaluation.geometry) != ("label", "resize"):
        raise InputError(
            f"{evaluation.data} has mosaics, of which one cell's class is explained and all is seen: set target label and geometry resize, "
            "as the presets gridpg, difull and dipart do."
        )
    if evaluation.grid in {"difull", "dipart"}:
        asking = [m.choice.name for m in measures if not {Need.MODEL, Need.MODULE, Need.EXPLAIN_LAYERS}.isdisjoint(_asked(m))]
        if asking:
            raise InputError(
                f"With the grid {evaluation.grid} there is a classifier for each cell; {', '.join(asking)} asks one model. "
                "Take metrics of the maps alone."
            )


def _asked(measure: Measure) -> set[Need]:
    """Return the needs of a metric, each way to ask the model as ``MODEL``."""
    asking = {Need.EXPLAIN, Need.MAKE_EXPLAIN}
    return {Need.MODEL if need in asking else need for need in measure.spec.needs}


def _unsuited(evaluation: Evaluation, choices: Sequence[Choice], others: int) -> dict[str, str]:
    """Return the sentence on metrics that do not suit the target, by their names.

    Raises:
        OptionError: They are all that the run has.
    """
    if not choices:
        return {}
    names = ", ".join(map(str, choices))
    said = (
        f"The target {evaluation.target!r} is no class of an output (batch, classes), which {names} "
        f"{'follow' if len(choices) > 1 else 'follows'}"
    )
    if not others:
        fitting = ", ".join(name for name, spec in METRICS.items() if spec.any_target)
        raise OptionError(f"{said}; take metrics that suit any target: {fitting}.")
    return {str(choice): f"{said}: left out." for choice in choices}


def _left_over(measures: Sequence[Measure], images: int) -> list[str]:
    texts = [(m.choice, images % m.spec.group, m.spec.group) for m in measures if images % m.spec.group]
    return [
        f"{choice}: the last {rest} of {images} images make no group of {size} and have no row." for choice, rest, size in texts
    ]


def settings_of(prepared: Prepared, stored: dict[str, Any] | None) -> dict[str, Any]:
    """Return the content of ``run.json``: the stored settings, or new ones, merged with this run's models, methods and metrics.

    Raises:
        InputError: The stored settings belong to another run; the message lists the differences.
    """
    evaluation = prepared.evaluation
    images = {"count": len(prepared.images), "digest": digest(prepared.images)}
    if stored is None:
        stored = {
            "format": FORMAT,
            "content": evaluation.content,
            "images": images,
            "blocks": len(prepared.blocks),
            **{name: [] for name in ("models", "methods", "metrics", "left_out")},
            **{name: {} for name in ("metric_sets", "fingerprints")},
        }
    _refuse_difference(evaluation, stored, images)
    pairs = {(str(pair.model), str(pair.method)) for pair in prepared.pairs}
    return {
        **stored,
        "models": _union(stored["models"], [_model_table(model) for model in evaluation.models]),
        "methods": _union(stored["methods"], [_table(choice) for choice in evaluation.methods]),
        "metrics": _union(stored["metrics"], [_table(choice) for choice in evaluation.metrics]),
        "left_out": [entry for entry in stored["left_out"] if (entry["model"], entry["method"]) not in pairs],
        "problems": [str(problem) for problem in prepared.dataset.problems],
        "relprop": __version__,
        "torch": str(torch.__version__),
    }


def _refuse_difference(evaluation: Evaluation, stored: dict[str, Any], images: dict[str, Any]) -> None:
    differing = [
        f"{name.replace('_', ' ')} is {stored['content'].get(name)!r} there and {value!r} now"
        for name, value in evaluation.content.items()
        if stored["content"].get(name) != value
    ]
    if not differing and stored["images"] != images:
        differing = [f"the data set had {stored['images']['count']} images and now has {images['count']}, or others"]
    if differing:
        raise InputError(f"The results in {evaluation.output} are of another run: {'; '.join(differing)}. Take another folder.")


def _union(stored: list[Any], new: list[Any]) -> list[Any]:
    return [*stored, *(entry for entry in new if entry not in stored)]


def _table(choice: Choice) -> dict[str, Any]:
    return {"name": choice.name, "options": as_json(choice.options)}


def _model_table(model: ModelChoice) -> dict[str, Any]:
    return {"name": model.name, "weights": model.source}


def pair_file(pair: Pair) -> str:
    """Return the prefix of a pair's file names."""
    return file_key(pair.model.name, pair.method.name, key=pair.key)


def tasks_of(prepared: Prepared, pair: Pair, metrics: Sequence[Choice], done: Sequence[set[str]]) -> list[Task]:
    """Return the remaining tasks of a pair: for each block, the metrics whose rows are not stored.

    Args:
        prepared: The run.
        pair: The pair.
        metrics: The metrics that can be computed for the pair.
        done: For each block, the keys of the stored metrics.
    """
    missing = [tuple(choice for choice in metrics if choice.key not in keys) for keys in done]
    parts = zip(prepared.blocks, missing, strict=True)
    return [Task(pair, number, images, left) for number, (images, left) in enumerate(parts) if left]
