"""``relprop explain``: photos in, pictures and numbers out."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from relprop import Explainer, Explanation
from relprop.cli.options import parse_device, parse_options
from relprop.cli.terminal import complain, describe, err, note, out
from relprop.errors import OutputError
from relprop.images import Photo, check_photo, open_photo
from relprop.output import atomic, check_writable, make_folder
from relprop.version import __version__
from relprop.viz import check_picture_format, plot_explanation, save_figure
from relprop.zoo import LoadedModel, Top, class_name, load, resolve_target


@dataclass(frozen=True)
class Job:
    """What the user asked for."""

    photos: tuple[Path, ...]
    model: str
    weights: Path | None
    method: str
    options: tuple[str, ...]
    targets: tuple[str, ...]
    output: Path
    npy: bool
    json: bool
    percentile: float
    device: str


@dataclass(frozen=True)
class Tools:
    """What explains every photo of a job."""

    loaded: LoadedModel
    explainer: Explainer
    targets: tuple[int | Top, ...]
    device: torch.device


def explain_photos(job: Job) -> bool:
    """Explain every photo; one that cannot be explained is reported and the others are done. Return whether all were."""
    pictures = _pictures(job)
    failed = [path for path in pictures if not _attempt(job, path, partial(check_photo, path))]
    if len(failed) < len(pictures):
        tools = _tools(job)
        for text in (*tools.loaded.notes, *tools.explainer.plan.notes):
            note(text)
        todo = {path: picture for path, picture in pictures.items() if path not in failed}
        with _progress(len(todo)) as progress:
            for path, picture in progress.track(todo.items(), description="Explaining"):
                if not _attempt(job, path, partial(_explain_photo, job, tools, path, picture)):
                    failed.append(path)
    if failed:
        complain(f"{len(failed)} of {len(pictures)} photos could not be explained: {', '.join(map(str, failed))}.")
    return not failed


def _attempt(job: Job, path: Path, work: Callable[[], None]) -> bool:
    """Do the work for one of several photos; report what it raises and return whether it went well."""
    try:
        work()
    except Exception as error:
        if len(job.photos) == 1:
            raise
        complain(f"{path}: {describe(error)}")
        return False
    return True


def _pictures(job: Job) -> dict[Path, Path]:
    """Choose each photo's output, and make sure that it can be written and overwrites no photo."""
    photos = list(dict.fromkeys(job.photos))
    if job.output.suffix and not job.output.is_dir():
        if len(photos) > 1:
            raise OutputError(f"{job.output} is one file for {len(photos)} photos; give a folder.")
        pictures = [job.output]
    else:
        make_folder(job.output)
        pictures = _distinct([job.output / f"{photo.stem}-{job.method}.png" for photo in photos])
    sources = {photo.resolve() for photo in photos}
    for picture in pictures:
        check_picture_format(picture)
        for path in (picture, *(picture.with_suffix(suffix) for suffix in _extra_suffixes(job))):
            if path.resolve() in sources:
                raise OutputError(f"The output {path} is one of the photos; choose another with --output.")
            check_writable(path)
    return dict(zip(photos, pictures, strict=True))


def _distinct(paths: Sequence[Path]) -> list[Path]:
    """Number the later ones of equal names, so that no output overwrites another."""
    taken: dict[Path, None] = {}
    for path in paths:
        names = (path.with_stem(f"{path.stem}-{number}") if number > 1 else path for number in range(1, len(paths) + 1))
        taken[next(name for name in names if name not in taken)] = None
    return list(taken)


def _extra_suffixes(job: Job) -> list[str]:
    return [".npy"] * job.npy + [".json"] * job.json


def _tools(job: Job) -> Tools:
    device = parse_device(job.device)
    options = parse_options(job.options)
    with err.status(f"Loading {job.model} …"):
        loaded = load(job.model, job.weights)
        targets = tuple(resolve_target(text, loaded.labels) for text in job.targets)
    with err.status(f"Capturing {job.model} …"):
        size = loaded.preprocessing.size
        example = torch.zeros(1, len(loaded.preprocessing.channels), *size, device=device)
        explainer = Explainer(loaded.model.to(device), example, method=job.method, **options)
    return Tools(loaded, explainer, targets, device)


def _explain_photo(job: Job, tools: Tools, path: Path, picture: Path) -> None:
    photo = open_photo(path)
    for text in photo.notes:
        note(text)
    cropped = tools.loaded.preprocessing.crop(photo.image)
    inputs = tools.loaded.preprocessing.normalize(cropped)[None].to(tools.device)
    explanation = tools.explainer(inputs, _target(tools, inputs))
    title = f"{job.method}  ·  {job.model}  ·  {path.name}"
    figure = plot_explanation(explanation, [cropped], tools.loaded.labels, title=title, percentile=job.percentile)
    save_figure(figure, picture)
    if job.npy:
        with atomic(picture.with_suffix(".npy")) as temporary, temporary.open("wb") as file:
            np.save(file, explanation.relevance[0].cpu().numpy())
    if job.json:
        with atomic(picture.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(_record(job, tools, photo, explanation), indent=2) + "\n", "utf-8")
    _print_result(tools.loaded, path, picture, explanation)


def _target(tools: Tools, inputs: Tensor) -> int | Tensor | None:
    """Return None for the predicted class, a class, or ``(1, K)`` classes."""
    if not tools.targets:
        return None
    ranked = tools.explainer(inputs).logits[0].argsort(descending=True).tolist() if _has_top(tools.targets) else []
    listed = [ranked[: target.count] if isinstance(target, Top) else [target] for target in tools.targets]
    classes = list(dict.fromkeys(index for part in listed for index in part))
    return classes[0] if len(classes) == 1 else torch.tensor([classes])


def _has_top(targets: Sequence[int | Top]) -> bool:
    return any(isinstance(target, Top) for target in targets)


def _record(job: Job, tools: Tools, photo: Photo, explanation: Explanation) -> dict[str, Any]:
    """Return the numbers of one explanation: the explained classes with their sums, the predicted ones, and how it was made."""
    logits = explanation.logits[0]
    probabilities = logits.softmax(0)

    def scores(index: int) -> dict[str, Any]:
        name = class_name(index, tools.loaded.labels)
        return {"class": index, "name": name, "logit": float(logits[index]), "probability": float(probabilities[index])}

    targets = explanation.target[0].reshape(-1).tolist() if explanation.target is not None else []
    sums = explanation.relevance[0].reshape(len(targets), -1).double().sum(1).tolist()
    absorbed = explanation.absorbed[0].reshape(-1).tolist()
    explained = [
        scores(index) | {"relevance": total, "absorbed": lost} for index, total, lost in zip(targets, sums, absorbed, strict=True)
    ]
    return {
        "photo": str(photo.path),
        "model": job.model,
        "weights": str(job.weights) if job.weights else None,
        "method": job.method,
        "options": parse_options(job.options),
        "explained": explained,
        "predicted": [scores(index) for index in logits.topk(min(5, len(logits))).indices.tolist()],
        "notes": [*photo.notes, *explanation.notes],
        "versions": {"relprop": __version__, "torch": torch.__version__},
    }


def _print_result(loaded: LoadedModel, path: Path, picture: Path, explanation: Explanation) -> None:
    best = int(explanation.logits[0].argmax())
    probability = float(explanation.logits[0].softmax(0)[best])
    what = f"{class_name(best, loaded.labels)} ({probability:.0%})"
    out.print(f"{escape(str(path))}: {escape(what)} → [bold]{escape(str(picture))}[/]", highlight=False)


def _progress(count: int) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=count == 1)
