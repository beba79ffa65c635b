"""``relprop explain --html``: photos in, one page with the maps of all methods out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape

from relprop.cli.hints import note_misfit
from relprop.cli.options import model_and_weights, parse_device, parse_options
from relprop.cli.terminal import complain, describe, err, note, out, progress
from relprop.cli.tools import Classifier, load_classifier
from relprop.errors import InputError, OptionError, OutputError
from relprop.explainer import Explainer
from relprop.explanation import Explanation
from relprop.files import check_writable
from relprop.images import open_photo
from relprop.methods import choose_method
from relprop.pages import Card, Gallery, MethodTile, write_page
from relprop.pages.gallery import side_for
from relprop.text import counted, split_list
from relprop.version import __version__
from relprop.viz import Look
from relprop.viz.classes import predicted_class
from relprop.viz.subjects import Subject, foot_of, subjects_of
from relprop.zoo import Own


@dataclass(frozen=True)
class GalleryJob:
    """What the user asked for; ``photos`` are called by their names on the page."""

    photos: Mapping[Path, str]
    model: str
    weights: Path | None
    methods: str
    options: tuple[str, ...]
    targets: tuple[str, ...]
    page: Path
    look: Look
    device: str
    own: Own


def make_gallery(job: GalleryJob) -> bool:
    """Explain every photo by every method and write the page. Return whether all photos are on it.

    Raises:
        OptionError: Two methods of one name, or options that could be for several.
        OutputError: The page would overwrite a photo, or cannot be written.
        InputError: Not one photo could be explained.
    """
    if job.page.resolve() in {photo.resolve() for photo in job.photos}:
        raise OutputError(f"The page {job.page} is one of the photos; choose another name.")
    check_writable(job.page)
    texts, options = list(dict.fromkeys(split_list(job.methods))), parse_options(job.options)
    if options and len(texts) > 1:
        raise OptionError("--option could be for any of the methods; write an option after its method: rap:start=signed.")
    name, weights = model_and_weights(job.model, job.weights)
    device = parse_device(job.device)
    methods = {text: choose_method(text, options) for text in texts}
    classifier = load_classifier(name, weights, job.targets, device, job.own)
    with err.status(f"Capturing {escape(name)} …"):
        explainers = {text: classifier.explainer(method, {}) for text, method in methods.items()}
    for text in dict.fromkeys((*classifier.loaded.notes, *(text for one in explainers.values() for text in one.plan.notes))):
        note(text)
    failed: list[str] = []
    gallery = Gallery(
        list(explainers),
        _cards(job, classifier, explainers, failed),
        notes=foot_of(list(explainers), job.look),
        side=side_for(len(job.photos) * len(explainers)),
        opacity=job.look.opacity,
    )
    made = write_page(job.page, f"{name}: {', '.join(explainers)}", _data(job, name, weights), gallery)
    out.print(f"{counted(made, 'photo')} → [bold]{escape(str(job.page))}[/]", highlight=False)
    if failed:
        complain(f"{len(failed)} of {len(job.photos)} photos could not be explained: {', '.join(failed)}.")
    return not failed


def _cards(job: GalleryJob, classifier: Classifier, explainers: Mapping[str, Explainer], failed: list[str]) -> Iterator[Card]:
    """Yield the card of each photo; one that cannot be explained is reported and named in ``failed``."""
    seen: list[torch.Tensor | None] = []
    with progress(len(job.photos)) as bar:
        for path, called in bar.track(job.photos.items(), total=len(job.photos), description="Explaining"):
            try:
                card, logits = _card(job, classifier, explainers, path, called)
            except Exception as error:  # one photo's failure must not lose the others
                if len(job.photos) == 1:
                    raise
                complain(f"{path}: {describe(error)}")
                failed.append(str(path))
            else:
                seen.append(logits)
                yield card
    if not seen:
        raise InputError("Not one photo could be explained, so there is no page.")
    note_misfit([logits for logits in seen if logits is not None], classifier.captured.activation)


def _card(
    job: GalleryJob, classifier: Classifier, explainers: Mapping[str, Explainer], path: Path, called: str
) -> tuple[Card, torch.Tensor | None]:
    """Explain one photo by every method; the first that succeeds decides the classes. Return its logits too, where they are of classes."""
    photo = open_photo(path)
    for text in photo.notes:
        note(f"{path}: {text}")
    cropped, inputs = classifier.prepare(photo.image)
    tiles: list[MethodTile] = []
    first: Explanation | None = None
    for name, explainer in explainers.items():
        try:
            explanation = explainer(inputs, classifier.target(explainer, inputs) if first is None else first.target)
            (subject,) = subjects_of(explanation, [cropped], classifier.loaded.labels, job.look)
        except Exception as error:  # one method's failure must not lose the others
            if len(explainers) == 1:
                raise
            tiles.append(MethodTile(name, describe(error)))
        else:
            first = first or explanation
            tiles += _tiles(name, subject)
    if first is None:
        raise InputError(f"No method could explain it: {tiles[0].view}")
    found = predicted_class(first, 0, classifier.loaded.labels)
    targets = [] if first.target is None else first.target.reshape(-1).tolist()
    (subject,) = subjects_of(first, [cropped], classifier.loaded.labels, job.look)
    probability = float(first.probabilities[0, targets[0]]) if len(targets) == 1 else float("nan")
    explained = subject.names[0].name if len(subject.names) == 1 else ""
    card = Card(
        called, cropped, tiles, explained=explained, probability=probability, predicted="" if found is None else found[0].name
    )
    return card, None if found is None else first.logits.detach().cpu()


def _tiles(method: str, subject: Subject) -> list[MethodTile]:
    """Return a tile per map, named by its class where there are several."""
    names = [named.name for named in subject.names] if len(subject.views) > 1 else [""]
    return [MethodTile(method, view, name) for view, name in zip(subject.views, names, strict=True)]


def _data(job: GalleryJob, name: str, weights: Path | None) -> dict[str, Any]:
    entries = [("model", name), ("weights", str(weights) if weights else "the model's own"), ("methods", job.methods)]
    entries += [("options", ", ".join(job.options))] * bool(job.options)
    entries += [("targets", ", ".join(job.targets) or "the predicted class")]
    versions = [("relprop", __version__), ("torch", str(torch.__version__))]
    return {
        "lead": counted(len(job.photos), "photo"),
        "notes": [],
        "tables": [],
        "failures": [],
        "settings": [("Run", entries), ("Versions", versions)],
    }
