"""The models and photos of ``regional.py``, and its scores of single maps."""

import copy
import csv
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import relprop
from relprop.datasets.sample import Failure, Sample
from relprop.datasets.voc import VOC_CLASSES, open_voc
from relprop.explainer import Captured
from relprop.metrics.outside_inside import outside_inside_compute, outside_inside_update
from relprop.metrics.segmentation import segmentation_update
from relprop.zoo import load as load_zoo

MODELS = ("resnet50", "vgg16_voc5", "efficientnet-lite0", "googlenet_bvlc", "squeezenet1_1", "deit_tiny")
HEADS = {
    "resnet50": "fc",
    "vgg16_voc5": "classifier.3",
    "efficientnet-lite0": "_fc",
    "googlenet_bvlc": "fc",
    "squeezenet1_1": "classifier.1",
    "deit_tiny": "head",
}
ANIMALS: dict[str, range | tuple[int, ...]] = {
    "dog": range(151, 269),
    "cat": range(281, 286),
    "horse": (339,),
    "cow": (345, 346, 347),
    "sheep": (348, 349),
}
"""The ImageNet classes of VOC's animals."""
VOC5 = ("dog", "cat", "horse", "cow", "sheep")
COUNTS = ("true_positive", "false_positive", "false_negative", "true_negative")
_CONFIDENT, _POOL, _SIDE = 0.8, 40, 224


