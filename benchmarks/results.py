"""The runs of ``results.toml`` on the reference models, and the page ``docs/generated/results.md`` with its figures.

    RELPROP_WEIGHTS=FOLDER python benchmarks/results.py run --voc VOCdevkit --imagenet ILSVRC2012 --results RESULTS [--slow] [RUN …]
    python benchmarks/results.py pack --voc VOCdevkit --imagenet ILSVRC2012 --results RESULTS
    python benchmarks/results.py page

A run that was stopped goes on where it was; several runs may go on at once, each in a process of its own. ``pack`` writes the rows of all
images into ``benchmarks/rows``, from which ``page`` makes the page and ``run`` goes on in a new folder of results. The mosaics
(``rows/mosaics.json``, by ``relprop mosaics imagenet:photos --confidence 0.5``) are of ImageNet photos in the folder ``photos``. The remarks
in ``results_remarks.md`` open the page.
"""

import argparse
import os
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from results_archive import pack, unpack

from relprop.cli.evaluate import RunProgress
from relprop.errors import InputError
from relprop.evaluation import Evaluation, Report, evaluate, report
from relprop.evaluation.report.figures import draw_curves
from relprop.evaluation.report.grids import ARROWS, Cell, Grid, interval
from relprop.evaluation.report.report import markdown_grid
from relprop.evaluation.report.tables import Line, Table
from relprop.evaluation.settings import from_mapping
from relprop.files import atomic, write_text
from relprop.methods import METHODS
from relprop.zoo import EMBEDDED

HERE = Path(__file__).parent
SETTINGS: dict[str, Any] = tomllib.loads((HERE / "results.toml").read_text("utf-8"))
REMARKS = HERE / "results_remarks.md"
ROWS = HERE / "rows"
PAGES = HERE.parent / "docs" / "generated"
_FILE = "reference_models.py:"
"""Stands before a reference model's name in results, and would only lengthen the columns."""


@dataclass(frozen=True)
class Topic:
    """A section of the page: values of one metric, from runs on different models."""

    title: str
    runs: tuple[str, ...]
    metric: str
    values: tuple[str, ...]


TOPICS = (
    Topic("Outside–inside ratio, Pascal VOC", ("voc", "vgg"), "outside-inside", ("pos", "all")),
    Topic("Outside–inside ratio, ImageNet boxes", ("imagenet",), "outside-inside", ("pos",)),
    Topic("Segmentation by the map above its positive mean", ("voc", "vgg"), "segmentation", ("miou", "pixel_accuracy")),
    Topic("Relevance on the object", ("voc", "vgg"), "relevance-mass", ("relevance_mass",)),
    Topic("Pointing game", ("voc", "vgg"), "pointing-game", ("pointing_game",)),
    Topic("The right one of four photos", ("mosaics",), "grid-pointing", ("share", "wins")),
    Topic("Least relevant regions removed first", ("imagenet",), "lerf", ("accuracy_mean", "probability_mean")),
    Topic("Most relevant regions removed first", ("imagenet",), "morf", ("accuracy_mean", "probability_mean")),
    Topic("Global attribution evaluation", ("groups",), "gae", ("gae", "local_consistency", "contrastiveness")),
    Topic(
        "Sanity check: similarity after cascading randomization", ("checks",), "cascading-randomization", ("spearman_abs", "ssim")
    ),
    Topic(
        "Sanity check: similarity to the map of a random other class", ("checks",), "random-logit", ("spearman_abs", "spearman")
    ),
    Topic("Conservation", ("voc", "vgg"), "conservation", ("conservation_error",)),
)


def _tables(topic: Topic, reports: dict[str, Report]) -> list[Table]:
    """Return the tables of a topic's metric, whatever its options."""
    found = (table for run in topic.runs if run in reports for table in reports[run].tables)
    return [table for table in found if table.metric.partition(":")[0] == topic.metric]


OVERVIEW = ((0, "pos"), (2, "miou"), (5, "share"), (6, "probability_mean"), (8, "gae"), (10, "spearman_abs"))
"""The panels of the first figure: a topic by its place, and a value."""


