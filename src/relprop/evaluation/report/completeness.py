"""Completeness of a results folder: missing rows of an unfinished run, and pairs that it left out."""

from collections.abc import Mapping
from typing import Any

from relprop.evaluation.results.rows import options_text
from relprop.evaluation.settings import Choice
from relprop.metrics import METRICS

Counts = Mapping[tuple[str, ...], int]
"""Number of rows by (model, weights, metric, its options, method, its options)."""


def lacking(settings: Mapping[str, Any], counts: Counts) -> tuple[str, ...]:
    """Return sentences on missing rows, pairs without rows, and what was left out and why.

    Args:
        settings: The content of ``run.json``.
        counts: The numbers of stored rows.
    """
    begun = {(row[:2], row[4:6]) for row in counts}
    left_out = {(entry["model"], entry["method"], entry["metric"]) for entry in settings["left_out"]}
    models = {(table["name"], table["weights"]): _model_name(table) for table in settings["models"]}
    methods = {_key(table): str(Choice(**table)) for table in settings["methods"]}
    metrics = {_key(table): Choice(**table).key for table in settings["metrics"]}
    pairs = [(model, method) for model in models for method in methods if (models[model], methods[method], None) not in left_out]
    wanted = {
        (*model, *metric, *method): settings["images"]["count"] // (METRICS[metric[0]].group if metric[0] in METRICS else 1)
        for model, method in pairs
        if (model, method) in begun
        for metric, key in metrics.items()
        if (models[model], methods[method], key) not in left_out
    }
    missing = sum(max(0, rows - counts.get(row, 0)) for row, rows in wanted.items())
    absent = [f"{models[model]} × {methods[method]}" for model, method in pairs if (model, method) not in begun]
    notes = [f"{_pair(entry)} was left out: {entry['reason']}" for entry in settings["left_out"]]
    if missing:
        total = sum(wanted.values())
        notes.append(
            f"The run is not finished: {missing} of {total} rows are missing; start the evaluation again to go on with it."
        )
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        notes.append(f"There are no rows of {', '.join(absent[:3])}{more}.")
    return tuple(notes)


def _key(table: Mapping[str, Any]) -> tuple[str, str]:
    return table["name"], options_text(table["options"])


def _model_name(table: Mapping[str, str]) -> str:
    """Return the text of the model's ``ModelChoice``."""
    return table["name"] if table["weights"] in {"pretrained", "random"} else f"{table['name']}={table['weights']}"


def _pair(entry: Mapping[str, str | None]) -> str:
    return f"{entry['model']} × {entry['method']}" + (f" × {entry['metric'].removesuffix(' {}')}" if entry["metric"] else "")
