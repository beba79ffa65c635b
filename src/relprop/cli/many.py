"""``relprop explain --maps``: many photos in, a map in a file for each and an index of all out; an interrupted run resumes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.markup import escape
from torch import Tensor

from relprop.cli.ahead import ahead
from relprop.cli.hints import note_misfit
from relprop.cli.interrupts import INTERRUPTED, leave_at_next
from relprop.cli.items import Item, items_in
from relprop.cli.journal import INDEX, Entry, Journal, locked, write_index
from relprop.cli.options import model_and_weights, parse_device, parse_options
from relprop.cli.outputs import save_relevance
from relprop.cli.terminal import complain, describe, err, note, out, progress
from relprop.cli.tools import Classifier, Tiles, load_classifier, read_targets
from relprop.errors import OptionError
from relprop.explainer import Explainer
from relprop.explanation import Explanation
from relprop.files import atomic, check_writable, make_folder
from relprop.images import open_photo
from relprop.methods import choose_method
from relprop.text import class_name, counted, split_options
from relprop.viz import Look, View, maps_of
from relprop.zoo import Own

FORMATS = ("safetensors", "npy", "png")
_SAID = 20
"""The most failures that are printed; the index holds all."""
_HINTED = 100
"""The photos whose logits the hint on misfits looks at."""


@dataclass(frozen=True)
class MapsJob:
    """What the user asked for.

    Attributes:
        sources: Photos, folders and manifests.
        maps: One of :data:`FORMATS`.
        workers: Threads that read photos.
    """

    sources: tuple[Path, ...]
    model: str
    weights: Path | None
    method: str
    options: tuple[str, ...]
    targets: tuple[str, ...]
    output: Path
    maps: str
    workers: int
    look: Look
    device: str
    own: Own
    tiles: Tiles | None = None


@dataclass(frozen=True)
class _Ready:
    """A photo as the model takes it, ``(1, C, H, W)``, what was done to get there, and the size and time of its file."""

    inputs: Tensor
    notes: tuple[str, ...]
    stamp: list[int]


@dataclass
class _Tally:
    """The photos by what became of them."""

    made: int = 0
    kept: int = 0
    failed: int = 0


def explain_many(job: MapsJob) -> bool:
    """Explain every photo that is not finished, and write the index. Return whether all could be explained.

    Raises:
        OptionError: An unknown format, or another option that cannot be used.
        InputError: There are no photos, a manifest cannot be read, or the folder holds a run of other settings.
        OutputError: The folder cannot be written to.
        SystemExit: With code 130 where the run was interrupted.
    """
    if job.maps not in FORMATS:
        raise OptionError(f"--maps takes {', '.join(FORMATS)}, not {job.maps}.")
    check_writable(job.output / INDEX)
    items, repeated = items_in(job.sources, job.output, f".{job.maps}")
    if repeated:
        note(f"{counted(repeated, 'photo')} named twice with the same target; each is explained once.")
    name, weights = model_and_weights(job.model, job.weights)
    device, options = parse_device(job.device), parse_options(job.options)
    classifier = replace(load_classifier(name, weights, job.targets, device, job.own), tiles=job.tiles)
    with err.status(f"Capturing {escape(name)} …"):
        explainer = classifier.explainer(choose_method(job.method, options), {})
    for text in (*classifier.loaded.notes, *explainer.plan.notes):
        note(text)
    with locked(job.output):
        journal = Journal(job.output, _settings(job, name, weights, options))
        try:
            tally = _run(job, items, classifier, explainer, journal)
        finally:
            journal.close()
    where = f"{counted(len(items), 'photo')}: {tally.made} explained, {tally.kept} were there"
    out.print(f"{where} → [bold]{escape(str(job.output / INDEX))}[/]", highlight=False)
    if tally.failed:
        complain(
            f"{tally.failed} of {counted(len(items), 'photo')} could not be explained; the column error of {job.output / INDEX} says why, "
            "and the same command tries them again."
        )
    return not tally.failed


def _settings(job: MapsJob, name: str, weights: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the maps: a run goes on only where all of it is the same."""
    method, inline = split_options(job.method)
    return {
        "model": [name, *_stamp(Path(name.rpartition(":")[0]))] if ".py:" in name else name,
        "weights": None if weights is None else [str(weights), *_stamp(weights)],
        "method": [method, *_stamp(Path(method))] if method.endswith(".toml") else method,
        "options": {**inline, **options},
        "targets": list(job.targets),
        "preprocessing and labels": {key: None if value is None else str(value) for key, value in asdict(job.own).items()},
        "tiles": None if job.tiles is None else asdict(job.tiles),
        "format": job.maps,
        "look": asdict(job.look) if job.maps == "png" else None,
    }


