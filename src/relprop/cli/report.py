"""``relprop report``: the summary of a results folder on the terminal and in files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from relprop.cli.terminal import note, out
from relprop.errors import OptionError
from relprop.evaluation.report.escape import block, inline
from relprop.evaluation.report.figures import write_figures
from relprop.evaluation.report.grids import NAMING, Cell, Grid, grids
from relprop.evaluation.report.opened import open_results
from relprop.evaluation.report.page import write_html
from relprop.evaluation.report.report import Report, markdown_grid
from relprop.evaluation.report.summarize import report
from relprop.files import check_writable, make_folder, write_text

FORMATS: dict[str, tuple[str, Callable[[Report], str]]] = {
    "md": (".md", Report.markdown),
    "csv": (".csv", Report.csv),
    "latex": (".tex", Report.latex),
}
_BY_SUFFIX = {suffix: name for name, (suffix, _) in FORMATS.items()}


@dataclass(frozen=True)
class ReportJob:
    """What the user asked for."""

    results: Path
    baseline: str | None
    format: str | None
    output: Path | None
    metrics: tuple[str, ...]
    figures: Path | None
    page: Path | None
    images: int


def report_results(job: ReportJob) -> None:
    """Print the summary, or write it where the job says."""
    if job.format is not None and job.format not in FORMATS:
        raise OptionError(f"There is no format {job.format!r}; there are {', '.join(FORMATS)}.")
    if job.page is not None:
        check_writable(job.page)
    found = report(job.results, baseline=_baseline(job), metrics=job.metrics)
    if job.format and not job.output:
        out.print(FORMATS[job.format][1](found), markup=False, highlight=False, end="")
    else:
        print_report(found)
    for line in (*found.notes, *map(str, found.failures)):
        note(line)
    written = write_report(found, job.output, job.format) if job.output else []
    written += write_figures(found, job.figures) if job.figures else []
    if job.page is not None:
        write_html(found, job.results, job.page, metrics=job.metrics, images=job.images)
        written.append(job.page)
    for path in written:
        out.print(f"→ [bold]{escape(str(path))}[/]", highlight=False)


def _baseline(job: ReportJob) -> str | None:
    """Return the user's baseline; of a page the first method, where there are several, since a page shows paired differences."""
    if job.baseline or job.page is None:
        return job.baseline
    methods = open_results(job.results).methods
    return methods[0] if len(methods) > 1 else None


def write_report(found: Report, output: Path, format_name: str | None) -> list[Path]:
    """Write one file, its format given or told by its suffix; or a folder with all formats, the curves and what failed.

    A file without a suffix gets that of its format.

    Raises:
        OptionError: A file of an unknown suffix.
        OutputError: A file that cannot be written.
    """
    if format_name or output.suffix:
        name = format_name or _BY_SUFFIX.get(output.suffix)
        if name is None:
            raise OptionError(f"{output} must end in {', '.join(_BY_SUFFIX)}, or be a folder; or say which --format it is.")
        texts = {_file(output, FORMATS[name][0]): FORMATS[name][1](found)}
    else:
        texts = {output / f"report{suffix}": write(found) for suffix, write in FORMATS.values()}
        texts |= {output / "curves.csv": found.curves_csv()} if any(table.curves for table in found.tables) else {}
        texts |= {output / "failures.csv": found.failures_csv()} if found.failures else {}
    for path, text in texts.items():
        make_folder(path.parent)
        write_text(path, text)
    return list(texts)


def _file(output: Path, suffix: str) -> Path:
    if output.is_dir():
        return output / f"report{suffix}"
    return output if output.suffix else output.with_suffix(suffix)


def print_report(found: Report) -> None:
    """Print the tables of every model and metric."""
    for table in found.tables:
        for grid in grids(table):
            print_grid(grid, f"{table.model}: ")
    out.print(found.method, style="dim")


def print_grid(grid: Grid, prefix: str = "") -> None:
    """Print a grid as a table where a terminal is wide enough; else, and in pipes, as Markdown: a table, or a list where that is too wide."""
    drawn = draw_grid(grid, prefix)
    if out.is_terminal and Measurement.get(out, out.options.update(max_width=10_000), drawn).maximum <= out.width:
        out.print(drawn)
        return
    lines = markdown_grid(grid).splitlines()
    if max(map(cell_len, lines)) > out.width:
        lines = [line for cells in grid.rows for line in _as_list(grid.header, cells, out.width)]
    out.print("\n".join([block(prefix + grid.caption), "", *lines, ""]), markup=False, highlight=False)


def _as_list(header: Sequence[str], cells: Sequence[Cell], width: int) -> list[str]:
    first, *rest = cells
    texts = [(f"  - {block(name)}:", inline(cell.text)) for name, cell in zip(header[1:], rest, strict=True)]
    fit = [[f"{name} {text}"] if cell_len(f"{name} {text}") <= width else [name, f"    {text}"] for name, text in texts]
    return [f"- {block(first.text)}", *(line for lines in fit for line in lines)]


def draw_grid(grid: Grid, prefix: str = "") -> Table:
    """Return a grid as a table for the terminal."""
    drawn = Table(title=escape(prefix + grid.caption), title_justify="left", title_style="bold")
    for name in grid.header:
        method = name in NAMING
        drawn.add_column(escape(name.replace("_", " ")), justify="left" if method else "right", no_wrap=True)
    for cells in grid.rows:
        drawn.add_row(*_styled(cells))
    return drawn


def _styled(cells: Sequence[Cell]) -> list[str]:
    """Return the cells with the interval below its score."""
    texts = [escape(cell.text.replace(" [", "\n[").replace(" (", "\n(")) for cell in cells]
    return [f"[bold green]{text}[/]" if cell.bold else text for cell, text in zip(cells, texts, strict=True)]
