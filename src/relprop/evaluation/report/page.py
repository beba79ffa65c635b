"""The report as one HTML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relprop.evaluation.report.grids import ARROWS, WAYS, number, unit_of
from relprop.evaluation.report.kept import IMAGES, gallery_of
from relprop.evaluation.report.opened import open_results
from relprop.evaluation.report.report import Report
from relprop.evaluation.report.statistics import Estimate
from relprop.evaluation.report.tables import Curve, Line, Table
from relprop.evaluation.settings import Choice
from relprop.metrics import METRICS
from relprop.pages import write_page
from relprop.text import counted
from relprop.viz.curves import COLORS

NO_MAPS = (
    "This run kept no maps, so there are no pictures. `relprop evaluate --keep-maps` keeps them: the same command with that option, "
    "into another folder."
)


def write_html(report: Report, folder: Path | str, path: Path, *, metrics: Sequence[str] = (), images: int = IMAGES) -> None:
    """Write a report as one HTML file that opens offline, with the gallery of the maps that the run kept.

    Args:
        report: The report of the folder.
        folder: The folder of results.
        path: The file.
        metrics: As for ``report``; the gallery is sorted by these.
        images: The most images of the gallery; 0 for no gallery.

    Raises:
        InputError: A file of the results is damaged.
        OutputError: The file cannot be written.
    """
    found = open_results(folder)
    gallery = gallery_of(found, metrics, images) if images else None
    data = page_data(report, found.settings)
    missing = NO_MAPS if images else "The gallery was left out on request."
    write_page(path, report.name, {**data, "missing": "" if gallery else missing}, gallery)


def page_data(report: Report, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page draws besides its gallery."""
    baseline = next((table.baseline for table in report.tables if table.baseline), None)
    models = len({table.model for table in report.tables})
    methods = len({line.method for table in report.tables for line in table.lines})
    counts = ((settings["images"]["count"], "image"), (models, "model"), (methods, "method"))
    return {
        "lead": ", ".join(counted(count, what) for count, what in counts),
        "method": report.method,
        "baseline": baseline,
        "notes": list(report.notes),
        "tables": [_table(table, report) for table in report.tables],
        "colors": list(COLORS),
        "failures": [
            {"model": f.model, "metric": f.metric, "method": f.method, "reason": f.reason, "images": list(f.images)}
            for f in report.failures
        ],
        "settings": _settings(settings),
    }


def _table(table: Table, report: Report) -> dict[str, Any]:
    metric = table.metric.partition(":")[0] if table.metric not in METRICS else table.metric
    meanings = {value.name: value.meaning for value in report.meanings.get(metric, ())}
    return {
        "model": table.model,
        "metric": table.metric,
        "baseline": table.baseline,
        "unit": unit_of(table),
        "grids": [_grid(table, over, meanings) for over in dict.fromkeys(line.over for line in table.lines)],
        "curves": [_curve(name, table.curves) for name in dict.fromkeys(curve.name for curve in table.curves)],
        "ranks": [
            {
                "value": ranks.value,
                "arrow": ARROWS[ranks.direction],
                "images": ranks.images,
                "difference": ranks.difference,
                "methods": [{"method": method, "rank": rank} for method, rank in ranks.methods.items()],
            }
            for ranks in table.ranks
        ],
    }


def _grid(table: Table, over: str, meanings: Mapping[str, str]) -> dict[str, Any]:
    lines = [line for line in table.lines if line.over == over]
    methods = [[line for line in lines if line.method == method] for method in dict.fromkeys(line.method for line in lines)]
    columns = [
        {
            "name": line.value,
            "arrow": ARROWS[line.direction],
            "direction": line.direction,
            "meaning": meanings.get(line.value, ""),
        }
        for line in methods[0]
    ]
    return {"caption": f"{table.metric}, {WAYS[over]}", "columns": columns, "rows": [_row(row) for row in methods]}


def _row(lines: Sequence[Line]) -> dict[str, Any]:
    return {
        "method": lines[0].method,
        "images": lines[0].images,
        "failed": lines[0].failed,
        "scores": [{**_estimate(line.score), "undefined": line.undefined, "best": line.best} for line in lines],
        "gaps": [None if line.difference is None else _estimate(line.difference, signed=True) for line in lines],
    }


def _estimate(estimate: Estimate, *, signed: bool = False) -> dict[str, Any]:
    low, high = (number(end, signed=signed) for end in (estimate.low, estimate.high))
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "text": number(estimate.value, signed=signed),
        "range": f"[{low}, {high}]" if estimate.low == estimate.low else "",
    }


def _curve(name: str, curves: Sequence[Curve]) -> dict[str, Any]:
    return {
        "name": name.removesuffix("_curve").replace("_", " "),
        "lines": [
            {"method": curve.method, "points": [[point.value, point.low, point.high] for point in curve.points]}
            for curve in curves
            if curve.name == name
        ],
    }


def _settings(settings: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the settings of a run as titled lists of names and texts."""
    content = {**settings["content"], "limit": settings["content"].get("limit") or "all images"}
    said = [(name.replace("_", " "), _said(value)) for name, value in content.items() if value not in ({}, None)]
    models = [(f"{table['name']}", table["weights"]) for table in settings["models"]]
    prints = [(f"weights of {model}", text) for model, text in settings["fingerprints"].items()]
    choices = [(kind, ", ".join(str(Choice(**table)) for table in settings[kind])) for kind in ("methods", "metrics")]
    versions = [(name, str(settings[name])) for name in ("relprop", "torch") if name in settings]
    parts = [("Run", said), ("Models", models), ("Choices", choices), ("Versions", [*versions, *prints])]
    return [(title, entries) for title, entries in parts if entries]


def _said(value: object) -> str:
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"
