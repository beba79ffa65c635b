"""Search the free choices of ``rap-regional`` on one half of annotated photos, and measure what was chosen on the other half.

    python benchmarks/regional.py screen --weights WEIGHTS --data DATA --results FOLDER [--models NAME …]
    python benchmarks/regional.py search --weights WEIGHTS --data DATA --results FOLDER [--models NAME …] [--images N] [--mosaics N]
    python benchmarks/regional.py rates --weights WEIGHTS --data DATA --results FOLDER [--models NAME …] [--images N] [--mosaics N]
    python benchmarks/regional.py places --weights WEIGHTS --data DATA --results FOLDER [--models NAME …] [--images N] [--mosaics N]
    python benchmarks/regional.py lowers --weights WEIGHTS --data DATA --results FOLDER [--models NAME …] [--images N] [--mosaics N]
    python benchmarks/regional.py test --weights WEIGHTS --data DATA --results FOLDER [--models NAME …] [--methods NAME …]
    python benchmarks/regional.py objects --weights WEIGHTS --data DATA --results FOLDER [--models NAME …] [--methods NAME …]
    python benchmarks/regional.py cost --weights WEIGHTS --data DATA --results FOLDER [--models NAME …]
    python benchmarks/regional.py named --data DATA --results FOLDER
    python benchmarks/regional.py page --results FOLDER

``WEIGHTS`` has ``load.py``, whose ``load(name)`` returns a model, its preprocessing and its labels; ``DATA`` has ``VOCdevkit``,
``imagenet`` and ``imagenet_samples``. Photos with an even place in their sorted list are for the search, the others for the test.
Finished parts are kept in FOLDER, so a run that was stopped goes on. RAP's way back is linear in the relevance of the regions, so the
maps of all weights follow from those of weight 1 and 0, and all starts share one forward pass; both with a false discovery rate of 1.
``screen`` looks at evidence with weight 1; ``rates`` tries rates and weights with all other choices made, ``places`` where regions are,
all with RAP below them; ``lowers`` tries the rule there, which was chosen last.
``objects`` compares all methods of propagation on every photo of the second half that shows an animal and something else.
``cost`` times the method beside RAP, in turn, on one thread.
``named`` tells the photos of ``benchmarks/rows`` whose explained class is one of the annotated animal's from the others.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from pyarrow import parquet
from regional_data import ANIMALS, COUNTS, MODELS, Subject, correlation, in_cells, on_object, overlap, subject
from regional_page import write
from speed import BASELINE, ratios
from torch import Tensor, nn

from relprop.datasets.voc import VOC_CLASSES
from relprop.explainer import Captured, capture
from relprop.files import atomic
from relprop.inputs import as_inputs
from relprop.methods import make_method
from relprop.metrics import metric
from relprop.propagation.method import Method
from relprop.propagation.plan import Plan
from relprop.propagation.run import Run
from relprop.rules.starts import STARTS

EARLIER: dict[str, tuple[str, ...]] = {
    "resnet50": ("layer4.1", "layer3"),
    "vgg16_voc5": ("features.29", "features.27"),
    "efficientnet-lite0": ("_blocks.15", "_blocks.10"),
    "googlenet_bvlc": ("inception_5a", "inception_4e"),
    "squeezenet1_1": ("features.11", "features.9"),
}
"""Places for the regions before the last one, in convolutional networks."""
START_NAMES = ("logit", "softmax", "mean", "finer")
ROWS = Path(__file__).parent / "rows"
RATES = ((1.0, 0.0), (0.3, 0.0), (0.3, 0.5), (0.3, 1.0), (0.1, 0.0))
"""False discovery rates and weights."""
WEIGHTS = (1.0, 0.5, 0.0)
AS_PUBLISHED = {"lower": "rap", "growth": 0.0, "add": "positive"}
"""RAP as published below the regions."""

# --- the search -------------------------------------------------------------------------------------------------------------------


def start_of(names: Sequence[str], logits: Tensor, target: Tensor) -> Tensor:
    """The relevance of the output for every start and target, ``(B, S·T, C)``."""
    wide = logits.unsqueeze(1).expand(-1, target.shape[1], -1)
    return torch.cat([STARTS[name](wide, target)[0][1] for name in names], 1)


class Maps:
    """Maps of all starts and weights of one choice of upper rule and place."""

    def __init__(self, captured: Captured, options: dict[str, Any]) -> None:
        fixed = {**options, **AS_PUBLISHED, "false_discovery_rate": 1.0}
        self.ends = [captured.explainer("rap-regional", **fixed, weight=w) for w in (1.0, 0.0)]

    def __call__(self, x: Tensor, target: Tensor) -> Iterator[tuple[str, float, Tensor]]:
        """Yield (start, weight, maps ``(B, T, H, W)``)."""
        start = start_of(START_NAMES, self.ends[0].logits(x), target)
        found = [end(x, output_relevance=start).relevance.sum(2).chunk(len(START_NAMES), 1) for end in self.ends]
        for name, one, zero in zip(START_NAMES, *found, strict=True):
            for weight in WEIGHTS:
                yield name, weight, weight * one + (1 - weight) * zero


class Evidence:
    """The evidence of the regions itself, enlarged to the photo: what can be tried without the way below, in a fraction of its time."""

    def __init__(self, captured: Captured, options: dict[str, Any]) -> None:
        plan = captured.explainer("rap-regional", **options, weight=1.0).plan
        first = next(i for i, step in enumerate(plan.steps) if step.rule.startswith("by region"))
        self.plan: Plan = replace(plan, steps=plan.steps[first:], leaves=(plan.steps[first].node,), before=())

    def __call__(self, x: Tensor, target: Tensor) -> Iterator[tuple[str, float, Tensor]]:
        """Yield (start, weight, maps ``(B, T, H, W)``)."""
        run = Run(self.plan, as_inputs(x))
        start = start_of(START_NAMES, run.logits, target)
        found = torch.func.vmap(lambda r: run.backward(r, last=False)[0][0], in_dims=1, out_dims=1)(start)
        if found.dim() == 4:  # tokens, the class token first
            side = math.isqrt(found.shape[2] - 1)
            found = found[:, :, 1:].movedim(3, 2).unflatten(3, (side, side))
        enlarged = F.interpolate(found.sum(2), x.shape[2:], mode="bilinear").chunk(len(START_NAMES), 1)
        for name, evidence in zip(START_NAMES, enlarged, strict=True):
            yield name, 1.0, evidence


class Baseline:
    """Maps of another method, under one name."""

    def __init__(self, captured: Captured, method: str | Method, options: dict[str, Any]) -> None:
        self.explainer = captured.explainer(method, **options)

    def __call__(self, x: Tensor, target: Tensor) -> Iterator[tuple[str, float, Tensor]]:
        """Yield one set of maps ``(B, T, H, W)``."""
        yield "", 1.0, self.explainer(x, target).relevance.sum(2)


Maker = Maps | Evidence | Baseline
Rows = dict[str, dict[str, list[Any]]]


def search_one(make: Callable[[Captured], Maker], who: Subject, data: dict[str, Any], batch: int) -> Rows:
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


def summary(rows: Rows) -> dict[str, dict[str, float]]:
    """The scores of every start and weight, each over all maps."""
    return {
        key: {
            "miou": 100 * miou(found["voc"]),
            "ratio": median(row["ratio"] for row in found["voc"]),
            "share": mean(row["share"] for row in found["mosaic"]),
            "wins": mean(row["wins"] for row in found["mosaic"]),
            "shuffled": mean(map(abs, found["shuffled"])),
        }
        for key, found in rows.items()
    }


def miou(rows: Sequence[dict[str, float]]) -> float:
    """The mean IoU of object and background over a set of photos."""
    hit, extra, missed, rejected = (sum(row[name] for row in rows) for name in COUNTS)
    return (hit / (hit + extra + missed) + rejected / (rejected + extra + missed)) / 2


def screened(name: str) -> Iterator[dict[str, Any]]:
    """Upper rules and places whose evidence is looked at."""
    if name == "deit_tiny":
        yield from ({"upper": upper, "depth": depth} for depth in (0.9, 0.75, 0.5) for upper in ("cp-lrp", "attnlrp"))
        return
    places: list[dict[str, Any]] = [{}, *({"layer": layer} for layer in EARLIER[name])]
    yield from ({"upper": upper, **place} for place in places for upper in ("cp-lrp", "lrp-gamma", "lrp-zplus", "epsilon-plus"))


def searched(name: str) -> Iterator[dict[str, Any]]:
    """Those of which whole maps are made."""
    if name == "deit_tiny":
        yield from ({"upper": "cp-lrp", "depth": depth} for depth in (0.75, 0.67, 0.5, 0.33))
        return
    yield from ({"upper": "gradient", "blocks": blocks} for blocks in (0, 1))
    yield {"upper": "lrp-gamma", "blocks": 0}
    yield {"upper": "cp-lrp", "blocks": 0}
    yield {"upper": "epsilon-plus", "blocks": 1}
    yield {"upper": "lrp-zplus", "layer": EARLIER[name][0]}


def rates(_: str) -> Iterator[dict[str, Any]]:
    """False discovery rates and weights."""
    yield from ({"false_discovery_rate": rate, "weight": weight} for rate, weight in RATES)


def places(name: str) -> Iterator[dict[str, Any]]:
    """Where the regions are in convolutional networks: by blocks, where the method puts them, and on the grid before."""
    if name in EARLIER:
        yield from ({"blocks": 0}, {"blocks": 1}, {"blocks": None}, {"layer": EARLIER[name][1]})


def at_rate(captured: Captured, options: dict[str, Any]) -> Baseline:
    """Whole maps of the method as it was chosen, with RAP below: that rule was chosen last."""
    return Baseline(captured, "rap-regional", {**options, **AS_PUBLISHED})


def lowers(name: str) -> Iterator[dict[str, Any]]:
    """Rules below the regions: RAP, with growth in models with attention, influence, and Attribution Equilibrium."""
    yield AS_PUBLISHED
    if name not in EARLIER:
        yield from (
            {"lower": "rap", "growth": growth, "add": add} for add in ("positive", "absolute") for growth in (0.0, 0.1, 0.2, 0.4)
        )
    yield from ({"lower": "influence", "growth": growth, "add": "positive"} for growth in (0.0, 0.05, 0.09, 0.15))
    yield {"lower": "equilibrium"}


def with_lower(captured: Captured, options: dict[str, Any]) -> Baseline:
    """Whole maps with another rule below, one of them that of Attribution Equilibrium."""
    if options["lower"] != "equilibrium":
        return Baseline(captured, "rap-regional", options)
    above = make_method("rap-regional", {})
    method = replace(make_method("attribution-equilibrium", {}), start=above.start, regional=above.regional)
    return Baseline(captured, method, {})


SEARCHES = {
    "screen": (Evidence, screened),
    "search": (Maps, searched),
    "rates": (at_rate, rates),
    "places": (at_rate, places),
    "lowers": (with_lower, lowers),
}
"""By step: how maps are made of a choice, and the choices."""


def search(options: argparse.Namespace) -> None:
    """Measure choices on the first half: ``screen`` by the evidence of the regions alone, the others by whole maps."""
    kind, tried = SEARCHES[options.step]
    for name in options.models:
        who = subject(name, options.weights, options.data, 0)
        data = search_data(who, options.images, options.mosaics, options.shuffled, options.targets)
        makers = dict[str, Callable[[Captured], Maker]]()
        if options.step != "screen":
            makers["rap"] = partial(Baseline, method="rap", options={})
        if options.step == "search":
            makers["rap-signed"] = partial(Baseline, method="rap", options={"start": "signed"})
        for choice in tried(name):
            makers["-".join(map(str, choice.values()))] = partial(kind, options=choice)
        for label, make in makers.items():
            path = options.results / options.step / f"{name}--{label}.json"
            stored(path, lambda make=make, who=who, data=data: summary(search_one(make, who, data, 4)))


# --- the test ---------------------------------------------------------------------------------------------------------------------

_LOCAL = ("epsilon-plus", "grad-cam")
_TOKENS = ("attnlrp", "transformer-attribution")
_OF_ATTENTION = (*_TOKENS, "cp-lrp")
_OTHERS = (
    *("lrp-epsilon", "lrp-gamma", "lrp-zplus", "lrp-alpha2-beta1", "deep-taylor", "excitation-backprop", "epsilon-plus-flat"),
    *("epsilon-alpha2-beta1", "epsilon-alpha2-beta1-flat", "epsilon-gamma-box", "reslrp", "clrp", "sglrp", "abslrp", "rsp"),
    "attribution-equilibrium",
)
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "rap, signed": ("rap", {"start": "signed"}),
    "rap, clrp": ("rap", {"start": "clrp"}),
    **{name: (name, {}) for name in ("rap", "rap-regional", *_LOCAL, *_OTHERS, *_OF_ATTENTION)},
}
"""The methods that are compared, by label."""

Explain = Callable[[Tensor, Tensor], Tensor]
"""Inputs, target ``(B,)`` or ``(B, T)`` → maps ``(B, H, W)`` or ``(B, T, H, W)``."""


def explain_by(captured: Captured, label: str) -> Explain:
    """Make maps by a method of the table."""
    method, options = METHODS[label]
    explainer = captured.explainer(method, **options)

    def explain(x: Tensor, target: Tensor) -> Tensor:
        parts = zip(x.split(4), target.split(4), strict=True)
        return torch.cat([explainer(a, b).relevance.detach().sum(target.dim()) for a, b in parts])

    return explain


def _single(who: Subject, explain: Explain, label: str, options: argparse.Namespace) -> Any:  # noqa: ANN401 - rows
    """Scores on photos with one class: overlap, the second class's map, the shuffled head, curves."""
    samples = who.samples(who.voc(single=True)[: options.images])
    x, masks = torch.stack([s.image for s in samples]), torch.stack([s.object_mask() for s in samples])
    likeliest = torch.cat([who.model(part).topk(2, 1).indices for part in x.split(4)])
    maps = explain(x, likeliest)
    few = x[: options.shuffled]
    other = explain_by(who.shuffled, label)(few, likeliest[: len(few), 0])
    area = metric("abpc", region=16, per_step=28, steps=7)
    curves = [
        area.score(relevance=m, inputs=i, target=t, model=who.model, seeds=0)[1]
        for m, i, t in zip(
            maps[: options.curves, 0].split(4), few_of(x, options.curves), few_of(likeliest[:, 0], options.curves), strict=True
        )
    ]
    return {
        "voc": overlap(maps[:, 0], masks),
        "second": correlation(maps[:, 0], maps[:, 1]),
        "shuffled": correlation(maps[: len(few), 0], other),
        **{order: [v for c in curves for v in c[f"{order}_probability_curve"].mean(1).tolist()] for order in ("morf", "lerf")},
    }


