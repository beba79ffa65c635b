"""Data sets with one sample for each class in an image, as the pointing game on images with several classes takes them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import isnan

import numpy as np
from PIL import Image

from relprop.datasets.sample import VOID, Annotated, Dataset, Problem
from relprop.errors import InputError, OptionError, suggestion

SUBSETS = ("all", "difficult")
"""Which pairs of an image and a class: all, or the difficult ones of Zhang et al. (IJCV 2018), whose objects cover less than a quarter of an
image that shows another class too."""

Areas = Callable[[str], tuple[Mapping[int, float], float]]
"""Id of an image → the area of each class in it, and that of the image, NaN where it is not known."""


def check_subset(subset: str, *, each_class: bool) -> None:
    """Check the options of a data set.

    Raises:
        OptionError: An unknown subset, or a part of the samples of single classes where there are none.
    """
    if subset not in SUBSETS:
        raise OptionError(f"Option subset must be one of {', '.join(SUBSETS)}, not {subset!r}.{suggestion(subset, SUBSETS)}")
    if subset != "all" and not each_class:
        raise OptionError(f"Option subset={subset!r} picks pairs of an image and a class; add each_class=true.")


def expanded(dataset: Dataset, areas: Areas, subset: str) -> Dataset:
    """Return the data set with one sample for each class in an image, of the id ``IMAGE#CLASS``; that class is its first label.

    Args:
        dataset: The images.
        areas: What is in them; an image whose annotation cannot be read is left out, and listed among the problems.
        subset: One of ``SUBSETS``.

    Raises:
        InputError: No pair of an image and a class is left.
    """
    pairs: dict[str, tuple[str, int]] = {}
    broken: list[str] = []
    for name in dataset.ids:
        try:
            found, whole = areas(name)
        except (InputError, OSError, ValueError):
            broken.append(name)
            continue
        if subset != "all" and isnan(whole):
            broken.append(name)
            continue
        kept = [label for label, area in found.items() if subset == "all" or (len(found) > 1 and area < whole / 4)]
        pairs |= {f"{name}#{dataset.classes[label]}": (name, label) for label in sorted(kept)}
    if not pairs:
        raise InputError(f"No image of the data set shows a class{' of the difficult subset' if subset != 'all' else ''}.")
    problems = (Problem("annotation that cannot be read", tuple(broken)),) if broken else ()
    return replace(dataset, ids=tuple(pairs), read=partial(_read, dataset.read, pairs), problems=(*dataset.problems, *problems))


def _read(read: Callable[[str], Annotated], pairs: Mapping[str, tuple[str, int]], name: str) -> Annotated:
    image, label = pairs[name]
    return led_by(read(image), label)


def led_by(raw: Annotated, label: int) -> Annotated:
    """Return the annotation with a label in the first place, and the mask numbered accordingly.

    Raises:
        InputError: The image does not have this label.
    """
    if label not in raw.labels:
        raise InputError(f"The image has no object of class {label}; it has {', '.join(map(str, raw.labels)) or 'none'}.")
    labels = (label, *(other for other in raw.labels if other != label))
    if raw.mask is None:
        return replace(raw, labels=labels)
    values = np.zeros(256, dtype=np.uint8)
    values[VOID] = VOID
    for place, other in enumerate(raw.labels, start=1):
        values[place] = labels.index(other) + 1
    return replace(raw, labels=labels, mask=Image.fromarray(values[np.asarray(raw.mask)]))
