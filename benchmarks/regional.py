"""Search the free choices of ``rap-regional`` on one half of annotated photos, and measure what was chosen on the other half.

    python benchmarks/regional.py search --weights WEIGHTS --data DATA --results FOLDER [--models NAME …] [--images N] [--mosaics N]
    python benchmarks/regional.py test --weights WEIGHTS --data DATA --results FOLDER [--models NAME …] [--methods NAME …]
    python benchmarks/regional.py page --results FOLDER

``WEIGHTS`` has ``load.py``, whose ``load(name)`` returns a model, its preprocessing and its labels; ``DATA`` has ``VOCdevkit``,
``imagenet`` and ``imagenet_samples``. Photos with an even place in their sorted list are for the search, the others for the test.
Finished parts are kept in FOLDER, so a run that was stopped goes on. RAP's way back is linear in the relevance of the regions, so the
maps of all weights follow from those of weight 1 and 0, and all starts share one forward pass.
"""

import argparse
import copy
import csv
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import relprop
from relprop.datasets.sample import Failure, Sample
from relprop.datasets.voc import open_voc
from relprop.explainer import Captured
from relprop.files import atomic
from relprop.metrics.outside_inside import outside_inside_compute, outside_inside_update
from relprop.metrics.segmentation import segmentation_update
from relprop.rules.starts import STARTS
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
_LATE: dict[str, tuple[str, str]] = {
    "resnet50": ("layer4.1", "layer3"),
    "vgg16_voc5": ("features.29", "features.22"),
    "efficientnet-lite0": ("_blocks.15", "_blocks.10"),
    "googlenet_bvlc": ("inception_5a", "inception_4e"),
    "squeezenet1_1": ("features.11", "features.9"),
}
"""Two places for the regions before the usual one."""


def choices(name: str) -> Iterator[dict[str, Any]]:
    """Upper rules and places that are tried on a model."""
    if name == "deit_tiny":
        for depth in (0.75, 0.5, 0.25, 0.9):
            yield from ({"upper": upper, "depth": depth} for upper in ("cp-lrp", "attnlrp"))
        return
    near, far = _LATE[name]
    yield from ({"upper": upper} for upper in ("cp-lrp", "lrp-gamma", "lrp-zplus"))
    yield from ({"upper": upper, "layer": near} for upper in ("cp-lrp", "lrp-gamma"))
    yield {"upper": "lrp-gamma", "layer": far}


START_NAMES = ("logit", "softmax", "mean", "finer")
WEIGHTS = (1.0, 0.9, 0.75, 0.5, 0.25, 0.0)
ANIMALS: dict[str, range | tuple[int, ...]] = {
    "dog": range(151, 269),
    "cat": range(281, 286),
    "horse": (339,),
    "cow": (345, 346, 347),
    "sheep": (348, 349),
}
"""The ImageNet classes of VOC's animals."""
VOC5 = ("dog", "cat", "horse", "cow", "sheep")
_CONFIDENT, _SIDE = 0.8, 224


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


# --- scores, one row per map ------------------------------------------------------------------------------------------------------


def overlap(heat: Tensor, mask: Tensor) -> list[dict[str, float]]:
    """Pixel counts of the map above its positive mean, and the outside–inside ratio."""
    counts = segmentation_update(heat, mask)
    ratio = outside_inside_compute(outside_inside_update(heat, mask))["pos"]
    names = ("true_positive", "false_positive", "false_negative", "true_negative")
    return [{**{n: float(counts[n][b]) for n in names}, "ratio": float(ratio[b])} for b in range(len(heat))]


