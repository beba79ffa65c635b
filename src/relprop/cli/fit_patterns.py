"""``relprop fit-patterns``: the patterns of a model's layers from a folder of images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from relprop.cli.options import model_and_weights, parse_device
from relprop.cli.terminal import complain, err, note, out
from relprop.errors import InputError, OptionError
from relprop.files import check_writable, make_folder
from relprop.images import open_photo
from relprop.methods.pattern_fit import PatternFit, save_patterns, state_note
from relprop.text import counted
from relprop.zoo import LoadedModel, load

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ppm"})
_BATCHES_BETWEEN_SAVES = 20


@dataclass(frozen=True)
class FitJob:
    """What the user asked for."""

    data: Path
    output: Path
    model: str
    weights: Path | None
    limit: int | None
    batch_size: int
    device: str


def fit_from_folder(job: FitJob) -> None:
    """Fit patterns on all images of a folder; an interrupted fit resumes from its last save."""
    if job.output.suffix != ".safetensors":
        raise OptionError(f"The output {job.output} must end in .safetensors.")
    if job.batch_size < 1:
        raise OptionError(f"The batch size {job.batch_size} must be at least 1.")
    model, weights = model_and_weights(job.model, job.weights)
    job = replace(job, model=model, weights=weights)
    check_writable(job.output)
    paths = find_images(job.data, job.limit)
    device = parse_device(job.device)
    with err.status(f"Loading {escape(job.model)} …"):
        loaded = load(job.model, job.weights)
    with err.status(f"Capturing {escape(job.model)} …"):
        fit = PatternFit(loaded.model.to(device), loaded.preprocessing.zeros(device))
    skipped = _run(job, fit, loaded, paths, device)
    patterns = fit.patterns()
    make_folder(job.output.parent)
    save_patterns(patterns, job.output, fit.samples)
    _partial(job).unlink(missing_ok=True)
    blind = sum(1 for key, value in patterns.items() if key.endswith("/relu") and not bool(value.any()))
    if blind:
        note(f"{counted(blind, 'layer')} never opened a ReLU on these images; their patterns are zero.")
    if skipped:
        complain(f"{skipped} of {counted(len(paths), 'image')} could not be read; the fit leaves them out.")
    what = f"{counted(len(fit.layers), 'layer')}, {counted(fit.samples, 'image')}"
    out.print(f"{what} → [bold]{escape(str(job.output))}[/]", highlight=False)


def find_images(folder: Path, limit: int | None) -> list[Path]:
    """Return the image files under a folder, in the order of their paths.

    Raises:
        InputError: There is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise InputError(f"The folder {folder} has no images ({', '.join(sorted(SUFFIXES))}).")
    return paths[:limit]


def _partial(job: FitJob) -> Path:
    return job.output.with_suffix(".partial.safetensors")


def _fingerprint(job: FitJob, paths: Sequence[Path]) -> str:
    """Return a hash of what the running sums depend on: model, weights, batch size, images and their order."""
    listed = "\n".join(f"{p.relative_to(job.data)} {p.stat().st_size}" for p in paths)
    weights = f"{job.weights} {job.weights.stat().st_size}" if job.weights else ""
    return hashlib.sha256(f"{job.model}\n{weights}\n{job.batch_size}\n{listed}".encode(errors="surrogateescape")).hexdigest()


def _run(job: FitJob, fit: PatternFit, loaded: LoadedModel, paths: Sequence[Path], device: torch.device) -> int:
    """Feed the images; return how many could not be read. Sums are saved with the number of batches done in their note."""
    fingerprint, partial = _fingerprint(job, paths), _partial(job)
    batches = [paths[i : i + job.batch_size] for i in range(0, len(paths), job.batch_size)]
    done = _resume(fit, partial, fingerprint, len(batches))
    skipped = sum(len(batch) for batch in batches[:done]) - fit.samples
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("Fitting patterns", total=len(paths), completed=fit.samples + skipped)
        for number, batch in enumerate(batches[done:], done + 1):
            images = [image for path in batch if (image := _read(path, loaded)) is not None]
            if images:
                fit.update(torch.stack(images).to(device))
            skipped += len(batch) - len(images)
            progress.advance(task, len(batch))
            if number % _BATCHES_BETWEEN_SAVES == 0 and number < len(batches) and fit.sums:
                make_folder(partial.parent)
                fit.save_state(partial, f"{fingerprint} {number}")
    return skipped


def _resume(fit: PatternFit, partial: Path, fingerprint: str, batches: int) -> int:
    """Load the running sums of an interrupted fit with the same fingerprint; return how many batches they hold."""
    if not partial.exists():
        return 0
    of, _, number = state_note(partial).partition(" ")
    if of != fingerprint:
        note(f"{partial} is of other images, weights or another model; starting anew.")
        return 0
    fit.load_state(partial)
    note(f"Going on with {partial}: {number} of {batches} batches are done.")
    return int(number)


def _read(path: Path, loaded: LoadedModel) -> Tensor | None:
    try:
        return loaded.preprocessing.tensor(open_photo(path).image)
    except InputError as error:
        complain(str(error))
        return None
