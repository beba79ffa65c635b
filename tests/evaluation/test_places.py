"""Segmentations and detectors evaluated end to end: every number against an explicit loop."""

import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from typer.testing import CliRunner

import relprop
from relprop.cli import app
from relprop.datasets import open_dataset
from relprop.errors import InputError, OptionError
from relprop.evaluation import Observer, evaluate, forecast, read_maps
from relprop.evaluation.results.maps import UNKNOWN, load_kept, map_files
from relprop.metrics import METRICS, metric
from relprop.targets import Box, Contrast, Pixels
from relprop.zoo import load, match_box
from tests.evaluation.world import CLASSES, evaluation, rows

MODELS = """
def pixels():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2, padding=1)
    return nn.Sequential(*layers), Preprocessing((16, 16), 16), ["cat", "cow", "dog", "horse"]

class Detector(nn.Module):
    def __init__(self, named=True):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.named = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU()), named
        self.classes, self.sides = nn.Conv2d(6, 4, 4, stride=4), nn.Conv2d(6, 4, 4, stride=4)
    def forward(self, x):
        f = self.body(x)
        logits, sides = (layer(f).flatten(2).transpose(1, 2) for layer in (self.classes, self.sides))
        corner = torch.arange(4.0) * 4
        places = torch.stack([corner.repeat(4), corner.repeat_interleave(4)], 1)
        start = places - 2 + sides[..., :2]
        boxes = torch.cat([start, start + 8 + sides[..., 2:]], 2)
        return {"cls_logits": logits, "boxes": boxes} if self.named else {"cls_logits": logits}

def detector():
    return Detector(), Preprocessing((16, 16), 16), ["cat", "cow", "dog", "horse"]

def silent():
    return Detector(named=False), Preprocessing((16, 16), 16)
"""
SIDE = 16


@pytest.fixture
def world(world):
    with (world / "m.py").open("a") as file:
        file.write(MODELS)
    boxes = {}
    for path in sorted((world / "images").rglob("*.png")):
        name = path.relative_to(world / "images").as_posix()
        shift = int(path.stem) % 3
        label = name.split("/")[0]
        boxes[name] = [
            {"box": [1, 1, 5, 5], "label": label},
            {"box": [4 + shift, 3, 14 + shift, 15], "label": label},
            {"box": [0, 0, 20, 20], "label": CLASSES[(CLASSES.index(label) + 1) % 4]},
        ]
    (world / "boxes.json").write_text(json.dumps(boxes))
    return world


def boxed(world, **more):
    from relprop.zoo import Own

    options = {"boxes": str(world / "boxes.json"), "classes": CLASSES, **more.pop("data_options", {})}
    settings = {"model": ("detector",), "target": "boxes", "own": Own(tensor="cls_logits"), "data_options": options}
    return evaluation(world, **{**settings, **more})


def values_of(model, output, aims):
    """The explained number of a batch that holds the samples once or several times, image by image."""

    def values(inputs):
        with torch.no_grad():
            return torch.stack([(output(model(x[None]))[0] * aims[i % len(aims)]).sum() for i, x in enumerate(inputs)])[:, None]

    return values


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    area = sum(max(c[2] - c[0], 0) * max(c[3] - c[1], 0) for c in (a, b))
    return common / (area - common)


FOLLOWING = ("morf:steps=3", "lerf:steps=3", "abpc:steps=3", "srg:region=8:per_step=1", "single-deletion:grid=2")
FOLLOWING += ("insertion-deletion:steps=4", "infidelity:samples=2", "sensitivity-n:samples=2", "conservation")


