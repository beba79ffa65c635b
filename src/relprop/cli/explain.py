"""``relprop explain``: photos in, pictures and numbers out."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.markup import escape
from torch import Tensor

from relprop.cli.hints import note_misfit
from relprop.cli.options import method_label, model_and_weights, parse_device, parse_options
from relprop.cli.outputs import choose_pictures, save_relevance
from relprop.cli.photos import photos_in
from relprop.cli.terminal import complain, describe, err, note, out, progress
from relprop.cli.tools import Classifier, Tiles, load_classifier
from relprop.errors import OptionError
from relprop.explainer import Explainer
from relprop.explanation import Explanation
from relprop.files import make_folder, write_text
from relprop.images import Photo, check_photo, open_photo
from relprop.text import class_name, percent, split_options
from relprop.tiling import Tiled
from relprop.version import __version__
from relprop.viz import Framed, Look, plot_contrast, plot_explanation, plot_layers, plot_signs, save_figure
from relprop.zoo import LoadedModel, Own


@dataclass(frozen=True)
class FigureJob:
    """Which figure the user asked for, and its look.

    Attributes:
        look: Scale, smoothing and opacity.
        against: The rival of the explained class: a class, or ``"runner-up"``.
        outline: Cut the photo out along the region where the map is positive, in place of the overlay.
        signs: Draw the positive and the negative part side by side.
        layers: Modules whose relevance is drawn too.
        whole_photo: Draw over the whole photo, not the crop that the model sees.
    """

    look: Look
    against: str | None = None
    outline: bool = False
    signs: bool = False
    layers: tuple[str, ...] = ()
    whole_photo: bool = False

    def __post_init__(self) -> None:
        chosen = [
            name
            for name, given in (
                ("--against", self.against),
                ("--outline", self.outline),
                ("--signs", self.signs),
                ("--layer", self.layers),
            )
            if given
        ]
        if len(chosen) > 1:
            raise OptionError(f"{' and '.join(chosen)} ask for different figures; give one of them.")


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
    figure: FigureJob
    dpi: int
    device: str
    own: Own
    tiles: Tiles | None = None

    def __post_init__(self) -> None:
        asked = {"--against": self.figure.against, "--layer": self.figure.layers, "--whole-photo": self.figure.whole_photo}
        wrong = [name for name, given in asked.items() if given]
        if self.tiles is not None and wrong:
            raise OptionError(f"--tiles draws one map over the whole photo; leave out {' and '.join(wrong)}.")


@dataclass
class _Seen:
    """The notes that were said, and the logits of the photos, ``(1, C)`` each."""

    notes: set[str]
    logits: list[Tensor] = field(default_factory=list[Tensor])


def explain_photos(job: Job) -> bool:
    """Explain every photo; one that cannot be explained is reported and the others are done. Return whether all were."""
    job = replace(job, photos=tuple(photos_in(job.photos)))
    pictures = choose_pictures(job.photos, job.output, method_label(job.method), _extra_suffixes(job))
    failed = [path for path in pictures if not _attempt(job, path, partial(check_photo, path))]
    if len(failed) < len(pictures):
        device, options = parse_device(job.device), parse_options(job.options)
        name, weights = model_and_weights(job.model, job.weights)
        job = replace(job, model=name, weights=weights)
        classifier = replace(load_classifier(name, weights, job.targets, device, job.own), tiles=job.tiles)
        with err.status(f"Capturing {escape(name)} …"):
            explainer = classifier.explainer(job.method, options)
        said = {*classifier.loaded.notes, *explainer.plan.notes}
        for text in (*classifier.loaded.notes, *explainer.plan.notes):
            note(text)
        todo = {path: picture for path, picture in pictures.items() if path not in failed}
        seen = _Seen(said)
        with progress(len(todo)) as bar:
            for path, picture in bar.track(todo.items(), description="Explaining"):
                if not _attempt(job, path, partial(_explain_photo, job, classifier, explainer, path, picture, seen)):
                    failed.append(path)
        note_misfit(seen.logits, explainer.captured.activation)
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


def _extra_suffixes(job: Job) -> list[str]:
    return [".npy"] * job.npy + [".json"] * job.json


def _explain_photo(job: Job, classifier: Classifier, explainer: Explainer, path: Path, picture: Path, seen: _Seen) -> None:
    """Write the picture and the numbers of one photo; its logits join those seen, its notes those said."""
    photo = open_photo(path)
    for text in photo.notes:
        note(text)
    cropped, inputs = classifier.prepare(photo.image)
    target = classifier.target(explainer, inputs)
    if job.figure.against is not None:
        target = classifier.against(explainer, inputs, target, job.figure.against)
    explanation, tiled = classifier.explain(explainer, inputs, target, job.figure.layers)
    if explanation.target is not None:
        seen.logits.append(explanation.logits.detach().cpu())
    for text in explanation.notes:
        if text not in seen.notes:
            note(text)
    seen.notes.update(explanation.notes)
    shown = Framed(photo.image, classifier.loaded.preprocessing.window(photo.image)) if job.figure.whole_photo else cropped
    title = f"{explanation.method}  ·  {job.model}  ·  {path.name}"
    make_folder(picture.parent)
    save_figure(_figure(job.figure, explanation, shown, classifier.loaded.labels, title), picture, job.dpi)
    if job.npy:
        save_relevance(explanation, picture.with_suffix(".npy"))
    if job.json:
        record = _record(job, classifier.loaded, photo, explanation) | ({} if tiled is None else {"tiles": _tiles(tiled)})
        write_text(picture.with_suffix(".json"), json.dumps(record, indent=2) + "\n")
    _print_result(classifier.loaded, path, picture, explanation)


def _figure(
    job: FigureJob, explanation: Explanation, shown: Image.Image | Framed, labels: Sequence[str] | None, title: str
) -> Figure:
    """Draw the figure that the user asked for."""
    what, look = (explanation, [shown], labels), asdict(job.look)
    if job.against is not None:
        return plot_contrast(*what, title=title, **look)
    if job.signs:
        return plot_signs(*what, title=title, **look)
    if job.layers:
        return plot_layers(*what, title=title, **look)
    return plot_explanation(*what, title=title, outline=job.outline, **look)


def _record(job: Job, loaded: LoadedModel, photo: Photo, explanation: Explanation) -> dict[str, Any]:
    """Return the numbers of one explanation: what is explained with its sums, the predicted classes, and how it was made."""
    logits, classes = explanation.logits[0], explanation.target is not None
    probabilities = explanation.probabilities[0] if classes else logits

    def scores(index: int) -> dict[str, Any]:
        name = class_name(index, loaded.labels)
        return {"class": index, "name": name, "logit": float(logits[index]), "probability": float(probabilities[index])}

    if explanation.target is None:
        said = [{"target": explanation.words[0], "value": float(explanation.value[0])}]  # pyright: ignore[reportOptionalSubscript]
    else:
        said = [scores(index) for index in explanation.target[0].reshape(-1).tolist()]
    sums = explanation.relevance[0].reshape(len(said), -1).double().sum(1).tolist()
    absorbed = explanation.absorbed[0].reshape(-1).tolist()
    conserved = [None] * len(said) if explanation.conserved is None else explanation.conserved[0].reshape(-1).tolist()
    explained = [
        one | {"relevance": total, "absorbed": lost, "conserved": promised}
        for one, total, lost, promised in zip(said, sums, absorbed, conserved, strict=True)
    ]
    return {
        "photo": str(photo.path),
        "model": job.model,
        "weights": str(job.weights) if job.weights else None,
        "method": split_options(job.method)[0],
        "options": {**split_options(job.method)[1], **parse_options(job.options)},
        "explained": explained,
        "predicted": [scores(index) for index in logits.topk(min(5, len(logits))).indices.tolist()] if classes else [],
        "notes": [*photo.notes, *explanation.notes],
        "versions": {"relprop": __version__, "torch": torch.__version__},
    }


def _tiles(tiled: Tiled) -> list[dict[str, Any]]:
    """Return where every tile lies in the resized photo, left, top, right and bottom, and the explained numbers in it."""
    places = [[across.start, down.start, across.stop, down.stop] for down, across in tiled.tiles]
    return [{"box": box, "values": row.reshape(-1).tolist()} for box, row in zip(places, tiled.values[0], strict=True)]


def _print_result(loaded: LoadedModel, path: Path, picture: Path, explanation: Explanation) -> None:
    if explanation.target is None:
        what = f"{explanation.words[0]} (value {float(explanation.value[0]):.4g})"  # pyright: ignore[reportOptionalSubscript]
    else:
        best = int(explanation.logits[0].argmax())
        what = f"{class_name(best, loaded.labels)} ({percent(float(explanation.probabilities[0, best]))})"
    out.print(f"{escape(str(path))}: {escape(what)} → [bold]{escape(str(picture))}[/]", highlight=False)
