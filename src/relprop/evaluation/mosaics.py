"""Make mosaics of the photos that models recognize with confidence, for the grid pointing game, DiFull and DiPart."""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from relprop.datasets import Dataset, Failure, Mosaics, load, open_dataset
from relprop.errors import InputError, OptionError
from relprop.evaluation.compute.loading import model_classes
from relprop.evaluation.settings import ModelChoice, as_json
from relprop.heads import probabilities
from relprop.text import counted
from relprop.zoo import LoadedModel
from relprop.zoo import load as load_model


@dataclass(frozen=True)
class MosaicJob:
    """Which mosaics to make.

    Attributes:
        data: The data set of the photos, ``KIND:PATH``.
        models: The models that must recognize a photo, all with the same classes.
        options: Options of the data set.
        grid: Number of cells per side.
        count: Number of mosaics.
        confidence: The least probability that every model gives to its class.
        seed: Seed of the draws.
        limit: Number of photos to look at; None for all.
        device: Where the models run.
        batch_size: Photos per batch.

    Raises:
        OptionError: A number out of range, or no model.
    """

    data: str
    models: tuple[ModelChoice, ...]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    grid: int = 2
    count: int = 100
    confidence: float = 0.99
    seed: int = 0
    limit: int | None = None
    device: str = "cpu"
    batch_size: int = 8

    def __post_init__(self) -> None:
        if not self.models:
            raise OptionError("Mosaics need a model that recognizes their photos.")
        if not 2 <= self.grid <= 15:
            raise OptionError(f"A mosaic has from 2 to 15 cells per side, not {self.grid}.")
        if min(self.count, self.batch_size) < 1 or (self.limit is not None and self.limit < 1):
            raise OptionError("The count, the limit and the batch size must be at least 1.")
        if not 0 <= self.confidence <= 1:
            raise OptionError(f"The confidence must be a probability, not {self.confidence}.")


def make_mosaics(job: MosaicJob, advance: Callable[[int], None] | None = None) -> tuple[Mosaics, tuple[str, ...]]:
    """Look for photos that all models recognize, and draw mosaics of different classes from them.

    Where the classes of the data set are those of the models, a photo counts if the class is one of its labels; else any class that all
    models agree on. The photos are cropped as the first model crops them.

    Args:
        job: Which mosaics to make.
        advance: Called with the number of photos looked at so far.

    Returns:
        The mosaics, and notes for the user: photos that are used several times, and unreadable ones.

    Raises:
        OptionError: An unknown model or data set, or models with different numbers of classes.
        InputError: The recognized photos are of fewer classes than a mosaic has cells.
    """
    dataset = open_dataset(job.data, **job.options)
    loaded = [load_model(choice.name, choice.weights, pretrained=choice.pretrained) for choice in job.models]
    if dataset.grid > 1:
        raise OptionError(f"{job.data} already has mosaics; name the data set of their photos.")
    for model in loaded:
        model.model.to(job.device)
    found, failed, classes = _recognized(job, dataset, loaded, advance or (lambda _: None))
    cells, uses = drawn(found, job.grid, job.count, job.seed)
    geometry = loaded[0].preprocessing
    names = loaded[0].labels or tuple(f"class {number}" for number in range(classes))
    mosaics = Mosaics(
        job.data,
        as_json(job.options),
        job.grid,
        geometry.size,
        geometry.resize,
        geometry.interpolation,
        names,
        cells,
        tuple(map(str, job.models)),
        job.confidence,
    )
    photos = counted(sum(map(len, found.values())), "photo")
    notes = [f"{photos} of {len(found)} classes are recognized with a probability of at least {job.confidence:g}."]
    notes += [f"A photo is used up to {uses} times."] if uses > 1 else []
    notes += [f"{counted(failed, 'photo')} could not be read."] if failed else []
    return mosaics, tuple(notes)


def _recognized(
    job: MosaicJob, dataset: Dataset, loaded: Sequence[LoadedModel], advance: Callable[[int], None]
) -> tuple[dict[int, list[str]], int, int]:
    """Return the photos that all models recognize by class, the number that could not be read, and the number of classes."""
    names, failed, classes = dataset.ids[: job.limit], 0, 0
    found: dict[int, list[str]] = defaultdict(list)
    for start in range(0, len(names), job.batch_size):
        answers: list[list[tuple[str, tuple[int, ...], int, float]]] = []
        for model in loaded:
            samples = [load(dataset, name, model.preprocessing) for name in names[start : start + job.batch_size]]
            good = [sample for sample in samples if not isinstance(sample, Failure)]
            failed += len(samples) - len(good) if model is loaded[0] else 0
            if not good:
                continue
            chances = _probabilities(model, torch.stack([sample.image for sample in good]).to(job.device))
            if classes not in {0, chances.shape[1]}:
                raise OptionError(
                    f"The models have {classes} and {chances.shape[1]} classes; mosaics are made by models of the same."
                )
            classes = chances.shape[1]
            known = model_classes(dataset.classes, model.labels, classes)
            best = chances.max(1)
            answers.append(
                [
                    (
                        sample.id,
                        () if known is None else tuple(known[label] for label in sample.labels),
                        int(label),
                        float(chance),
                    )
                    for sample, label, chance in zip(good, best.indices, best.values, strict=True)
                ]
            )
        for same in zip(*answers, strict=True) if answers else ():
            name, labels, label, _ = same[0]
            sure = {other for _, _, other, _ in same} == {label} and min(chance for *_, chance in same) >= job.confidence
            if sure and (not labels or label in labels):
                found[label].append(name)
        advance(min(start + job.batch_size, len(names)))
    return dict(found), failed, classes


def _probabilities(model: LoadedModel, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits = model.model(images)
    logits = getattr(logits, "logits", logits)
    return probabilities(logits, model.activation).cpu()


def drawn(
    found: Mapping[int, Sequence[str]], grid: int, count: int, seed: int
) -> tuple[tuple[tuple[tuple[str, int], ...], ...], int]:
    """Draw mosaics of photos of different classes; a photo comes again only when those of its class have all been used as often.

    Args:
        found: The photos of each class.
        grid: Number of cells per side.
        count: Number of mosaics.
        seed: Seed of the draws.

    Returns:
        For each mosaic its photos with their classes; and how often the most frequent photo is used.

    Raises:
        InputError: There are fewer classes than cells.
    """
    if len(found) < grid**2:
        raise InputError(
            f"Photos of {len(found)} classes were recognized, fewer than the {grid**2} cells of a mosaic; "
            "take more photos or a lower confidence."
        )
    source = random.Random(seed)  # noqa: S311 - a reproducible draw, no secret
    left: dict[int, list[str]] = {label: [] for label in sorted(found)}
    uses: dict[str, int] = defaultdict(int)
    mosaics: list[tuple[tuple[str, int], ...]] = []
    for _ in range(count):
        cells: list[tuple[str, int]] = []
        for label in source.sample(sorted(left), grid**2):
            if not left[label]:
                left[label] = source.sample(sorted(found[label]), len(found[label]))
            name = left[label].pop()
            uses[name] += 1
            cells.append((name, label))
        mosaics.append(tuple(cells))
    return tuple(mosaics), max(uses.values())
