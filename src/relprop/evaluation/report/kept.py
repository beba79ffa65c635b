"""The gallery of a report, from the maps that a run kept."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from relprop.errors import RelpropError
from relprop.evaluation.compute.tasks import Pair
from relprop.evaluation.prepare import pair_file
from relprop.evaluation.report.opened import Key, Results
from relprop.evaluation.results.maps import Kept, kept_images, load_kept, map_files
from relprop.evaluation.settings import Choice, ModelChoice
from relprop.images import read_photo
from relprop.meaning import UNSAID, Meaning
from relprop.methods import choose_method
from relprop.metrics import METRICS
from relprop.pages import Card, Gallery, Measure, MethodTile
from relprop.pages.gallery import side_for
from relprop.viz import View
from relprop.viz.look import PLAIN
from relprop.viz.subjects import foot_of

IMAGES = 1000
"""The most cards of a report, unless told."""


class _Place(NamedTuple):
    """An image on a model, by the name of the model in reports."""

    model: str
    image: str


@dataclass
class _Scores:
    """What the rows say of every image: scores by (method, measure), and why a method failed."""

    measures: dict[str, Measure] = field(default_factory=dict[str, Measure])
    scores: dict[_Place, dict[tuple[str, str], float]] = field(default_factory=dict[_Place, dict[tuple[str, str], float]])
    failed: dict[tuple[_Place, str], str] = field(default_factory=dict[tuple[_Place, str], str])


def gallery_of(found: Results, metrics: Sequence[str], limit: int = IMAGES) -> Gallery | None:
    """Return the gallery of a run; None if it kept no maps.

    Args:
        found: The results.
        metrics: Names of the metrics by which cards can be sorted; empty for all.
        limit: The most cards. Of more images, those at equal distances from the worst to the best are taken.

    Raises:
        InputError: A file of maps is damaged.
    """
    models = {found.model(key): ModelChoice(key.model, *_weights(key)) for key in found.keys}
    methods = [Choice(**table) for table in found.settings["methods"]]
    files = {
        (model, str(method)): map_files(found.folder, pair_file(Pair(choice, method)))
        for model, choice in models.items()
        for method in methods
    }
    labels = [label for label in found.methods if any(files.get((model, label)) for model in models)]
    if not labels:
        return None
    rows = _scores(found, metrics)
    places = dict.fromkeys(
        _Place(model, image) for (model, _), paths in files.items() for path in paths for image in kept_images(path)
    )
    shown = _spread(list(places), rows, limit)
    cut = [f"{len(shown)} of {len(places)} images, at equal distances from the worst to the best."] * (len(shown) < len(places))
    meanings = {str(method): _meaning(method) for method in methods}
    cards = (
        card for model in models for card in _cards(model, {name: files[model, name] for name in labels}, meanings, rows, shown)
    )
    notes = (*foot_of(labels, PLAIN), *cut)
    return Gallery(labels, cards, list(rows.measures.values()), notes, side_for(len(shown) * len(labels)))


def _weights(key: Key) -> tuple[Path | None, bool]:
    named = key.weights in {"pretrained", "random"}
    return None if named else Path(key.weights), key.weights != "random"


def _scores(found: Results, metrics: Sequence[str]) -> _Scores:
    """Read the scores of single images; metrics on groups have none."""
    rows = _Scores()
    for key in found.chosen(metrics):
        spec, model = METRICS.get(key.metric), found.model(key)
        if spec is not None and spec.group > 1:
            continue
        known = {value.name: value for value in spec.values} if spec else {}
        for method, data in found.scored(key).items():
            rows.failed |= {(_Place(model, image), method): reason for image, reason in data.failed}
            for name, values in data.scores.items():
                measure, value = f"{key.label}: {name}", known.get(name)
                rows.measures.setdefault(measure, Measure(measure, value.direction, value.meaning) if value else Measure(measure))
                for image, score in zip(data.images.tolist(), values.tolist(), strict=True):
                    rows.scores.setdefault(_Place(model, image), {})[method, measure] = score
    return rows


def _spread(places: list[_Place], rows: _Scores, limit: int) -> set[_Place]:
    """Return at most so many images, at equal distances in the order of the mean score over methods by the first measure."""
    if len(places) <= limit:
        return set(places)
    first = next(iter(rows.measures), "")

    def quality(place: _Place) -> float:
        found = [score for (_, measure), score in rows.scores.get(place, {}).items() if measure == first and math.isfinite(score)]
        return float(np.mean(found)) if found else -math.inf

    ordered = sorted(places, key=quality)
    return {ordered[round(at)] for at in np.linspace(0, len(ordered) - 1, limit)}


def _cards(
    model: str, files: Mapping[str, Sequence[Path]], meanings: Mapping[str, Meaning], rows: _Scores, shown: set[_Place]
) -> Iterator[Card]:
    """Yield the cards of one model, block by block."""
    blocks = sorted({_block(path) for paths in files.values() for path in paths})
    for block in blocks:
        kept = {method: load_kept(path) for method, paths in files.items() for path in paths if _block(path) == block}
        images = dict.fromkeys(str(image) for one in kept.values() for image in one.images)
        for image in images:
            if _Place(model, image) in shown:
                yield _card(_Place(model, image), list(files), kept, meanings, rows)


def _block(path: Path) -> str:
    return path.stem.rpartition("-")[2]


def _card(
    place: _Place, methods: Sequence[str], kept: Mapping[str, Kept], meanings: Mapping[str, Meaning], rows: _Scores
) -> Card:
    found = {method: (one, int(at)) for method, one in kept.items() for at in np.flatnonzero(one.images == place.image)}
    first, at = next(iter(found.values()))
    explained, predicted, label = (str(name) for name in first.names[at])

    def tile(method: str) -> MethodTile:
        if method in found:
            one, row = found[method]
            return MethodTile(method, View(one.maps[row], meaning=meanings[method]))
        return MethodTile(method, rows.failed.get((place, method), "The run has no map of this image by this method."))

    return Card(
        name=place.image,
        photo=read_photo(bytes(first.photos[at]), place.image).image,
        tiles=[tile(method) for method in methods],
        model=place.model,
        explained=explained,
        probability=float(first.probability[at]),
        predicted=predicted,
        label=label,
        scores=rows.scores.get(place, {}),
    )


def _meaning(method: Choice) -> Meaning:
    """Return what the signs of a method's maps mean; nothing for a TOML file, which is not read, or one that is unknown here."""
    if method.name.endswith(".toml"):
        return UNSAID
    try:
        return choose_method(method.name, method.options).meaning
    except RelpropError:
        return UNSAID