def check_rows(found, samples, maps, model, output, aims):
    """Compare rows with metrics that follow an explicit model of one output."""
    number = values_of(model, output, aims)
    inputs = torch.stack([sample.image for sample in samples])
    value = number(inputs)[:, 0]
    from relprop.evaluation.compute.loading import image_seed

    seeds = [image_seed(0, sample.id) for sample in samples]
    for text in FOLLOWING:
        name, *given = text.split(":")
        options = {key: int(number) for key, number in (one.split("=") for one in given)}
        if name not in {"infidelity", "sensitivity-n", "conservation"}:
            options["activation"] = "none"
        scores, _ = metric(name, **options).score(
            relevance=maps.relevance,
            absorbed=maps.absorbed,
            conserved=value,
            inputs=inputs,
            target=torch.zeros(len(inputs), dtype=torch.long),
            model=number,
            seeds=seeds,
        )
        mine = {row["image"]: row for row in found if row["metric"] == name}
        for place, sample in enumerate(samples):
            row = mine[sample.id]
            assert row["status"] == "ok", row["reason"]
            stored = {**row["scores"], **row["curves"]}
            assert stored.keys() == scores.keys()
            assert not any("probability" in key or "accuracy" in key for key in stored)
            for key, expected in scores.items():
                np.testing.assert_allclose(stored[key], expected[place].double().numpy(), rtol=1e-3, atol=2e-5)


def test_metrics_follow_the_mean_logit_at_the_mask(world):
    evaluate(evaluation(world, model=("pixels",), methods=("lrp-epsilon",), metrics=FOLLOWING, target="mask"))
    loaded = load(f"{world / 'm.py'}:pixels")
    samples = list(open_dataset(f"folder:{world / 'images'}", masks=world / "masks").samples(loaded.preprocessing))
    labels = [CLASSES.index(sample.id.split("/")[0]) for sample in samples]
    shares = [F.interpolate(one.object_mask().eq(1).float()[None, None], (8, 8), mode="area")[0, 0] for one in samples]
    aims = []
    for label, share in zip(labels, shares, strict=True):
        aim = torch.zeros(4, 8, 8)
        aim[label] = share / share.sum()
        aims.append(aim)
    explainer = relprop.Explainer(loaded.model, torch.zeros(1, 3, SIDE, SIDE), "lrp-epsilon")
    targets = [Pixels(label, mask=share) for label, share in zip(labels, shares, strict=True)]
    maps = explainer(torch.stack([sample.image for sample in samples]), targets)
    check_rows(rows(world / "results"), samples, maps, loaded.model, lambda out: out, aims)