def _animal(who: Subject, explain: Explain, options: argparse.Namespace) -> Any:  # noqa: ANN401 - rows
    """The overlap of maps of the likeliest of the animal's classes, whether or not it is the predicted one."""
    samples = who.samples(who.voc(single=True)[: options.images])
    x, masks = torch.stack([s.image for s in samples]), torch.stack([s.object_mask() for s in samples])
    logits = torch.cat([who.model(part) for part in x.split(4)])
    known = [who.classes_of(VOC_CLASSES[s.labels[0]]) for s in samples]
    target = torch.tensor([max(classes, key=one.__getitem__) for classes, one in zip(known, logits.tolist(), strict=True)])
    return {"voc": overlap(explain(x, target), masks)}


def few_of(values: Tensor, count: int) -> Sequence[Tensor]:
    """The first of some values, in batches."""
    return values[:count].split(4)


def _mosaics(who: Subject, explain: Explain, options: argparse.Namespace) -> Any:  # noqa: ANN401 - rows
    """Scores of all four cells of every mosaic."""
    images, cells = who.mosaics(options.mosaics)
    maps = explain(images, cells)
    return {"mosaic": [in_cells(maps[i], torch.arange(4)) for i in range(len(maps))]}


def _two_objects(who: Subject, label: str) -> Any:  # noqa: ANN401 - rows
    """The share of the positive relevance of all objects that the explained one has, and of their area."""
    images, own, every, target = (torch.stack(part) for part in zip(*who.two_objects, strict=True))
    maps = explain_by(who.captured, label)(images, target)
    return {"right": on_object(maps, own, every), "area": on_object(torch.ones_like(maps), own, every)}