def _run(job: MapsJob, items: Sequence[Item], classifier: Classifier, explainer: Explainer, journal: Journal) -> _Tally:
    """Explain what is missing; whatever ends the run, the index holds what is finished."""
    todo = [item for item in items if not _finished(job.output, item, journal.get(item.key))]
    tally, seen = _Tally(kept=len(items) - len(todo)), list[Tensor]()
    if tally.kept and todo:
        note(f"{tally.kept} of {counted(len(items), 'photo')} are explained already.")
    try:
        with progress(len(todo)) as bar:
            task = bar.add_task("Explaining", total=len(todo))
            for item, ready in ahead(partial(_read, classifier), todo, job.workers):
                _record(job, item, partial(_explain, job, item, ready, classifier, explainer, seen), journal, tally)
                bar.advance(task)
    except KeyboardInterrupt:
        sentence = f"Interrupted; what was finished is in {job.output}. The same command goes on from there."
        leave_at_next(sentence)
        write_index(job.output, (item.key for item in items), journal)
        note(sentence)
        raise SystemExit(INTERRUPTED) from None
    write_index(job.output, (item.key for item in items), journal)
    note_misfit(seen, explainer.captured.activation)
    return tally


def _finished(folder: Path, item: Item, entry: Entry | None) -> bool:
    """Whether the map that the journal names is there, whole, and of the photo as it is now."""
    if entry is None or entry["error"] is not None or entry["file"] != item.file:
        return False
    try:
        return (folder / item.file).stat().st_size == entry["bytes"] and _stamp(item.path) == entry["photo"]
    except OSError:
        return False


def _stamp(path: Path) -> list[int]:
    """The size of a file and when it was changed; nothing where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return []
    return [found.st_size, found.st_mtime_ns]


def _read(classifier: Classifier, item: Item) -> _Ready | None:
    """Read a photo; None for a row of a manifest that names none."""
    if item.wrong is not None:
        return None
    stamp = _stamp(item.path)
    photo = open_photo(item.path)
    _, inputs = classifier.prepare(photo.image)
    return _Ready(inputs, photo.notes, stamp)


def _record(job: MapsJob, item: Item, work: Callable[[], Entry], journal: Journal, tally: _Tally) -> None:
    """Do the work for one photo and note in the journal what came of it; only the journal's own errors end the run."""
    try:
        entry = work()
    except Exception as error:  # one photo's failure must not lose the others
        said = describe(error)
        entry = {"file": None, "maps": [], "notes": [], "error": f"{item.where}: {said}" if item.where else said}
        tally.failed += 1
        if tally.failed <= _SAID:
            complain(f"{item.where or item.path}: {said}")
        if tally.failed == _SAID:
            note(f"Further failures stand in {job.output / INDEX} alone.")
    else:
        tally.made += 1
    journal.add(item.key, entry)


def _explain(
    job: MapsJob, item: Item, ready: Callable[[], _Ready | None], classifier: Classifier, explainer: Explainer, seen: list[Tensor]
) -> Entry:
    """Explain one photo, write its map, and return its entry."""
    photo = ready()
    if photo is None:
        raise OptionError(str(item.wrong))
    asked = replace(classifier, targets=read_targets([item.target], classifier.loaded.labels)) if item.target else classifier
    explanation, _ = asked.explain(explainer, photo.inputs, asked.target(explainer, photo.inputs))
    explanation = explanation.cpu()
    if explanation.target is not None and len(seen) < _HINTED:
        seen.append(explanation.logits)
    path = job.output / item.file
    make_folder(path.parent)
    _WRITERS[job.maps](explanation, path, job.look)
    notes = [*photo.notes, *(text for text in explanation.notes if text not in explainer.plan.notes)]
    entry = {"file": item.file, "bytes": path.stat().st_size, "photo": photo.stamp, "error": None}
    return {**entry, "notes": notes, "maps": _maps(explanation, classifier.loaded.labels)}


def _maps(explanation: Explanation, labels: Sequence[str] | None) -> list[Entry]:
    """The columns of the index that every map of a photo has of its own."""
    absorbed = explanation.absorbed[0].reshape(-1).tolist()
    if explanation.target is None:
        values = [] if explanation.value is None else explanation.value[0].reshape(-1).tolist()
        whats = [{"class_name": explanation.words[0], "logit": value} for value in values]
    else:
        logits, probabilities = explanation.logits[0], explanation.probabilities[0]
        whats = [
            {
                "class": index,
                "class_name": class_name(index, labels),
                "logit": float(logits[index]),
                "probability": float(probabilities[index]),
            }
            for index in explanation.target[0].reshape(-1).tolist()
        ]
    several = explanation.absorbed.dim() == 2
    found = zip(whats, absorbed, strict=True)
    return [{"map": number if several else None, **what, "absorbed": lost} for number, (what, lost) in enumerate(found)]


def _write_png(explanation: Explanation, path: Path, look: Look) -> None:
    """Write the heat maps in colors, those of several classes side by side, pixel by pixel."""
    pixels = [View(heatmap.numpy(), look=look).colors().pixels for heatmap in maps_of(explanation)[0]]
    with atomic(path) as temporary:
        Image.fromarray(np.concatenate(pixels, 1)).save(temporary)


_WRITERS: Mapping[str, Callable[[Explanation, Path, Look], None]] = {
    "safetensors": lambda explanation, path, _: explanation.save(path),
    "npy": lambda explanation, path, _: save_relevance(explanation, path),
    "png": _write_png,
}
"""What writes a map, by format."""
