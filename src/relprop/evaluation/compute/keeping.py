"""What is kept of a block for pictures: maps, photos, and what the model answered."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from relprop.evaluation.compute.unit import Explained, Unit
from relprop.evaluation.results.maps import UNKNOWN, Kept
from relprop.metrics import heatmap
from relprop.text import class_name, storable
from relprop.zoo import LoadedModel

_QUALITY = 90


def kept_of(unit: Unit, loaded: LoadedModel, names: Sequence[str], classes: Sequence[int] | None) -> Kept | None:
    """Return what is kept of the images that could be explained; None if none could.

    Args:
        unit: The block.
        loaded: Its model, for the names of its classes and to turn inputs back into photos.
        names: What the data set calls its classes.
        classes: The model's class of each of them; None where they do not fit, and no label is known.
    """
    found = {index: one for index, one in unit.explained.items() if isinstance(one, Explained)}
    if not found:
        return None
    every = list(found.values())
    target = _cat([one.target for one in every])
    logits, probabilities = _cat([one.logits for one in every]), _cat([one.probabilities for one in every])
    unknown = torch.full((len(every),), UNKNOWN)
    predicted = unknown if logits is None else logits.argmax(1)
    samples = [unit.samples[index] for index in found]
    own = [[] if classes is None else [classes[label] for label in sample.labels] for sample in samples]
    label = [_label(labels, best) for labels, best in zip(own, predicted.tolist(), strict=True)]
    called = loaded.labels or _named(names, classes, unit.subject.classes)
    photos = np.empty(len(samples), dtype=object)
    photos[:] = [_jpeg(loaded.preprocessing.picture(sample.image)) for sample in samples]
    chance, said = torch.full((len(every),), torch.nan), [one.words[0] for one in every]
    if target is not None and probabilities is not None and unit.asking.of_class:
        chance, said = probabilities.gather(1, target[:, None])[:, 0], [_called(index, called) for index in target.tolist()]
    others = [[_called(index, called) for index in numbers] for numbers in (predicted.tolist(), label)]
    return Kept(
        images=np.array([storable(sample.id) for sample in samples]),
        maps=torch.cat([heatmap(one.relevance).cpu() for one in every]).numpy(),
        photos=photos,
        target=(unknown if target is None else target).numpy(),
        probability=chance.double().numpy(),
        predicted=predicted.numpy(),
        label=np.array(label, dtype=np.int64),
        names=np.array(list(map(list, zip(said, *others, strict=True)))),
    )


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    there = [part.cpu() for part in parts if part is not None]
    return torch.cat(there) if there else None


def _called(index: int, names: Sequence[str] | None) -> str:
    return "" if index == UNKNOWN else class_name(index, names)


def _named(names: Sequence[str], classes: Sequence[int] | None, count: int) -> list[str] | None:
    """Return the names of a model's classes by those of the data set, where each has one."""
    known = {} if classes is None else dict(zip(classes, names, strict=False))
    return [known[index] for index in range(count)] if len(known) == count else None


def _label(labels: Sequence[int], predicted: int) -> int:
    return predicted if predicted in labels else labels[0] if labels else UNKNOWN


def _jpeg(photo: Image.Image) -> bytes:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