def test_metrics_follow_the_raw_box_that_finds_the_annotated_one(world):
    settings = boxed(world, methods=("lrp-epsilon",), metrics=(*FOLLOWING, "outside-inside"), keep_maps=True)
    evaluate(settings)
    loaded = load(f"{world / 'm.py'}:detector")
    dataset = open_dataset(f"folder:{world / 'images'}", boxes=world / "boxes.json", classes=CLASSES)
    samples = list(dataset.samples(loaded.preprocessing))
    aims, targets, chosen = [], [], []
    for sample in samples:
        label = CLASSES.index(sample.id.split("/")[0])
        box = max(sample.boxes_of(label).tolist(), key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
        with torch.no_grad():
            returned = loaded.model(sample.image[None])
        overlaps = [iou(raw, box) for raw in returned["boxes"][0].tolist()]
        good = [i for i, share in enumerate(overlaps) if share >= 0.5]
        logits = returned["cls_logits"][0, :, label].tolist()
        best = max(good, key=lambda i: logits[i]) if good else int(np.argmax(overlaps))
        aim = torch.zeros(16, 4)
        aim[best, label] = 1
        aims.append(aim)
        targets.append(Box(best, label))
        chosen.append(box)
    explainer = relprop.Explainer(loaded.model, torch.zeros(1, 3, SIDE, SIDE), "lrp-epsilon", output="cls_logits")
    maps = explainer(torch.stack([sample.image for sample in samples]), targets)
    found = rows(world / "results")
    check_rows(found, samples, maps, loaded.model, lambda out: out["cls_logits"], aims)
    # the mask that metrics see is the box alone, not the other one of its class
    for place, (sample, (x0, y0, x1, y1)) in enumerate(zip(samples, chosen, strict=True)):
        mask = torch.zeros(1, SIDE, SIDE)
        mask[:, int(y0) : int(y1), int(x0) : int(x1)] = 1
        scores, _ = metric("outside-inside").score(relevance=maps.relevance[place : place + 1], mask=mask)
        (row,) = [row for row in found if row["metric"] == "outside-inside" and row["image"] == sample.id]
        for key, value in scores.items():
            np.testing.assert_allclose(row["scores"][key], float(value), rtol=1e-4)
        assert row["target"] == CLASSES.index(sample.id.split("/")[0])
    # maps are kept, with what they explain in words
    for _, image, heat in read_maps(world / "results"):
        (place,) = [place for place, sample in enumerate(samples) if sample.id == image]
        expected = maps.heatmap()[place].numpy()
        np.testing.assert_allclose(heat, expected, atol=1e-3 * np.abs(expected).max())
    kept = load_kept(map_files(world / "results")[0])
    index = [sample.id for sample in samples].index(str(kept.images[0]))
    label = targets[index].category
    assert kept.names[0].tolist() == [f"{CLASSES[label]} (class {label}) at box {targets[index].index}", "", CLASSES[label]]
    assert kept.target[0] == label
    assert kept.predicted[0] == UNKNOWN
    assert np.isnan(kept.probability[0])


def test_metrics_follow_an_open_contrast_of_the_whole_image(world):
    settings = evaluation(world, methods=("lrp-epsilon",), metrics=FOLLOWING, target="contrast", keep_maps=True)
    evaluate(settings)
    loaded = load(f"{world / 'm.py'}:small")
    samples = list(open_dataset(f"folder:{world / 'images'}", masks=world / "masks").samples(loaded.preprocessing))
    inputs, aims = torch.stack([sample.image for sample in samples]), []
    with torch.no_grad():
        ranked = loaded.model(inputs).argsort(1, descending=True)
    for best, second in ranked[:, :2].tolist():
        aims.append(torch.eye(4)[best] - torch.eye(4)[second])
    maps = relprop.Explainer(loaded.model, torch.zeros(1, 3, SIDE, SIDE), "lrp-epsilon")(inputs, Contrast())
    check_rows(rows(world / "results"), samples, maps, loaded.model, lambda out: out, aims)
    kept = load_kept(map_files(world / "results")[0])
    assert " rather than " in kept.names[0, 0]
    assert kept.predicted[0] != UNKNOWN
    assert kept.target[0] == UNKNOWN


@pytest.mark.parametrize("target", ["output:1:reference=3", "neuron:1,3", "neuron:3", "classes:0,2:together=true"])
def test_conservation_is_that_of_the_explained_number(world, target):
    from relprop.targets import read_target

    evaluate(
        evaluation(world, methods=("gradient", "lrp-epsilon"), metrics=("conservation",), target=target, limit=4, keep_maps=True)
    )
    loaded = load(f"{world / 'm.py'}:small")
    for sample in list(open_dataset(f"folder:{world / 'images'}", masks=world / "masks").samples(loaded.preprocessing))[:4]:
        for method in ("gradient", "lrp-epsilon"):
            found = relprop.explain(loaded.model, sample.image[None], read_target(target), method=method)
            total, value = float(found.relevance.sum() + found.absorbed), float(found.value)
            (row,) = [row for row in rows(world / "results") if (row["image"], row["method"]) == (sample.id, method)]
            expected = abs(total - value) / max(1, abs(value))
            np.testing.assert_allclose(row["scores"]["conservation_error"], expected, rtol=1e-3, atol=1e-5)
            assert method == "gradient" or expected < 1e-3


@pytest.mark.parametrize("method", ["rap-regional", "clrp", "sglrp"])
def test_conservation_is_that_of_the_contrast_where_a_method_explains_one(world, method):
    found = one_map(world, method)
    assert float((found.conserved - found.value).abs()) > 0.01  # ten times what the metric may miss
    evaluate(evaluation(world, methods=(method,), metrics=("conservation",), limit=1))
    (row,) = rows(world / "results")
    assert row["scores"]["conservation_error"] < 1e-3


def one_map(world, method):
    loaded = load(f"{world / 'm.py'}:small")
    sample = next(iter(open_dataset(f"folder:{world / 'images'}", masks=world / "masks").samples(loaded.preprocessing)))
    return relprop.explain(loaded.model, sample.image[None], method=method)


def test_stability_and_randomization_keep_what_is_explained(world):
    metrics = ("max-sensitivity:samples=2", "cascading-randomization:count=2", "cosine-convergence")
    evaluate(evaluation(world, model=("pixels",), methods=("lrp-epsilon",), metrics=metrics, target="mask", limit=4))
    loaded = load(f"{world / 'm.py'}:pixels")
    samples = list(open_dataset(f"folder:{world / 'images'}", masks=world / "masks").samples(loaded.preprocessing))[:4]
    inputs = torch.stack([sample.image for sample in samples])
    shares = [F.interpolate(one.object_mask().eq(1).float()[None, None], (8, 8), mode="area")[0, 0] for one in samples]
    targets = [Pixels(CLASSES.index(one.id.split("/")[0]), mask=m) for one, m in zip(samples, shares, strict=True)]

    def explain(model):
        explainer = relprop.Explainer(model, torch.zeros(1, 3, SIDE, SIDE), "lrp-epsilon")
        return lambda x, _: torch.cat([explainer(x[i : i + 1], one).relevance for i, one in enumerate(targets)])

    from relprop.evaluation.compute.loading import image_seed

    given = {
        "relevance": explain(loaded.model)(inputs, None),
        "inputs": inputs,
        "target": torch.zeros(4, dtype=torch.long),
        "explain": explain(loaded.model),
        "make_explain": explain,
        "module": loaded.model,
        "seeds": [image_seed(0, sample.id) for sample in samples],
    }
    for name, options in (("max-sensitivity", {"samples": 2}), ("cascading-randomization", {"count": 2})):
        scores, _ = metric(name, **options).score(**given)
        mine = {row["image"]: row for row in rows(world / "results") if row["metric"] == name}
        for place, sample in enumerate(samples):
            for key, value in scores.items():
                stored = {**mine[sample.id]["scores"], **mine[sample.id]["curves"]}[key]
                np.testing.assert_allclose(stored, value[place].double().numpy(), rtol=1e-2, atol=1e-4)
    assert all(row["status"] == "ok" for row in rows(world / "results"))


def test_metrics_of_a_class_are_left_out_in_one_sentence_before_any_work(world):
    told = []
    settings = evaluation(
        world, methods=("gradient",), metrics=("gae", "lerf:steps=2", "random-logit"), target="contrast", limit=4
    )
    result = evaluate(settings, Observer(tell=told.append))
    sentence = "The target 'contrast' is no class of an output (batch, classes), which gae, random-logit follow: left out."
    assert told[0] == sentence
    assert result.left_out == {"gae": sentence, "random-logit": sentence}
    assert {row["metric"] for row in rows(world / "results")} == {"lerf"}
    assert [line.rows for line in forecast(settings)] == [0]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"target": "contrast", "metrics": ("gae",)},
            OptionError,
            "which gae follows; take metrics that suit any target: .*lerf",
        ),
        ({"target": "boxes", "metrics": ("lerf",)}, InputError, "has no boxes, which the target boxes needs"),
        ({"target": "contrast", "metrics": ("single-deletion:output=probability",)}, OptionError, "leave out output=probability"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(world, settings, error, message):
    with pytest.raises(error, match=message):
        evaluate(evaluation(world, **settings))


@pytest.mark.parametrize(
    ("model", "target", "message"),
    [
        ("small", "boxes", r"needs the raw class logits of a detector, .* and the explained output has shape \(batch, 4\)"),
        ("small", "mask", r"needs a segmentation, .* and the explained output has shape \(batch, 4\)"),
        ("silent", "boxes", "does not say where its raw boxes lie"),
    ],
)
def test_a_model_without_such_places_is_left_out(world, model, target, message):
    from relprop.zoo import Own

    own = Own(tensor="cls_logits") if model == "silent" else Own()
    result = evaluate(boxed(world, model=(model,), methods=("gradient",), metrics=("lerf",), target=target, own=own))
    (reason,) = result.left_out.values()
    assert re.search(message, reason)


def test_an_image_without_a_box_of_its_label_fails_alone(world):
    found = json.loads((world / "boxes.json").read_text())
    first = min(found)
    found[first] = found[first][2:]
    (world / "boxes.json").write_text(json.dumps(found))
    evaluate(boxed(world, methods=("gradient",), metrics=("conservation",)))
    failed = {row["image"]: row["reason"] for row in rows(world / "results") if row["status"] != "ok"}
    assert failed == {first: f"{first} has no box of its label."}


@pytest.mark.parametrize(
    ("boxes", "logits", "expected"),
    [
        ([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 2, 2]], [1.0, 2.0, 9.0], 1),  # the largest logit of those that overlap well
        ([[0, 0, 10, 2], [0, 0, 10, 3], [0, 0, 2, 2]], [5.0, 1.0, 9.0], 1),  # none does: the largest overlap
        ([[20, 20, 30, 30]], [1.0], None),
        ([[8, 8, 2, 2], [0, 0, 9, 9]], [9.0, 1.0], 1),  # a box of negative size covers nothing
    ],
)
def test_boxes_are_matched_as_detections_are_judged(boxes, logits, expected):
    assert match_box(torch.tensor(boxes, dtype=torch.float32), torch.tensor(logits), (0, 0, 10, 10)) == expected


