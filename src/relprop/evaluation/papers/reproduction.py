"""Reproduce a paper's experiment: run it on the available data and weights, and compare with the published numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from relprop.datasets import open_dataset
from relprop.errors import InputError, OptionError, RelpropError, suggestion
from relprop.evaluation.papers.protocols import PATTERNS, PROTOCOLS, Experiment, Protocol, ProtocolModel
from relprop.evaluation.papers.published import Published
from relprop.evaluation.report.report import Report
from relprop.evaluation.report.statistics import Estimate
from relprop.evaluation.report.summarize import report
from relprop.evaluation.run import Observer, evaluate
from relprop.evaluation.settings import Choice, Evaluation, ModelChoice
from relprop.zoo import load

PERCENT = frozenset({"pixel_accuracy", "miou", "class_pointing"})
"""Values that papers print in percent."""


@dataclass(frozen=True)
class Sources:
    """Paths of data, weights and patterns, and the settings of the runs.

    Attributes:
        data: Path of the data by flag (``imagenet``, ``imagenet-seg``, ``voc``, ``voc07``, ``funnybirds``).
        weights: File by model key; other models take their published weights.
        patterns: File by model key, written by ``relprop fit-patterns``.
        limit: Number of images to take of each data set; None for all.
        device: See ``Evaluation.device``.
        batch_size: See ``Evaluation.batch_size``.
    """

    data: Mapping[str, Path]
    weights: Mapping[str, Path] = field(default_factory=dict[str, Path])
    patterns: Mapping[str, Path] = field(default_factory=dict[str, Path])
    limit: int | None = None
    device: str = "cpu"
    batch_size: int = 8


@dataclass(frozen=True)
class Comparison:
    """A measured number, a published one, or both, in the paper's units."""

    part: str
    model: str
    method: str
    metric: str
    value: str
    images: int
    ours: Estimate | None
    published: float | None

    @property
    def difference(self) -> float | None:
        """The measured number minus the published one."""
        return None if self.ours is None or self.published is None else self.ours.value - self.published


@dataclass(frozen=True)
class Reproduction:
    """The result of an experiment; ``reports`` holds the full report of each part that ran."""

    protocol: Protocol
    comparisons: tuple[Comparison, ...]
    reports: Mapping[str, Report]
    notes: tuple[str, ...]


