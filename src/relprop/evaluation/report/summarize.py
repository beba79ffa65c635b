"""Summarize a results folder: one table per model and metric."""

import functools
import json
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from relprop.errors import InputError, OptionError, suggestion
from relprop.evaluation.report.completeness import lacking
from relprop.evaluation.report.report import Failures, Report
from relprop.evaluation.report.scores import Rows, Scored, scored
from relprop.evaluation.report.statistics import ROUNDS
from relprop.evaluation.report.tables import Table, make_table
from relprop.evaluation.results.run_file import read_settings
from relprop.evaluation.results.store import read_rows
from relprop.evaluation.settings import Choice
from relprop.files import as_path
from relprop.methods import METHODS
from relprop.metrics import METRICS
from relprop.text import counted

_NEEDED = ("image", "method", "method_options", "status", "reason", "scores", "curves", "statistics")


class _Key(NamedTuple):
    """A model and metric, by the columns of a row."""

    model: str
    weights: str
    metric: str
    metric_options: str


def report(
    folder: Path | str, *, baseline: str | None = None, metrics: Sequence[str] = (), rounds: int = ROUNDS, seed: int = 0
) -> Report:
    """Summarize a results folder, finished or not.

    Memory holds the rows of one model and metric at a time.

    Args:
        folder: The folder that ``evaluate`` wrote.
        baseline: The method to compare the others with, image by image; with its options (``rap:start=signed``) if the name is ambiguous.
        metrics: Names of metrics, with or without options; empty for all.
        rounds: Number of resamples for an interval.
        seed: Seed of the resampling.

    Raises:
        InputError: The folder holds no results, or no scored row.
        OptionError: A baseline or metric that the results do not have.
    """
    folder = as_path(folder, "The folder of results")
    settings, counts = read_settings(folder), _counts(folder)
    if not counts:
        raise InputError(f"{folder} holds no rows yet; start the evaluation again to go on with it.")
    keys = sorted({_Key(*row[:4]): None for row in counts}, key=_metric_order)
    methods = [_label(*row) for row in sorted({row[4:6]: None for row in counts}, key=_method_order)]
    chosen = _chosen(keys, metrics)
    base = _baseline(baseline, methods) if baseline else None
    names = _model_names({(key.model, key.weights): None for key in keys})
    tables: list[Table] = []
    failures: list[Failures] = []
    for key in chosen:
        model, metric = names[key.model, key.weights], _label(key.metric, key.metric_options)
        data = _scored(folder, key)
        failures += _failures(model, metric, data)
        spec = METRICS.get(key.metric)
        tables.append(make_table(model, metric, spec, data, base if base in data else None, rounds=rounds, seed=seed))
    _check_some(folder, tables, failures)
    method = f"Intervals: 95 %, percentile bootstrap over images, {rounds} resamples, seed {seed}."
    meanings = {key.metric: METRICS[key.metric].values for key in chosen if key.metric in METRICS}
    return Report(
        folder.resolve().name, tuple(tables), tuple(failures), (*_notes(failures), *lacking(settings, counts)), method, meanings
    )


def _counts(folder: Path) -> dict[tuple[str, ...], int]:
    """Return the number of rows by (model, weights, metric, its options, method, its options)."""
    columns = ["model", "weights", "metric", "metric_options", "method", "method_options"]
    found: Counter[tuple[str, ...]] = Counter()
    for batch in read_rows(folder):
        groups = pa.Table.from_batches([batch.select(columns)]).group_by(columns).aggregate([([], "count_all")]).to_pylist()
        found.update({tuple(row[name] for name in columns): row["count_all"] for row in groups})
    return dict(found)


def _metric_order(key: _Key) -> tuple[object, ...]:
    return key.model, key.weights, *_place(key.metric, METRICS), key.metric_options != "{}", key.metric_options