def _cascade(who: Subject, explain: Explain, label: str, options: argparse.Namespace) -> Any:  # noqa: ANN401 - rows
    """Rank correlation of magnitudes with the maps of ever more random models."""
    samples = who.samples(who.voc(single=True)[: options.cascade])
    x = torch.stack([s.image for s in samples])
    target = who.model(x).argmax(1)

    def make_explain(module: nn.Module) -> Explain:
        return explain_by(capture(module, x[:1]), label)

    check = metric("cascading-randomization", count=options.layers, similarity=("spearman_abs",))
    scores, _ = check.score(relevance=explain(x, target), inputs=x, target=target, module=who.model, make_explain=make_explain)
    return {"cascade": scores["spearman_abs_curve"].tolist()}


def _gae(who: Subject, explain: Explain, options: argparse.Namespace) -> Any:  # noqa: ANN401 - rows
    """GAE of groups of four photos of the mosaics' pool."""
    x = torch.stack([who.geometry.tensor(Image.open(path).convert("RGB")) for path, _ in who.photos[: 4 * options.groups]])
    scores, _ = metric("gae").score(inputs=x, model=who.model, explain=explain, seeds=0)
    return {"gae": scores["gae"].tolist(), "contrastiveness": scores["contrastiveness"].tolist()}


