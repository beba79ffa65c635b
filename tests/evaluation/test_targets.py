"""Evaluations of other targets than classes: rows are those of the target's maps."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import relprop
from relprop.datasets import open_dataset
from relprop.errors import OptionError
from relprop.evaluation import evaluate
from relprop.metrics import metric
from relprop.targets import Contrast, Pixels
from relprop.zoo import load
from tests.evaluation.world import CLASSES, evaluation, rows

PIXELS = """
def pixels():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2, padding=1)
    return nn.Sequential(*layers), Preprocessing((16, 16), 16), ["cat", "cow", "dog", "horse"]

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = layers()
    def forward(self, x):
        return {"out": self.body(x), "aux": x.mean((2, 3))}

def two():
    return Two(), Preprocessing((16, 16), 16)
"""


@pytest.fixture
def world(world):
    with (world / "m.py").open("a") as file:
        file.write(PIXELS)
    return world


def samples(world, geometry):
    dataset = open_dataset(f"folder:{world / 'images'}", masks=world / "masks")
    return list(dataset.samples(geometry))


def test_labels_are_explained_at_the_pixels_of_their_masks(world):
    evaluate(evaluation(world, model=("pixels",), methods=("rap",), metrics=("outside-inside",), target="mask"))
    loaded = load(f"{world / 'm.py'}:pixels")
    explainer = relprop.Explainer(loaded.model, torch.zeros(1, 3, 16, 16), "rap")
    found = {row["image"]: row for row in rows(world / "results")}
    for sample in samples(world, loaded.preprocessing):
        mask = sample.object_mask()
        share = F.interpolate(mask.eq(1).float()[None, None], (8, 8), mode="area")[0, 0]
        label = CLASSES.index(sample.id.split("/")[0])
        relevance = explainer(sample.image[None], Pixels(label, mask=share)).relevance
        scores, _ = metric("outside-inside").score(relevance=relevance, mask=mask[None])
        for name, value in scores.items():
            np.testing.assert_allclose(found[sample.id]["scores"][name], float(value), rtol=1e-4)
        assert found[sample.id]["target"] == label


def test_one_target_for_all_images(world):
    evaluate(evaluation(world, methods=("lrp-epsilon",), metrics=("complexity",), target="contrast"))
    loaded = load(f"{world / 'm.py'}:small")
    explainer = relprop.Explainer(loaded.model, torch.zeros(1, 3, 16, 16), "lrp-epsilon")
    found = {row["image"]: row for row in rows(world / "results")}
    for sample in samples(world, loaded.preprocessing):
        scores, _ = metric("complexity").score(relevance=explainer(sample.image[None], Contrast()).relevance)
        for name, value in scores.items():
            np.testing.assert_allclose(found[sample.id]["scores"][name], float(value), rtol=1e-4)


def test_a_class_for_all_images_suits_every_metric(world):
    evaluate(evaluation(world, methods=("gradient",), metrics=("lerf", "conservation"), target="class:2"))
    assert {row["target"] for row in rows(world / "results")} == {2}


def test_a_tensor_among_several_is_evaluated(world):
    from relprop.zoo import Own

    evaluate(evaluation(world, model=("two",), methods=("gradient",), metrics=("lerf",), own=Own(tensor="out")))
    assert all(row["status"] == "ok" for row in rows(world / "results"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "classes:1,2"}, "asks for several maps of an image; an evaluation scores one"),
        (
            {"target": "contrasts"},
            "There is no target 'contrasts'; there are predicted, label, mask, boxes, and targets such as class:3",
        ),
    ],
)
def test_what_does_not_suit_a_target_is_refused(world, settings, message):
    with pytest.raises(OptionError, match=message):
        evaluate(evaluation(world, **settings))