def _method_order(method: tuple[str, ...]) -> tuple[object, ...]:
    return *_place(method[0], METHODS), method[1] != "{}", method[1]


def _place(name: str, registry: Iterable[str]) -> tuple[int, str]:
    names = list(registry)
    return (names.index(name) if name in names else len(names)), name


def _label(name: str, options: str) -> str:
    return str(Choice(name, json.loads(options)))


def _model_names(models: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return short names: a Python file without its folder, and the weights only where needed to tell models apart."""
    models = list(models)
    short = {model: Path(model[0]).name if ".py:" in model[0] else model[0] for model in models}

    def shared(names: Mapping[tuple[str, str], str], model: tuple[str, str]) -> bool:
        return list(names.values()).count(names[model]) > 1

    named = {model: model[0] if shared(short, model) else name for model, name in short.items()}
    return {model: f"{name} ({model[1]})" if shared(named, model) else name for model, name in named.items()}


def _chosen(keys: Sequence[_Key], metrics: Sequence[str]) -> list[_Key]:
    labels = {key: {key.metric, _label(key.metric, key.metric_options)} for key in keys}
    known = dict.fromkeys(sorted(label for both in labels.values() for label in both))
    for name in metrics:
        if name not in known:
            raise OptionError(f"The results have no metric {name!r}; they have {', '.join(known)}.{suggestion(name, known)}")
    return [key for key in keys if not metrics or labels[key] & set(metrics)]


def _baseline(name: str, methods: Sequence[str]) -> str:
    """Return the method of this name, or the only one with this name and options."""
    fitting = [label for label in methods if label == name] or [label for label in methods if label.partition(":")[0] == name]
    if len(fitting) != 1:
        what = f"have several methods {name!r}" if fitting else f"have no method {name!r}"
        raise OptionError(
            f"The results {what} for a baseline; there are {', '.join(fitting or methods)}.{suggestion(name, methods)}"
        )
    return fitting[0]


def _scored(folder: Path, key: _Key) -> dict[str, Scored]:
    """Read the rows of one model and metric, by method."""
    parts = list(_matching(read_rows(folder), key._asdict()))
    table = pa.Table.from_batches(parts)
    columns = ("method", "method_options")
    groups = table.select(columns).group_by(columns).aggregate([])
    methods = zip(*(groups[name].to_pylist() for name in columns), strict=True)
    ordered = sorted(methods, key=_method_order)
    return {_label(*method): scored(table.filter(_all(dict(zip(columns, method, strict=True))))) for method in ordered}


def _matching(batches: Iterable[Rows], wanted: Mapping[str, str]) -> Iterator[Rows]:
    for batch in batches:
        found = batch.filter(_all(wanted))
        if len(found):
            yield found.select(_NEEDED)


def _all(wanted: Mapping[str, str]) -> Any:  # noqa: ANN401 - a pyarrow expression, which has no type
    return functools.reduce(operator.and_, (pc.field(name) == value for name, value in wanted.items()))


def _failures(model: str, metric: str, methods: Mapping[str, Scored]) -> list[Failures]:
    found: dict[tuple[str, str], list[str]] = {}
    for method, data in methods.items():
        for image, reason in data.failed:
            found.setdefault((method, reason), []).append(image)
    return [Failures(model, metric, method, reason, tuple(images)) for (method, reason), images in found.items()]


def _check_some(folder: Path, tables: Sequence[Table], failures: Sequence[Failures]) -> None:
    if not any(line.images for table in tables for line in table.lines):
        count = sum(len(failure.images) for failure in failures)
        raise InputError(f"{folder} holds not one scored row; {count} failed, the first with: {failures[0].reason}")


def _notes(failures: Sequence[Failures]) -> tuple[str, ...]:
    count = sum(len(failure.images) for failure in failures)
    images = {image for failure in failures for image in failure.images}
    return (f"{counted(count, 'row')} of {counted(len(images), 'image')} failed, see below.",) if count else ()
