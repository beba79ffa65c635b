"""The protocol of FunnyBirds against its steps one by one, and on explanations that are right and wrong by construction."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from relprop.datasets import open_dataset
from relprop.evaluation.compute.scenes import ModelScene
from relprop.metrics import metric
from relprop.metrics.parts import THRESHOLDS
from relprop.zoo import Preprocessing
from tests.datasets.birds import PARTS, SHAPES, SIDE, make_birds

SAME = Preprocessing((SIDE, SIDE), (SIDE, SIDE), scale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Samples, a random model in float64 whose logits depend on everything, and maps by input × gradient."""
    samples = list(open_dataset(f"funnybirds:{make_birds(tmp_path_factory.mktemp('birds'))}").samples(SAME))
    draw = torch.Generator().manual_seed(0)
    first = torch.randn(3 * SIDE * SIDE, 20, generator=draw, dtype=torch.float64) / 10
    second = torch.randn(20, len(SHAPES), generator=draw, dtype=torch.float64)

    def model(x):
        return (x.double().flatten(1) @ first).relu() @ second

    def explain(x, target):
        with torch.enable_grad():
            leaf = x.double().requires_grad_()
            (gradient,) = torch.autograd.grad(model(leaf).gather(1, target[:, None]).sum(), leaf)
        return (gradient * leaf).detach()

    inputs = torch.stack([sample.image for sample in samples])
    target = torch.tensor([sample.labels[0] for sample in samples])
    return {
        "inputs": inputs,
        "target": target,
        "model": model,
        "explain": explain,
        "parts": torch.stack([sample.parts for sample in samples]),
        "scenes": [ModelScene(sample, range(len(SHAPES))) for sample in samples],
        "relevance": explain(inputs, target),
    }


def loop(world):  # noqa: C901 - the whole protocol in one piece
    """The protocols one by one, in the order of the paper's section 4."""
    model, n = world["model"], len(world["inputs"])
    out = {name: [] for name in ("csdc", "preservation", "deletion", "distractibility", "correctness", "contrastivity", "behind")}

    def answer(image):
        return model(image[None])[0]

    def mass_of(heat, numbers, names):
        sums = dict.fromkeys(names, 0.0)
        for number, name in enumerate(names, 1):
            padded = F.pad((numbers == number).double(), (2, 2, 2, 2))
            for row, column in np.ndindex(SIDE, SIDE):
                if padded[row : row + 5, column : column + 5].any():
                    sums[name] += float(heat[row, column])
        return sums

    for i in range(n):
        scene, image, numbers, label = world["scenes"][i], world["inputs"][i], world["parts"][i], int(world["target"][i])
        heat, logits = world["relevance"][i].sum(0), answer(image)
        predicted = int(logits.argmax())
        mass, total = mass_of(heat, numbers, scene.names), float(heat.sum())
        other = world["explain"](image[None], torch.tensor([predicted]))[0].sum(0)
        mass_other, total_other = mass_of(other, numbers, scene.names), float(other.sum())
        drops = {name: float(logits[label] - answer(scene.without(frozenset({name})))[label]) for name in mass}
        idle = {name for name, drop in drops.items() if abs(drop) < 0.05 * abs(float(logits[label])) or drop < 0}
        rows = {name: [] for name in ("csdc", "preservation", "deletion", "distractibility")}
        for threshold in THRESHOLDS:
            chosen = {name for name in mass if mass[name] > threshold * total}
            kept = {name for name in PARTS if mass_other[name] > threshold * total_other}
            rows["csdc"].append(max(len(s & chosen) / len(s) for s in scene.sufficient))
            rows["preservation"].append(
                int(answer(scene.without(frozenset(PARTS) - kept)).argmax()) == predicted if kept != set(PARTS) else True
            )
            rows["deletion"].append(int(answer(scene.without(frozenset(kept))).argmax()) != predicted if kept else False)
            rows["distractibility"].append(len(chosen & idle) / len(idle) if idle else None)
        if predicted == label:
            out["csdc"].append(rows["csdc"])
        out["preservation"].append(rows["preservation"])
        out["deletion"].append(rows["deletion"])
        if idle:
            out["distractibility"].append(rows["distractibility"])
        out["correctness"].append(stats.spearmanr([mass[p] for p in PARTS], [drops[p] for p in PARTS]).statistic / 2 + 0.5)
        out["behind"] += [drops[b] >= 0.05 * abs(float(logits[label])) and drops[b] > 0 for b in mass if b.startswith("bg_")]
        if scene.twins:
            (one, of_one), (two, of_two) = scene.twins
            less_one, less_two = answer(scene.without(of_one)), answer(scene.without(of_two))
            if less_one[one] < less_two[one] and less_two[two] < less_one[two]:
                maps = [
                    mass_of(world["explain"](image[None], torch.tensor([k]))[0].sum(0), numbers, scene.names) for k in (one, two)
                ]
                out["contrastivity"].append(sum(maps[0][p] for p in of_one) > sum(maps[1][p] for p in of_one))
                out["contrastivity"].append(sum(maps[0][p] for p in of_two) < sum(maps[1][p] for p in of_two))
    mean = {name: np.mean(np.array(out[name], dtype=float), 0) for name in ("csdc", "preservation", "deletion")}
    mean["distractibility"] = 1 - np.mean(np.array(out["distractibility"]), 0)
    best = int(np.argmax((mean["csdc"] + mean["preservation"] + mean["deletion"]) / 3 + mean["distractibility"]))
    scores = {name: values[best] for name, values in mean.items()}
    scores["completeness"] = ((scores["csdc"] + scores["preservation"] + scores["deletion"]) / 3 + scores["distractibility"]) / 2
    scores["correctness"], scores["threshold"] = np.mean(out["correctness"]), THRESHOLDS[best]
    scores["background_independence"] = 1 - np.mean(out["behind"])
    if out["contrastivity"]:
        scores["contrastivity"] = np.mean(out["contrastivity"])
    return scores


def test_every_score_is_that_of_the_protocol_step_by_step(world):
    measure = metric("parts")
    for part in (slice(0, 3), slice(3, None)):
        measure.update(**{name: value if callable(value) else value[part] for name, value in world.items()})
    found, expected = measure.compute(), loop(world)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value), name
    assert float(found["accuracy"]) == np.mean((world["model"](world["inputs"]).argmax(1) == world["target"]).numpy())


def test_parts_by_their_true_drops_are_correct(world):
    truth = torch.zeros(len(world["inputs"]), SIDE, SIDE, dtype=torch.float64)
    for i, scene in enumerate(world["scenes"]):
        label, image = int(world["target"][i]), world["inputs"][i]
        for name in PARTS:
            drop = world["model"](image[None])[0, label] - world["model"](scene.without(frozenset({name}))[None])[0, label]
            number = scene.names.index(name) + 1  # one pixel in the middle of the part's first region
            row, column = (int(v) for v in (world["parts"][i] == number).nonzero().float().mean(0))
            truth[i, row, column] = drop
    found = metric("parts")
    found.update(**{**world, "relevance": truth, "explain": lambda x, target: truth[: len(x)]})
    assert float(found.compute()["correctness"]) == pytest.approx(1)
    found = metric("parts")
    found.update(**{**world, "relevance": -truth, "explain": lambda x, target: truth[: len(x)]})
    assert float(found.compute()["correctness"]) == pytest.approx(0)
