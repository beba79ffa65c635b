"""A folder of results as a report reads it: one model and metric at a time."""

import functools
import json
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from relprop.errors import InputError, OptionError, suggestion
from relprop.evaluation.report.completeness import Counts
from relprop.evaluation.report.scores import Rows, Scored, scored
from relprop.evaluation.results.run_file import read_settings
from relprop.evaluation.results.store import read_rows
from relprop.evaluation.settings import Choice
from relprop.files import as_path
from relprop.methods import METHODS
from relprop.metrics import METRICS

_NEEDED = ("image", "method", "method_options", "status", "reason", "scores", "curves", "statistics")


class Key(NamedTuple):
    """A model and metric, by the columns of a row."""

    model: str
    weights: str
    metric: str
    metric_options: str

    @property
    def label(self) -> str:
        """The metric with its options."""
        return label_of(self.metric, self.metric_options)


@dataclass(frozen=True)
class Results:
    """A folder of results, whose rows are read one model and metric at a time.

    Attributes:
        folder: The folder.
        settings: The content of its ``run.json``.
        counts: The numbers of its rows.
    """

    folder: Path
    settings: Mapping[str, Any]
    counts: Counts

    @cached_property
    def keys(self) -> list[Key]:
        """Every model and metric, in the order of reports."""
        return sorted({Key(*row[:4]): None for row in self.counts}, key=_metric_order)

    @cached_property
    def methods(self) -> list[str]:
        """Every method with its options, in the order of reports."""
        return [label_of(*row) for row in sorted({row[4:6]: None for row in self.counts}, key=_method_order)]

    @cached_property
    def _names(self) -> dict[tuple[str, str], str]:
        return _model_names({(key.model, key.weights): None for key in self.keys})

    def model(self, key: Key) -> str:
        """Return what reports call a model."""
        return self._names[key.model, key.weights]

    def chosen(self, metrics: Sequence[str]) -> list[Key]:
        """Return the models and metrics of these names, all for none.

        Raises:
            OptionError: A metric that the results do not have.
        """
        return _chosen(self.keys, metrics)

    def scored(self, key: Key) -> dict[str, Scored]:
        """Read the rows of one model and metric, by method."""
        return _scored(self.folder, key)


def open_results(folder: Path | str) -> Results:
    """Open a folder of results.

    Raises:
        InputError: The folder holds no results.
    """
    folder = as_path(folder, "The folder of results")
    settings, counts = read_settings(folder), _counts(folder)
    if not counts:
        raise InputError(f"{folder} holds no rows yet; start the evaluation again to go on with it.")
    return Results(folder, settings, counts)


def _counts(folder: Path) -> dict[tuple[str, ...], int]:
    """Return the number of rows by (model, weights, metric, its options, method, its options)."""
    columns = ["model", "weights", "metric", "metric_options", "method", "method_options"]
    found: Counter[tuple[str, ...]] = Counter()
    for batch in read_rows(folder):
        groups = pa.Table.from_batches([batch.select(columns)]).group_by(columns).aggregate([([], "count_all")]).to_pylist()
        found.update({tuple(row[name] for name in columns): row["count_all"] for row in groups})
    return dict(found)


def _metric_order(key: Key) -> tuple[object, ...]:
    return key.model, key.weights, *_place(key.metric, METRICS), key.metric_options != "{}", key.metric_options


def _method_order(method: tuple[str, ...]) -> tuple[object, ...]:
    return *_place(method[0], METHODS), method[1] != "{}", method[1]


def _place(name: str, registry: Iterable[str]) -> tuple[int, str]:
    names = list(registry)
    return (names.index(name) if name in names else len(names)), name


def label_of(name: str, options: str) -> str:
    """Return a method or metric with its options, as the command line takes it."""
    return str(Choice(name, json.loads(options)))


def _model_names(models: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return short names: a Python file without its folder, and the weights only where needed to tell models apart."""
    models = list(models)
    short = {model: Path(model[0]).name if ".py:" in model[0] else model[0] for model in models}

    def shared(names: Mapping[tuple[str, str], str], model: tuple[str, str]) -> bool:
        return list(names.values()).count(names[model]) > 1

    named = {model: model[0] if shared(short, model) else name for model, name in short.items()}
    return {model: f"{name} ({model[1]})" if shared(named, model) else name for model, name in named.items()}


def _chosen(keys: Sequence[Key], metrics: Sequence[str]) -> list[Key]:
    labels = {key: {key.metric, key.label} for key in keys}
    known = dict.fromkeys(sorted(label for both in labels.values() for label in both))
    for name in metrics:
        if name not in known:
            raise OptionError(f"The results have no metric {name!r}; they have {', '.join(known)}.{suggestion(name, known)}")
    return [key for key in keys if not metrics or labels[key] & set(metrics)]


def _scored(folder: Path, key: Key) -> dict[str, Scored]:
    """Read the rows of one model and metric, by method."""
    parts = list(_matching(read_rows(folder), key._asdict()))
    table = pa.Table.from_batches(parts)
    columns = ("method", "method_options")
    groups = table.select(columns).group_by(columns).aggregate([])
    methods = zip(*(groups[name].to_pylist() for name in columns), strict=True)
    ordered = sorted(methods, key=_method_order)
    return {label_of(*method): scored(table.filter(_all(dict(zip(columns, method, strict=True))))) for method in ordered}


def _matching(batches: Iterable[Rows], wanted: Mapping[str, str]) -> Iterator[Rows]:
    for batch in batches:
        found = batch.filter(_all(wanted))
        if len(found):
            yield found.select(_NEEDED)


def _all(wanted: Mapping[str, str]) -> Any:  # noqa: ANN401 - a pyarrow expression, which has no type
    return functools.reduce(operator.and_, (pc.field(name) == value for name, value in wanted.items()))