def test(options: argparse.Namespace) -> None:
    """Measure the methods on the second half."""
    for name in options.models:
        who = subject(name, options.weights, options.data, 1)
        labels = options.methods or ("rap", "rap, signed", "rap-regional", *(_TOKENS if name == "deit_tiny" else _LOCAL))
        for label in labels:
            explain = explain_by(who.captured, label)
            parts: dict[str, Callable[[], Any]] = {
                "single": partial(_single, who, explain, label, options),
                "animal": partial(_animal, who, explain, options),
                "mosaics": partial(_mosaics, who, explain, options),
                "cascade": partial(_cascade, who, explain, label, options),
                "gae": partial(_gae, who, explain, options),
            }
            for part in options.parts or parts:
                stored(options.results / "test" / f"{name}--{label}--{part}.json", parts[part])


def objects(options: argparse.Namespace) -> None:
    """Measure which of two objects the maps of the second half show."""
    for name in options.models:
        who = subject(name, options.weights, options.data, 1)
        for label in options.methods or METHODS:
            if name == "deit_tiny" or label not in _OF_ATTENTION:
                stored(options.results / "objects" / f"{name}--{label}.json", partial(_two_objects, who, label))


def cost(options: argparse.Namespace) -> None:
    """Measure the time of the method over that of RAP."""
    torch.set_num_threads(1)
    for name in options.models:
        who = subject(name, options.weights, options.data, 1)
        stored(options.results / "cost" / f"{name}.json", partial(_time_over_rap, who, options.pairs))


