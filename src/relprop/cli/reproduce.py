"""``relprop reproduce``: a paper's experiment, our numbers beside the published ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from relprop.cli.evaluate import RunProgress
from relprop.cli.options import parse_device
from relprop.cli.report import print_grid
from relprop.cli.terminal import note, out
from relprop.errors import OptionError
from relprop.evaluation.papers.reproduction import Reproduction, Sources, of_models, protocol_named, reproduce
from relprop.evaluation.papers.tables import reproduction_csv, reproduction_grids, reproduction_markdown
from relprop.evaluation.report.figures import write_figures
from relprop.files import check_writable, write_text


@dataclass(frozen=True)
class ReproduceJob:
    """What the user asked for."""

    name: str
    data: Mapping[str, Path | None]
    output: Path
    models: Sequence[str]
    weights: Sequence[str]
    patterns: Sequence[str]
    limit: int | None
    device: str
    batch_size: int


def reproduce_paper(job: ReproduceJob) -> None:
    """Run the experiment, print the comparison and write it to the folder.

    Raises:
        RelpropError: As ``relprop.evaluation.papers.reproduction.reproduce``.
        SystemExit: With code 130 where the run was interrupted.
    """
    protocol = protocol_named(job.name)
    protocol = of_models(protocol, job.models) if job.models else protocol
    parse_device(job.device)
    data = {part: path for part, path in job.data.items() if path is not None}
    files = (_files(job.weights, "weights"), _files(job.patterns, "patterns"))
    check_writable(job.output / f"{protocol.name}.md")
    sources = Sources(data, *files, job.limit, job.device, job.batch_size)
    with RunProgress(job.output) as terminal:
        found = reproduce(protocol, sources, job.output, terminal.observer, note)
    for grid in reproduction_grids(found):
        print_grid(grid)
    for path in write_reproduction(found, job.output):
        out.print(f"→ [bold]{escape(str(path))}[/]", highlight=False)


def write_reproduction(found: Reproduction, folder: Path) -> list[Path]:
    """Write the comparison, the full report of each part, and figures of what has curves.

    Raises:
        OutputError: A file that cannot be written.
    """
    name = found.protocol.name
    texts = {folder / f"{name}.md": reproduction_markdown(found), folder / f"{name}.csv": reproduction_csv(found)}
    texts |= {folder / f"{name}-{part}-report.md": report.markdown() for part, report in found.reports.items()}
    for path, text in texts.items():
        write_text(path, text)
    curves = [report for report in found.reports.values() if any(table.curves for table in report.tables)]
    return [*texts, *(path for report in curves for path in write_figures(report, folder / "figures"))]


def _files(texts: Sequence[str], what: str) -> dict[str, Path]:
    pairs = [text.partition("=") for text in texts]
    for text, (model, _, file) in zip(texts, pairs, strict=True):
        if not model or not file:
            raise OptionError(f"--{what} {text} is not of the form MODEL=FILE.")
        if not Path(file).is_file():
            raise OptionError(f"There is no file {file} for --{what} {text}.")
    return {model: Path(file) for model, _, file in pairs}
