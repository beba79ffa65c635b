"""``relprop evaluate``: models × methods × metrics over a data set, rows into a folder."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from relprop.cli.interrupts import INTERRUPTED, leave_at_next, take_over
from relprop.cli.options import parse_device, parse_options
from relprop.cli.report import print_grid
from relprop.cli.terminal import complain, err, note, out
from relprop.errors import OptionError
from relprop.evaluation import Evaluation, Forecast, Observer, RunResult, evaluate, forecast
from relprop.evaluation.report.grids import Cell, Grid
from relprop.evaluation.settings import from_mapping, read_toml
from relprop.text import counted, split_list
from relprop.zoo import is_code

_SHOWN = 20


def run_evaluation(settings: Path | None, flags: Mapping[str, Any], *, dry_run: bool, trusted: bool) -> bool:
    """Run, or forecast, what the settings file and the flags say; a flag goes before the file. Return whether there is a good row.

    Raises:
        RelpropError: As ``relprop.evaluation.evaluate``.
        SystemExit: With code 130 where the run was interrupted.
    """
    evaluation = merged(settings, flags)
    if settings and not trusted:
        check_trust(settings, flags, evaluation)
    if evaluation.engine == "local":
        parse_device(evaluation.device)
    if dry_run:
        _forecast(evaluation)
        return True
    with RunProgress(evaluation.output) as terminal:
        summary = evaluate(evaluation, terminal.observer)
    _print_summary(evaluation, summary)
    if not summary.good:
        complain("Not one row could be computed; the notes above say why.")
    return summary.good


def merged(settings: Path | None, flags: Mapping[str, Any]) -> Evaluation:
    """Return the evaluation of a settings file and of the flags that were given.

    Raises:
        OptionError: An unknown or missing setting.
    """
    values = read_toml(settings) if settings else {}
    given = {name: value for name, value in flags.items() if value not in (None, [], ())}
    for single, plural in (("model", "models"), ("method", "methods"), ("metric", "metrics")):
        if plural in given:
            values.pop(single, None)
    for name in ("methods", "metrics"):
        if name in given:
            given[name] = [part for text in given[name] for part in split_list(text)]
    if "data_options" in given:
        given["data_options"] = parse_options(given["data_options"])
    return from_mapping({**values, **given}, str(settings) if settings else "The command line")


def check_trust(settings: Path, flags: Mapping[str, Any], evaluation: Evaluation) -> None:
    """Refuse a settings file, not the flags, that names Python code or a Ray cluster: who wrote it would decide what runs.

    Raises:
        OptionError: It does; the message says what.
    """
    code = [] if flags.get("models") else [model.name for model in evaluation.models if is_code(model.name)]
    if code:
        raise OptionError(
            f"{settings} names the Python code {', '.join(code)}, which would be run; if you trust the file, add --trust-code."
        )
    if evaluation.address and not flags.get("address"):
        raise OptionError(
            f"{settings} names the Ray cluster {evaluation.address}, which can run code here; if you trust it, add --trust-code."
        )


class RunProgress:
    """The progress of a run on the terminal; Ctrl-C and SIGTERM end it with one sentence and exit code 130.

    They raise ``KeyboardInterrupt`` within; where a library swallows that, it comes again when the unit is done. A second signal ends the
    process at once.

    Args:
        output: The folder of results, to be named when the run is interrupted.
    """

    def __init__(self, output: Path) -> None:
        self.sentence = f"Interrupted; what was finished is in {output}. The same command goes on from there."
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images"),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=err)
        self.task = self.progress.add_task("Starting …", total=None, start=False)
        self.observer = Observer(note, self._stage, self._begin, self._advance)
        self.interrupted = False
        self.handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self.handlers = take_over(self._interrupt)
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.progress.stop()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            note(self.sentence)
            raise SystemExit(INTERRUPTED) from None
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self.interrupted = True
        leave_at_next(self.sentence)
        raise KeyboardInterrupt

    def _stage(self, text: str) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.progress.update(self.task, description=escape(text))

    def _begin(self, total: int, done: int) -> None:
        if done:
            note(f"{done} of {total} images are stored already.")
        self.progress.start_task(self.task)
        self.progress.update(self.task, total=total - done, description="Evaluating")

    def _advance(self, images: int, pair: str) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.progress.update(self.task, advance=images, description=escape(pair))


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.2f}/s", style="progress.data.speed")


def _print_summary(evaluation: Evaluation, summary: RunResult) -> None:
    for (pair, metric), (number, reason) in list(summary.reasons.items())[:_SHOWN]:
        note(f"{counted(number, 'failed row')} of {pair} × {metric}; the first: {reason}")
    if len(summary.reasons) > _SHOWN:
        note(f"{len(summary.reasons) - _SHOWN} more pairs and metrics have failed rows; their column `reason` says why.")
    if summary.left_out:
        note(f"{len(summary.left_out)} left out, as said above: {', '.join(summary.left_out)}.")
    failed = f", {summary.failed} of them failed; --redo-failed computes those again" if summary.failed else ""
    new = f"{counted(summary.rows, 'new row')}{failed}" if summary.rows else "Nothing was missing"
    out.print(f"{new} → [bold]{escape(str(evaluation.output))}[/]", highlight=False)


def _forecast(evaluation: Evaluation) -> None:
    with err.status("Looking at what is there …") as status:
        found = list(forecast(evaluation, Observer(note, lambda text: status.update(escape(text)))))
    header = ("method", "units", "images", "rows", "stored images", "time")
    print_grid(Grid("Missing of each model × method", header, tuple(tuple(map(Cell, _forecast_line(line))) for line in found)))
    for line in found:
        for text in line.left_out:
            note(f"Left out: {line.pair} × {text}")
    _print_total(evaluation, found)


def _forecast_line(line: Forecast) -> tuple[str, ...]:
    time = "–" if line.seconds is None else duration(line.seconds)
    return line.pair, str(line.units), str(line.images), str(line.rows), str(line.done), time


def _print_total(evaluation: Evaluation, found: Sequence[Forecast]) -> None:
    seconds = sum(line.seconds or 0.0 for line in found)
    sample = max((line.sample for line in found), default=0)
    rows = sum(line.rows for line in found)
    basis = f"measured in this process on {counted(sample, 'image')} of each pair" if sample else "nothing is missing"
    out.print(
        f"{counted(rows, 'row')} to compute, about {duration(seconds)} ({basis}); nothing was written to {evaluation.output}.",
        highlight=False,
    )


def duration(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
