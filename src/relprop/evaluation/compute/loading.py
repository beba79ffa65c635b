"""The images of a run: prefetched by threads, each with its own seed."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace

from relprop.datasets import Dataset, Failure, Sample, load
from relprop.errors import InputError
from relprop.zoo.preprocessing import Preprocessing

THREADS = 4
Loaded = Sample | Failure


def image_seed(seed: int, image: str) -> int:
    """Return the random seed of an image, a hash of the run's seed and the image's name."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{image}".encode(errors="surrogateescape")).digest()[:7], "big")


def digest(names: Sequence[str]) -> str:
    """Return a fingerprint of a list of names."""
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:16]


def with_geometry(preprocessing: Preprocessing, geometry: str) -> Preprocessing:
    """Return the preprocessing; with ``resize`` it resizes the whole image to the input size, without a crop."""
    return replace(preprocessing, resize=preprocessing.size) if geometry == "resize" else preprocessing


@dataclass(frozen=True)
class Annotations:
    """The kinds of annotations of a data set, from its first readable images."""

    mask: bool
    boxes: bool
    labels: bool
    parts: bool = False
    facts: bool = False


def find_annotations(dataset: Dataset, names: Sequence[str]) -> Annotations:
    """Return the kinds of annotations, from images read until one has a mask or eight were readable.

    Raises:
        InputError: None of the first 100 images can be read.
    """
    reason = "the data set is empty"
    seen: list[Annotations] = []
    for name in names[:100]:
        try:
            raw = dataset.read(name)
        except Exception as error:  # decoders raise almost anything on broken data
            reason = str(error) or type(error).__name__
            continue
        there = (raw.mask, raw.boxes or None, raw.labels or None, raw.parts, raw.facts)
        seen.append(Annotations(*(kind is not None for kind in there)))
        if seen[-1].mask or len(seen) == 8:
            break
    if not seen:
        raise InputError(f"No image of the data set can be read: {reason}")
    return Annotations(*(any(getattr(one, kind.name) for one in seen) for kind in fields(Annotations)))


def model_classes(classes: Sequence[str], labels: Sequence[str] | None, count: int) -> tuple[int, ...] | None:
    """Return the model's class of each class of a data set: that of the same name, else that of the same number; None where neither fits.

    Args:
        classes: The names of the data set's classes.
        labels: The model's class names, if they are known.
        count: The number of the model's classes.
    """
    if labels is not None and len(set(labels)) == len(labels) and set(classes) <= set(labels):
        return tuple(list(labels).index(name) for name in classes)
    return tuple(range(count)) if len(classes) == count else None


class Loader:
    """A reader that prefetches blocks of images in a few threads and keeps a block until it is taken."""

    def __init__(self, dataset: Dataset, threads: int = THREADS) -> None:
        self.dataset = dataset
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="relprop-images")
        self._ahead: dict[tuple[Preprocessing, tuple[str, ...]], list[Future[Loaded]]] = {}

    def start(self, names: tuple[str, ...], geometry: Preprocessing) -> None:
        """Start reading a block."""
        if (geometry, names) not in self._ahead:
            self._ahead[geometry, names] = [self._pool.submit(load, self.dataset, name, geometry) for name in names]

    def take(self, names: tuple[str, ...], geometry: Preprocessing) -> list[Loaded]:
        """Return a block and drop it."""
        self.start(names, geometry)
        return [future.result() for future in self._ahead.pop((geometry, names))]

    def close(self) -> None:
        """Cancel pending reads and stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._ahead.clear()