def _time_over_rap(who: Subject, pairs: int) -> float:
    """The median ratio on a batch of two photos."""
    x, target = torch.stack([s.image for s in who.samples(who.voc(single=True)[:2])]), torch.tensor([0, 1])
    rap, regional = (partial(who.captured.explainer(method), x, target) for method in ("rap", "rap-regional"))
    return ratios({BASELINE: rap, "rap-regional": regional}, pairs)["rap-regional"]


def named(options: argparse.Namespace) -> None:
    """The pixel counts of the maps of whole photos, and whether the explained class is one of the annotated animal's."""
    index = json.loads((options.data / "VOCdevkit/VOC2012/index.json").read_text())
    animals = {entry["id"]: entry["classes"][0] for entry in index if len(entry["classes"]) == 1}
    chosen = [("metric", "=", "segmentation"), ("method", "in", ["rap", "rap-regional"]), ("method_options", "=", "{}")]
    rows = parquet.read_table(ROWS / "voc.parquet", filters=chosen).to_pylist()
    for name in options.models:
        found: dict[str, dict[str, Any]] = {}
        for row in rows:
            if row["model"].rpartition(":")[2] == name:
                counts = dict(row["statistics"])
                found.setdefault(row["image"], {})[row["method"]] = [counts[part][0] for part in COUNTS]
                found[row["image"]]["named"] = row["target"] in ANIMALS[animals[row["image"]]]
        if found:
            stored(options.results / "named" / f"{name}.json", lambda found=found: list(found.values()))


def page(options: argparse.Namespace) -> None:
    """Write the page of the results."""
    write(options.results)


STEPS = {**dict.fromkeys(SEARCHES, search), "test": test, "objects": objects, "cost": cost, "named": named, "page": page}


def main() -> None:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--parts", nargs="+", choices=("single", "animal", "mosaics", "cascade", "gae"))
    counts = {
        "images": 24,
        "mosaics": 8,
        "shuffled": 8,
        "targets": 2,
        "curves": 12,
        "cascade": 4,
        "layers": 5,
        "groups": 4,
        "pairs": 5,
    }
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    options = parser.parse_args()
    with torch.no_grad():
        STEPS[options.step](options)


if __name__ == "__main__":
    main()