def test_the_command_line_evaluates_segmentations_and_detectors(world):
    runner = CliRunner()
    common = ["--methods", "gradient", "--metrics", "lerf:steps=2,gae", "--limit", "4", "--keep-maps"]
    masks = [
        "--data",
        f"folder:{world / 'images'}",
        "--data-option",
        f"masks={world / 'masks'}",
        "--model",
        f"{world / 'm.py'}:pixels",
    ]
    result = runner.invoke(app, ["evaluate", *masks, *common, "--target", "mask", "-o", str(world / "a")])
    assert result.exit_code == 0, result.output
    assert "which gae follows: left out." in " ".join(result.output.split())
    boxes = ["--data", f"folder:{world / 'images'}", "--data-option", f"boxes={world / 'boxes.json'}"]
    boxes += ["--model", f"{world / 'm.py'}:detector", "--tensor", "cls_logits"]
    result = runner.invoke(app, ["evaluate", *boxes, *common, "--target", "boxes", "-o", str(world / "b")])
    assert result.exit_code == 0, result.output
    assert all(row["status"] == "ok" for folder in "ab" for row in rows(world / folder))
    result = runner.invoke(app, ["report", str(world / "b"), "--html", str(world / "page.html")])
    assert result.exit_code == 0, result.output
    assert "at box" in (world / "page.html").read_text()


def test_metrics_are_listed_with_their_targets():
    result = CliRunner().invoke(app, ["metrics"])
    assert result.exit_code == 0, result.output
    for name in METRICS:
        assert name in result.output


def test_every_metric_says_which_targets_it_suits():
    for spec in METRICS.values():
        assert spec.targets == (("class", "binary") if spec.name in OF_A_CLASS else EVERY)


OF_A_CLASS = {"gae", "random-logit", "class-pointing", "parts"}
EVERY = ("class", "classes", "contrast", "output", "binary", "pixels", "box", "similarity", "neuron")


class Small(nn.Module):
    """Of DETR's form: boxes as center and size in shares of the image."""

    def forward(self, x):
        shares = torch.tensor([[[0.5, 0.5, 0.5, 0.25]]]).expand(len(x), 1, 4)
        return {"logits": x.mean((2, 3))[:, None], "pred_boxes": shares}


def test_boxes_in_shares_of_the_image_become_pixels():
    assert relprop.zoo.raw_boxes(Small(), torch.zeros(2, 3, 8, 16)).tolist() == [[[4.0, 3.0, 12.0, 5.0]]] * 2
