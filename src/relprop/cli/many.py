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
from relprop.cli.journal import INDEX, Entry, Journal, columns_of, locked, write_index
from relprop.cli.options import model_and_weights, parse_device, parse_options
from relprop.cli.outputs import save_relevance
from relprop.cli.terminal import complain, describe, err, note, out, progress
from relprop.cli.together import Asked, Ready, Together, Waiting
from relprop.cli.tools import Classifier, Tiles, load_classifier, read_targets
from relprop.errors import OptionError
from relprop.explainer import Explainer
from relprop.explanation import Explanation
from relprop.files import atomic, check_writable, make_folder
from relprop.images import open_photo
from relprop.methods import choose_method
from relprop.text import counted, split_options
from relprop.viz import Look, View, maps_of
from relprop.zoo import Own

FORMATS = ("safetensors", "npy", "png")
BATCH_SIZE = 8
"""Photos that are explained at once, unless told."""
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
        batch_size: Photos, or tiles of one photo, that are explained at once.
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
    batch_size: int = BATCH_SIZE


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
            work = _Work(job, classifier, explainer, journal, tally, seen, partial(bar.advance, task))
            waiting = Waiting(1 if job.tiles else job.batch_size)
            for item, ready in ahead(partial(_read, classifier), todo, job.workers):
                photo = work.asked(item, ready)
                for group in () if photo is None else waiting.add(photo):
                    work.explain(group)
            for group in waiting.rest():
                work.explain(group)
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


def _read(classifier: Classifier, item: Item) -> Ready | None:
    """Read a photo; None for a row of a manifest that names none."""
    if item.wrong is not None:
        return None
    stamp = _stamp(item.path)
    photo = open_photo(item.path)
    _, inputs = classifier.prepare(photo.image)
    return Ready(inputs, photo.notes, stamp)


def _there(photo: Ready | None, item: Item) -> Ready:
    if photo is None:
        raise OptionError(str(item.wrong))
    return photo


class _Work:
    """What is done with every photo; only the journal's own errors end the run."""

    def __init__(
        self,
        job: MapsJob,
        classifier: Classifier,
        explainer: Explainer,
        journal: Journal,
        tally: _Tally,
        seen: list[Tensor],
        advance: Callable[[], None],
    ) -> None:
        self.job, self.classifier, self.explainer, self.journal = job, classifier, explainer, journal
        self.tally, self.seen, self.advance = tally, seen, advance
        self.together = Together(explainer)

    def asked(self, item: Item, ready: Callable[[], Ready | None]) -> Asked | None:
        """Return the photo with its target; None where it cannot be read or asked for that, which is noted in the journal."""
        try:
            photo = _there(ready(), item)
            return Asked(item, photo, self._of(item).target(self.explainer, photo.inputs))
        except Exception as error:  # one photo's failure must not lose the others
            self._fail(item, error)
            return None

    def explain(self, photos: Sequence[Asked]) -> None:
        """Explain photos in one batch, or each alone, and note in the journal what came of each."""
        found = self.together.explain(photos)
        notes: list[Sequence[str]] = []
        for place, photo in enumerate(photos):
            try:
                explanation = self._alone(photo) if found is None else found[place]
                notes.append(explanation.notes)
                entry = self._written(photo, explanation.cpu())
            except Exception as error:  # as above
                self._fail(photo.item, error)
                continue
            self.tally.made += 1
            self._note(photo.item, entry)
        if found is None and len(notes) == len(photos):
            self.together.learn(notes)

    def _of(self, item: Item) -> Classifier:
        labels = self.classifier.loaded.labels
        return replace(self.classifier, targets=read_targets([item.target], labels)) if item.target else self.classifier

    def _alone(self, photo: Asked) -> Explanation:
        return self.classifier.explain(self.explainer, photo.ready.inputs, photo.target, batch_size=self.job.batch_size)[0]

    def _written(self, photo: Asked, explanation: Explanation) -> Entry:
        """Write the map of a photo, and return its entry."""
        item, job = photo.item, self.job
        if explanation.target is not None and len(self.seen) < _HINTED:
            self.seen.append(explanation.logits)
        path = job.output / item.file
        make_folder(path.parent)
        _WRITERS[job.maps](explanation, path, job.look)
        notes = [*photo.ready.notes, *(text for text in explanation.notes if text not in self.explainer.plan.notes)]
        entry = {"file": item.file, "bytes": path.stat().st_size, "photo": photo.ready.stamp, "error": None}
        return {**entry, "notes": notes, "maps": columns_of(explanation, self.classifier.loaded.labels)}

    def _fail(self, item: Item, error: Exception) -> None:
        said, tally = describe(error), self.tally
        tally.failed += 1
        if tally.failed <= _SAID:
            complain(f"{item.where or item.path}: {said}")
        if tally.failed == _SAID:
            note(f"Further failures stand in {self.job.output / INDEX} alone.")
        self._note(item, {"file": None, "maps": [], "notes": [], "error": f"{item.where}: {said}" if item.where else said})

    def _note(self, item: Item, entry: Entry) -> None:
        self.journal.add(item.key, entry)
        self.advance()


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