def in_cells(heat: Tensor, cell: Tensor) -> list[dict[str, float]]:
    """The share of positive relevance in a cell of a mosaic, and whether it is the largest."""
    mass = F.avg_pool2d(heat.clamp(min=0)[:, None], _SIDE // 2).flatten(1)
    share = mass / mass.sum(1, keepdim=True).clamp(min=1e-30)
    own = share.gather(1, cell[:, None])[:, 0]
    return [{"share": float(s), "wins": float(s >= m)} for s, m in zip(own, share.amax(1), strict=True)]


def correlation(a: Tensor, b: Tensor) -> list[float]:
    """Pearson's r of pairs of maps; zero where one is constant."""
    a, b = (v.flatten(1) - v.flatten(1).mean(1, keepdim=True) for v in (a, b))
    return [float(r) for r in F.cosine_similarity(a, b, eps=1e-30)]


# --- the search -------------------------------------------------------------------------------------------------------------------


def start_of(names: Sequence[str], logits: Tensor, target: Tensor) -> Tensor:
    """The relevance of the output for every start and target, ``(B, S·T, C)``."""
    wide = logits.unsqueeze(1).expand(-1, target.shape[1], -1)
    return torch.cat([STARTS[name](wide, target)[0][1] for name in names], 1)


class Maps:
    """Maps of all starts and weights of one choice of upper rule and place.

    A map of weight 0 is made for the logit only, and scaled to the total of the other starts.
    """

    def __init__(self, captured: Captured, options: dict[str, Any]) -> None:
        self.regional, self.spread = (captured.explainer("rap-regional", **options, weight=w) for w in (1.0, 0.0))

    def __call__(self, x: Tensor, target: Tensor) -> Iterator[tuple[str, float, Tensor]]:
        """Yield (start, weight, maps ``(B, T, H, W)``)."""
        start = start_of(START_NAMES, self.regional.logits(x), target)
        found = self.regional(x, output_relevance=start).relevance.sum(2).chunk(len(START_NAMES), 1)
        spread = self.spread(x, target).relevance.sum(2)
        for name, one in zip(START_NAMES, found, strict=True):
            zero = spread * (one.sum((2, 3), keepdim=True) / spread.sum((2, 3), keepdim=True))
            for weight in WEIGHTS:
                yield name, weight, weight * one + (1 - weight) * zero


class Baseline:
    """Maps of another method, under one name."""

    def __init__(self, captured: Captured, method: str, options: dict[str, Any]) -> None:
        self.explainer = captured.explainer(method, **options)

    def __call__(self, x: Tensor, target: Tensor) -> Iterator[tuple[str, float, Tensor]]:
        """Yield one set of maps ``(B, T, H, W)``."""
        yield "", 1.0, self.explainer(x, target).relevance.sum(2)


Rows = dict[str, dict[str, list[Any]]]


def search_one(make: Callable[[Captured], Maps | Baseline], who: Subject, data: dict[str, Any], batch: int) -> Rows:
    """All scores of one choice: by start and weight, by measure, one entry per map."""
    rows: Rows = {}

    def add(start: str, weight: float, measure: str, values: list[Any]) -> None:
        rows.setdefault(f"{start}|{weight}", {}).setdefault(measure, []).extend(values)

    maps, kept = make(who.captured), dict[tuple[str, float], list[Tensor]]()
    for x, mask, target in zip(*(data[k].split(batch) for k in ("images", "masks", "classes")), strict=True):
        for start, weight, found in maps(x, target[:, None]):
            add(start, weight, "voc", overlap(found[:, 0], mask))
            kept.setdefault((start, weight), []).append(found[:, 0])
    other, before = make(who.shuffled), 0
    for x, target in zip(*(data[k][: data["shuffled"]].split(batch) for k in ("images", "classes")), strict=True):
        for start, weight, found in other(x, target[:, None]):
            mine = torch.cat(kept[start, weight])[before : before + len(x)]
            add(start, weight, "shuffled", correlation(mine, found[:, 0]))
        before += len(x)
    for x, classes in zip(data["mosaics"].split(batch), data["cells"].split(batch), strict=True):
        chosen = classes[:, : data["targets"]]
        for start, weight, found in maps(x, chosen):
            for t in range(chosen.shape[1]):
                add(start, weight, "mosaic", in_cells(found[:, t], torch.full((len(x),), t)))
    return rows


def search_data(who: Subject, images: int, mosaics: int, shuffled: int, targets: int) -> dict[str, Any]:
    """The photos of a search."""
    samples = who.samples(who.voc(single=True)[:images])
    x, masks = torch.stack([s.image for s in samples]), torch.stack([s.object_mask() for s in samples])
    made, cells = who.mosaics(mosaics)
    with torch.no_grad():
        classes = torch.cat([who.model(part).argmax(1) for part in x.split(4)])
    return {
        "images": x,
        "masks": masks,
        "classes": classes,
        "mosaics": made,
        "cells": cells,
        "shuffled": shuffled,
        "targets": targets,
    }


def stored(path: Path, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - what was made
    """Read a finished part, or make and keep it."""
    if path.is_file():
        return json.loads(path.read_text())
    began = time.perf_counter()
    found = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(found))
    print(f"{path.stem}: {time.perf_counter() - began:.0f} s", flush=True)
    return found


def search(options: argparse.Namespace) -> None:
    """Measure every choice on the first half."""
    for name in options.models:
        who = subject(name, options.weights, options.data, 0)
        data = search_data(who, options.images, options.mosaics, options.shuffled, options.targets)
        makers: dict[str, Callable[[Captured], Maps | Baseline]] = {
            "rap": partial(Baseline, method="rap", options={}),
            "rap-signed": partial(Baseline, method="rap", options={"start": "signed"}),
        }
        for choice in choices(name):
            makers["-".join(map(str, choice.values()))] = partial(Maps, options=choice)
        for label, make in makers.items():
            stored(options.results / "search" / f"{name}--{label}.json", partial(search_one, make, who, data, 4))


def main() -> None:
    """Run one of the three steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("search",))
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--mosaics", type=int, default=8)
    parser.add_argument("--shuffled", type=int, default=8)
    parser.add_argument("--targets", type=int, default=2)
    options = parser.parse_args()
    with torch.no_grad():
        search(options)


if __name__ == "__main__":
    main()