def protocol_named(name: str) -> Protocol:
    """Return an experiment of ``PROTOCOLS``.

    Raises:
        OptionError: There is no experiment of this name.
    """
    if name not in PROTOCOLS:
        raise OptionError(f"There is no experiment {name!r}; there are {', '.join(PROTOCOLS)}.{suggestion(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def of_models(protocol: Protocol, keys: Sequence[str]) -> Protocol:
    """Restrict an experiment to some of its models, and its published numbers to theirs and those of models that it does not run.

    Raises:
        OptionError: The experiment has no such model.
    """
    _check_keys(protocol, keys)
    others = {model.key for model in protocol.models} - set(keys)
    return replace(
        protocol,
        models=tuple(model for model in protocol.models if model.key in keys),
        published=tuple(number for number in protocol.published if number.model not in others),
    )


def reproduce(
    protocol: Protocol, sources: Sources, output: Path, observer: Observer | None = None, say: Callable[[str], None] | None = None
) -> Reproduction:
    """Run the available parts of an experiment and compare them with the paper; an interrupted run resumes.

    Args:
        protocol: One of ``PROTOCOLS``, or your own.
        sources: The paths of data, weights and patterns.
        output: The folder of results; the rows of each part go into a subfolder.
        observer: Callbacks for the progress of the runs.
        say: Called with a sentence for everything that is missing, before anything runs.

    Raises:
        OptionError: Weights or patterns for a model that the experiment does not have.
        InputError: No part of the experiment can run.
    """
    _check_keys(protocol, [*sources.weights, *sources.patterns])
    parts, notes = _parts_there(protocol, sources)
    models, more = _models_there(protocol, sources) if parts else ([], [])
    notes += more
    notes += _patterns_missing(protocol, models, sources) if parts and models else []
    if say:
        for note in notes:
            say(note)
    if not parts or not models:
        why = "what is missing was said above" if say else " ".join(notes)
        raise InputError(f"Nothing of {protocol.name} can run: {why.rstrip('.')}.")
    reports: dict[str, Report] = {}
    for part in parts:
        folder = output / part.name
        for evaluation in evaluations(protocol, part, models, sources, folder):
            evaluate(evaluation, observer)
        reports[part.name] = report(folder)
    return Reproduction(protocol, tuple(_comparisons(protocol, reports)), reports, tuple(notes))


def evaluations(
    protocol: Protocol, part: Experiment, models: Sequence[ProtocolModel], sources: Sources, folder: Path
) -> Iterator[Evaluation]:
    """Yield the runs of one part: one with the methods that need no patterns, and one for each model that has patterns."""
    choices = {model.key: ModelChoice(model.name, sources.weights.get(model.key)) for model in models}
    common = Evaluation(
        data=f"{part.kind}:{sources.data[part.flag]}",
        data_options=part.data_options,
        own=part.own,
        models=tuple(choices.values()),
        methods=tuple(method for method in protocol.methods if method.name != PATTERNS),
        metrics=part.metrics,
        output=folder,
        limit=sources.limit,
        target=part.target,
        geometry="resize",
        device=sources.device,
        batch_size=sources.batch_size,
    )
    yield common
    for method in protocol.methods:
        for model in models if method.name == PATTERNS else ():
            if model.key in sources.patterns:
                fitted = Choice(method.name, {**method.options, "patterns": str(sources.patterns[model.key])})
                yield replace(common, models=(choices[model.key],), methods=(fitted,))


def _check_keys(protocol: Protocol, keys: Sequence[str]) -> None:
    known = [model.key for model in protocol.models]
    for key in keys:
        if key not in known:
            raise OptionError(f"{protocol.name} has no model {key!r}; it has {', '.join(known)}.{suggestion(key, known)}")


def _parts_there(protocol: Protocol, sources: Sources) -> tuple[list[Experiment], list[str]]:
    there, notes = list[Experiment](), list[str]()
    for part in protocol.parts:
        if part.flag not in sources.data:
            notes.append(f"Left out: {part.what}; --{part.flag} PATH says where the images are.")
            continue
        try:
            open_dataset(f"{part.kind}:{sources.data[part.flag]}", **part.data_options)
        except RelpropError as error:
            notes.append(f"Left out: {part.what}; --{part.flag}: {error}")
        else:
            there.append(part)
    return there, notes


def _models_there(protocol: Protocol, sources: Sources) -> tuple[list[ProtocolModel], list[str]]:
    """Load every model once, to find missing ones before the first run."""
    there, notes = list[ProtocolModel](), list[str]()
    for model in protocol.models:
        try:
            load(model.name, sources.weights.get(model.key))
        except RelpropError as error:
            hint = "" if model.key in sources.weights else f" (--weights {model.key}=FILE gives its weights)"
            notes.append(f"Left out: {model.title}{hint}: {error}")
        else:
            there.append(model)
    return there, notes


def _patterns_missing(protocol: Protocol, models: Sequence[ProtocolModel], sources: Sources) -> list[str]:
    if all(method.name != PATTERNS for method in protocol.methods):
        return []
    lacking = [model for model in models if model.key not in sources.patterns]
    return [
        f"Left out: {PATTERNS} on {model.title}; --patterns {model.key}=FILE gives its patterns, which `relprop fit-patterns` makes."
        for model in lacking
    ]


def _comparisons(protocol: Protocol, reports: Mapping[str, Report]) -> Iterator[Comparison]:
    """Yield the measured numbers with their published counterparts, then the numbers that were only published."""
    published = {(p.part, p.model, p.method, p.value): p for p in protocol.published}
    seen: set[tuple[str, str, str, str]] = set()
    for part in protocol.parts:
        for key, found in _measured(protocol, part, reports.get(part.name)):
            seen.add(key)
            yield replace(found, published=published[key].number if key in published else None)
    titles = {model.key: model.title for model in protocol.models}
    for key, number in published.items():
        if key not in seen:
            yield _only_published(number, titles)


def _measured(
    protocol: Protocol, part: Experiment, found: Report | None
) -> Iterator[tuple[tuple[str, str, str, str], Comparison]]:
    names = {str(method): method.name for method in protocol.methods}
    for table in found.tables if found else ():
        model = next((m for m in protocol.models if table.model in {m.name, Path(m.name).name}), None)
        for line in table.lines if model else ():
            if model and line.over in {table.headline, "median"} and line.value in part.values:
                value = f"{line.value}, median" if line.over == "median" else line.value
                method = names.get(line.method, line.method.partition(":")[0])
                scale = 100 if line.value in PERCENT else 1
                ours = Estimate(*(scale * number for number in (line.score.value, line.score.low, line.score.high)))
                yield (
                    (part.name, model.key, method, value),
                    Comparison(part.name, model.title, method, table.metric, value, line.images, ours, None),
                )


def _only_published(number: Published, titles: Mapping[str, str]) -> Comparison:
    model = titles.get(number.model, number.model)
    return Comparison(number.part, model, number.method, "", number.value, 0, None, number.number)
