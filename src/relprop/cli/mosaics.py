"""``relprop mosaics``: a file of mosaics of the photos that models recognize."""

from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from relprop.cli.options import parse_device
from relprop.cli.terminal import err, note, out
from relprop.datasets import open_dataset, write_mosaics
from relprop.evaluation.mosaics import MosaicJob, make_mosaics
from relprop.files import check_writable
from relprop.text import counted


def mosaics_to_file(job: MosaicJob, output: Path) -> None:
    """Make mosaics and write them.

    Raises:
        RelpropError: As ``relprop.evaluation.mosaics.make_mosaics``; or the file cannot be written.
    """
    check_writable(output)
    parse_device(job.device)
    photos = len(open_dataset(job.data, **job.options))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("Looking at photos", total=min(photos, job.limit or photos))
        mosaics, notes = make_mosaics(job, lambda done: progress.update(task, completed=done))
    for text in notes:
        note(text)
    write_mosaics(mosaics, output)
    what = f"{counted(len(mosaics.cells), 'mosaic')} of {job.grid} × {job.grid} photos"
    out.print(f"{what} → [bold]{escape(str(output))}[/]", highlight=False)
