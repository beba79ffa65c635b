"""Summarize a results folder: one table per model and metric."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from relprop.errors import InputError, OptionError, suggestion
from relprop.evaluation.report.completeness import lacking
from relprop.evaluation.report.opened import open_results
from relprop.evaluation.report.report import Failures, Report
from relprop.evaluation.report.scores import Scored
from relprop.evaluation.report.statistics import ROUNDS
from relprop.evaluation.report.tables import Table, make_table
from relprop.files import as_path
from relprop.metrics import METRICS
from relprop.text import counted


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
    found = open_results(folder)
    base = _baseline(baseline, found.methods) if baseline else None
    tables: list[Table] = []
    failures: list[Failures] = []
    chosen = found.chosen(metrics)
    for key in chosen:
        model, metric, data = found.model(key), key.label, found.scored(key)
        failures += _failures(model, metric, data)
        spec = METRICS.get(key.metric)
        tables.append(make_table(model, metric, spec, data, base if base in data else None, rounds=rounds, seed=seed))
    _check_some(folder, tables, failures)
    method = f"Intervals: 95 %, percentile bootstrap over images, {rounds} resamples, seed {seed}."
    meanings = {key.metric: METRICS[key.metric].values for key in chosen if key.metric in METRICS}
    notes = (*_notes(failures), *lacking(found.settings, found.counts))
    return Report(folder.resolve().name, tuple(tables), tuple(failures), notes, method, meanings)


def _baseline(name: str, methods: Sequence[str]) -> str:
    """Return the method of this name, or the only one with this name and options."""
    fitting = [label for label in methods if label == name] or [label for label in methods if label.partition(":")[0] == name]
    if len(fitting) != 1:
        what = f"have several methods {name!r}" if fitting else f"have no method {name!r}"
        raise OptionError(
            f"The results {what} for a baseline; there are {', '.join(fitting or methods)}.{suggestion(name, methods)}"
        )
    return fitting[0]


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