def evaluations(name: str, options: argparse.Namespace) -> Iterator[Evaluation]:
    """Yield the evaluations of one run: of its methods, of those for models with attention, and of the slow ones."""
    run: dict[str, Any] = {"methods": SETTINGS["methods"], "models": SETTINGS["models"], **SETTINGS["runs"][name]}
    kind = run["data"]
    run |= {"data": f"{kind}:{_data(name, options)}", "geometry": "resize", "output": str(options.results / name)}
    run["limit"] = options.limit or run["limit"]
    attentive = [model for model in SETTINGS["attention_models"] if model in run["models"]]
    parts = (
        (run["models"], run["methods"]),
        (attentive, SETTINGS["attention_methods"]),
        (run["models"], SETTINGS["slow_methods"]),
    )
    for models, methods in parts[: 3 if options.slow else 2]:
        chosen = {"models": list(map(_model, _chosen(models, options.models))), "methods": _chosen(methods, options.methods)}
        if all(chosen.values()):
            yield from_mapping({**run, **chosen}, f"The run {name}")


def _chosen(names: list[str], wanted: list[str] | None) -> list[str]:
    return [name for name in names if not wanted or name in wanted]


def _data(name: str, options: argparse.Namespace) -> str:
    return str(getattr(options, SETTINGS["runs"][name]["data"]))


def _model(name: str) -> str:
    return name if name in EMBEDDED else f"{os.path.relpath(HERE / 'reference_models.py')}:{name}"


def run(options: argparse.Namespace) -> None:
    """Compute the missing rows of the runs."""
    for name in options.runs or SETTINGS["runs"]:
        _restore(name, options.results, _data(name, options))
        for evaluation in evaluations(name, options):
            with RunProgress(evaluation.output) as terminal:
                summary = evaluate(evaluation, terminal.observer)
            print(
                f"{name}: {summary.rows} new rows, {summary.failed} of them failed, {len(summary.left_out)} left out", flush=True
            )


def _restore(name: str, results: Path, data: str) -> None:
    """Make the folder of a run that is not there from its packed rows, if there are any."""
    archive = ROWS / f"{name}.parquet"
    if archive.is_file() and not (results / name).exists():
        unpack(archive, results / name, data)


def pack_all(options: argparse.Namespace) -> None:
    """Pack the rows of the runs that are there."""
    for name in SETTINGS["runs"]:
        if (options.results / name).is_dir():
            pack(options.results / name, ROWS / f"{name}.parquet", _data(name, options))


def page(options: argparse.Namespace) -> None:
    """Write the page and its figures from the packed rows."""
    with tempfile.TemporaryDirectory() as folder:
        for name in SETTINGS["runs"]:
            _restore(name, Path(folder), "")
        reports = _reports(Path(folder))
    images = options.pages / "images"
    images.mkdir(parents=True, exist_ok=True)
    figures = {name.replace(_FILE, ""): figure for name, figure in _figures(reports).items()}
    for name, figure in figures.items():
        with atomic(images / f"results-{name}.png") as path:
            figure.savefig(path, dpi=110)
    parts = [_head(), *(f"![{name}](images/results-{name}.png)" for name in figures if name == "overview")]
    for topic in TOPICS:
        parts += _section(topic, reports)
    parts += ["## Curves", *(f"![{name}](images/results-{name}.png)" for name in figures if name != "overview")]
    parts += ["## Notes of the runs", *_notes(reports), _runs_table(reports)]
    write_text(options.pages / "results.md", "\n\n".join(parts).replace(_FILE, "") + "\n")


def _reports(results: Path) -> dict[str, Report]:
    """Summarize the runs that have rows; say which have none."""
    found: dict[str, Report] = {}
    for name in SETTINGS["runs"]:
        try:
            found[name] = report(results / name)
        except InputError as error:
            print(f"Left out: {error}")
    return found


def _head() -> str:
    command = (__doc__ or "").split("\n\n")[1].replace("    ", "", 1).replace("\n    ", "\n")
    remarks = REMARKS.read_text("utf-8").strip() if REMARKS.is_file() else ""
    return f"# Results\n\n```sh\n{command.strip()}\n```\n\n{remarks}".strip()


def _section(topic: Topic, reports: dict[str, Report]) -> list[str]:
    """Return a table for each value: methods down, models across, the best of each model in bold."""
    found = _tables(topic, reports)
    if not found:
        return []
    parts = [f"## {topic.title}"]
    for value in topic.values:
        lines = {
            (table.model, line.method): line
            for table in found
            for line in table.lines
            if line.value == value and line.over == table.headline
        }
        methods = list(dict.fromkeys(method for table in found for method in (line.method for line in table.lines)))
        if not lines:
            continue
        models = [table.model for table in found]
        arrow = ARROWS[next(iter(lines.values())).direction]
        rows = tuple((Cell(method), *(_cell(lines.get((model, method))) for model in models)) for method in methods)
        counts = ", ".join(f"{model} {max(line.images for (m, _), line in lines.items() if m == model)}" for model in models)
        parts += [f"`{value}` {arrow} (rows per method: {counts})", markdown_grid(Grid(value, ("method", *models), rows))]
    return parts