class Geometry:
    """The center of a photo whose short side is 256 pixels, as the reference models take it."""

    def __init__(self, preprocess: Callable[[Image.Image], Tensor]) -> None:
        self._preprocess = preprocess

    def _square(self, image: Image.Image, *, nearest: bool, side: int) -> Image.Image:
        scale = 256 / min(image.size)
        size = tuple(max(256, round(n * scale)) for n in image.size)
        resized = image.resize(size, Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC)
        left, top = ((n - side) // 2 for n in resized.size)
        return resized.crop((left, top, left + side, top + side))

    def crop(self, image: Image.Image, *, nearest: bool = False) -> Image.Image:
        """Return the part that the model sees."""
        return self._square(image, nearest=nearest, side=_SIDE)

    def tensor(self, image: Image.Image) -> Tensor:
        """Return the model's input, ``(3, 224, 224)``."""
        return self._preprocess(self._square(image, nearest=False, side=256))


@dataclass(frozen=True)
class Subject:
    """A model with its preprocessing, and the photos of one half."""

    name: str
    model: nn.Module
    geometry: Any
    data: Path
    half: int

    @cached_property
    def captured(self) -> Captured:
        """The captured model."""
        return relprop.capture(self.model, torch.zeros(1, 3, _SIDE, _SIDE))

    @cached_property
    def shuffled(self) -> Captured:
        """The same with the weights of its last layer shuffled."""
        other = copy.deepcopy(self.model)
        with torch.no_grad():
            weight = other.get_submodule(HEADS[self.name]).weight
            order = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(0))
            weight.copy_(weight.flatten()[order].view_as(weight))
        return relprop.capture(other, torch.zeros(1, 3, _SIDE, _SIDE))

    def voc(self, *, single: bool) -> list[str]:
        """The VOC images of this half that show a single class, or several, spread over the classes."""
        index = json.loads((self.data / "VOCdevkit/VOC2012/index.json").read_text())
        names = sorted(entry["id"] for entry in index if (len(entry["classes"]) == 1) is single)
        mine = names[self.half :: 2]
        random.Random(0).shuffle(mine)
        return mine

    @cached_property
    def two_objects(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Photos with an animal and something else: the input, the animal's pixels, those of all objects, and the class to explain.

        That is the likeliest of the animal's classes.
        """
        found = list[tuple[Tensor, Tensor, Tensor, Tensor]]()
        for sample in self.samples(self.voc(single=False)):
            with torch.no_grad():
                logits = self.model(sample.image[None])[0]
            every = torch.stack([sample.object_mask(label) == 1 for label in sample.labels]).any(0)
            for label in sample.labels:
                known = self.classes_of(VOC_CLASSES[label])
                own = sample.object_mask(label) == 1
                if known and len(sample.labels) > 1 and bool(own.any()) and bool((every & ~own).any()):
                    found.append((sample.image, own, every, torch.tensor(max(known, key=lambda c: float(logits[c])))))
        return found

    def classes_of(self, animal: str) -> Sequence[int]:
        """The model's classes of one of VOC's animals; none for other things."""
        if self.name == "vgg16_voc5":
            return [VOC5.index(animal)] if animal in VOC5 else []
        return ANIMALS.get(animal, ())

    def samples(self, names: Sequence[str]) -> list[Sample]:
        """VOC images with their masks."""
        dataset = open_voc(self.data / "VOCdevkit")
        return [s for s in dataset.samples(self.geometry, list(names)) if not isinstance(s, Failure)]

    @cached_property
    def photos(self) -> list[tuple[Path, int]]:
        """Photos of this half with their class."""
        if self.name == "vgg16_voc5":
            index = json.loads((self.data / "VOCdevkit/VOC2012/index.json").read_text())
            images = self.data / "VOCdevkit/VOC2012/JPEGImages"
            found = [(images / f"{e['id']}.jpg", VOC5.index(e["classes"][0])) for e in index if len(e["classes"]) == 1]
        else:
            rows = csv.DictReader((self.data / "imagenet/val_labels.csv").open())
            found = [(self.data / "imagenet/val" / row["file"], int(row["label"])) for row in rows]
            every = sorted((self.data / "imagenet_samples").glob("*.JPEG"))
            found += [(path, 8 * i) for i, path in enumerate(every)]
        return sorted(found)[self.half :: 2]

    def mosaics(self, count: int) -> tuple[Tensor, Tensor]:
        """Mosaics of 2 × 2 confidently recognized photos of four classes, ``(N, 3, H, W)``, and the classes of their cells ``(N, 4)``."""
        confident: list[tuple[Tensor, int]] = []
        for path, label in self.photos:
            if len(confident) == _POOL:
                break
            image = self.geometry.tensor(Image.open(path).convert("RGB"))
            with torch.no_grad():
                probability = self.model(image[None]).softmax(1)[0, label]
            if probability >= _CONFIDENT:
                confident.append((F.interpolate(image[None], scale_factor=0.5, mode="bilinear", antialias=True)[0], label))
        source, images, classes = random.Random(0), list[Tensor](), list[list[int]]()
        while len(images) < count:
            cells = source.sample(confident, 4)
            labels = [label for _, label in cells]
            if len(set(labels)) == 4:
                (a, b, c, d) = (image for image, _ in cells)
                images.append(torch.cat([torch.cat([a, b], 2), torch.cat([c, d], 2)], 1))
                classes.append(labels)
        return torch.stack(images), torch.tensor(classes)


def subject(name: str, weights: Path, data: Path, half: int) -> Subject:
    """Load a model."""
    if name == "efficientnet-lite0":
        loaded = load_zoo(name)
        return Subject(name, loaded.model, loaded.preprocessing, data, half)
    sys.path.insert(0, str(weights))
    from load import load  # pyright: ignore[reportMissingImports]

    model, preprocess, _ = load(name)
    return Subject(name, model, Geometry(preprocess), data, half)


def overlap(heat: Tensor, mask: Tensor) -> list[dict[str, float]]:
    """Pixel counts of the map above its positive mean, and the outside–inside ratio."""
    counts = segmentation_update(heat, mask)
    ratio = outside_inside_compute(outside_inside_update(heat, mask))["pos"]
    return [{**{n: float(counts[n][b]) for n in COUNTS}, "ratio": float(ratio[b])} for b in range(len(heat))]


def in_cells(heat: Tensor, cell: Tensor) -> list[dict[str, float]]:
    """The share of positive relevance in a cell of a mosaic, and whether it is the largest; nothing where no relevance is positive."""
    mass = F.avg_pool2d(heat.clamp(min=0)[:, None], _SIDE // 2).flatten(1)
    share = mass / mass.sum(1, keepdim=True).clamp(min=1e-30)
    own = share.gather(1, cell[:, None])[:, 0]
    return [{"share": float(s), "wins": float(s > 0 and s >= m)} for s, m in zip(own, share.amax(1), strict=True)]


def correlation(a: Tensor, b: Tensor) -> list[float]:
    """Pearson's r of pairs of maps; zero where one is constant."""
    a, b = (v.flatten(1) - v.flatten(1).mean(1, keepdim=True) for v in (a, b))
    return [float(r) for r in F.cosine_similarity(a, b, eps=1e-30)]


def on_object(heat: Tensor, mask: Tensor, every: Tensor) -> list[float]:
    """The positive relevance on one object over that on all objects."""
    mass = heat.clamp(min=0)
    return [float(v) for v in (mass * mask).sum((1, 2)) / (mass * every).sum((1, 2)).clamp(min=1e-30)]