def _cell(line: Line | None) -> Cell:
    return Cell("") if line is None else Cell(interval(line.score), line.best)


def _figures(reports: dict[str, Report]) -> dict[str, Figure]:
    figures = {"overview": _overview(reports)}
    curves = ("imagenet", "vgg-checks")
    for table in (table for run in curves if run in reports for table in reports[run].tables):
        if table.metric.partition(":")[0] not in {"lerf", "morf"}:
            continue
        drawn = draw_curves(table)
        if drawn is not None:
            figures[f"{table.metric.partition(':')[0]}-{table.model}"] = drawn
    return figures


def _overview(reports: dict[str, Report]) -> Figure:
    """Return a panel per value: methods down, a mark with its interval for every model."""
    shown = {place: _tables(topic, reports) for place, topic in enumerate(TOPICS)}
    methods = sorted(
        {line.method for topic, _ in OVERVIEW for table in shown[topic] for line in table.lines},
        key=lambda method: (list(METHODS).index(method.partition(":")[0]), method),
    )
    models = list(dict.fromkeys(table.model for topic, _ in OVERVIEW for table in shown[topic]))
    figure = Figure(figsize=(12, 15), layout="constrained")
    for place, (topic, value) in enumerate(OVERVIEW, start=1):
        axes = figure.add_subplot(2, 3, place)
        for table in shown[topic]:
            _marks(axes, table, value, methods, models)
        axes.set_yticks(range(len(methods)), methods if place % 3 == 1 else [""] * len(methods), fontsize=8)
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.grid(axis="y", lw=0.3)
        axes.set_title(f"{TOPICS[topic].title}\n{value}", fontsize=8)
        if value == "pos":
            axes.set_xlim(0, 2)
    handles = {text: handle for axes in figure.axes for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, fontsize=9)
    return figure


def _marks(axes: Axes, table: Table, value: str, methods: list[str], models: list[str]) -> None:
    """Draw one model's scores, a little apart from the other models'."""
    place = models.index(table.model)
    drawn = [line for method in methods if (line := table.line(method, value)) and np.isfinite(line.score.value)]
    scores = np.array([line.score.value for line in drawn])
    ends = np.array([(line.score.low, line.score.high) for line in drawn]).reshape(-1, 2)
    rows = [methods.index(line.method) + 0.16 * (place - (len(models) - 1) / 2) for line in drawn]
    errors = np.nan_to_num(np.abs(ends.T - scores))
    axes.errorbar(scores, rows, xerr=errors, fmt="o", ms=3, lw=0.8, color=f"C{place}", label=table.model.replace(_FILE, ""))


def _notes(reports: dict[str, Report]) -> list[str]:
    notes = [f"- {name}: {text}" for name, found in reports.items() for text in (*found.notes, *map(str, found.failures))]
    methods = {found.method for found in reports.values()}
    return ["\n".join([*(f"- {method}" for method in methods), *notes])]


def _runs_table(reports: dict[str, Report]) -> str:
    runs = ((name, SETTINGS["runs"][name]) for name in reports)
    return "\n".join(
        f"- `{name}`: {run['limit']} images of {run['data']}, the {run.get('target', 'predicted')} class; {', '.join(run['metrics'])}"
        for name, run in runs
    )


def main() -> None:
    """Run, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run")
    running.add_argument("--models", nargs="+", help="only these")
    running.add_argument("--methods", nargs="+", help="only these")
    running.add_argument("--slow", action="store_true", help="the slow methods, too")
    running.add_argument("--limit", type=int, help="take only so many images of each run; for a trial, in another folder")
    running.add_argument("runs", nargs="*", metavar="RUN", help=f"{', '.join(SETTINGS['runs'])}; all where left out")
    running.set_defaults(do=run)
    packing = commands.add_parser("pack")
    packing.set_defaults(do=pack_all)
    for command in (running, packing):
        command.add_argument("--results", type=Path, default=Path("results"))
        command.add_argument("--voc", type=Path)
        command.add_argument("--imagenet", type=Path)
        command.add_argument("--mosaic", type=Path, default=ROWS / "mosaics.json")
    paging = commands.add_parser("page")
    paging.add_argument("--pages", type=Path, default=PAGES, help="the folder of the page")
    paging.set_defaults(do=page)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
