"""A small world to evaluate in: models in a file, a folder of images with masks and class folders, and what a run left."""

import json

import numpy as np
import pyarrow as pa
from PIL import Image

from relprop.evaluation import Evaluation, choices, models, read_rows
from tests.files import NO_RULE

FACTORIES = f"""{NO_RULE}
def layers(classes=4, seed=0):
    torch.manual_seed(seed)
    first = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU()
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, classes))

def small():
    return layers(), Preprocessing((16, 16), 16), ["cat", "cow", "dog", "horse"]

def other():
    return layers(seed=1), Preprocessing((16, 16), 16)

def three():
    return layers(classes=3), Preprocessing((16, 16), 16)

def unseeded():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)), Preprocessing((16, 16), 16)
"""
CLASSES = ("cat", "cow", "dog", "horse")


def make_world(folder, count=10):
    """Models in `m.py`, images in `images/CLASS`, masks in `masks/CLASS`: a bright square on noise is the object."""
    (folder / "m.py").write_text(FACTORIES)
    rng = np.random.default_rng(0)
    for number in range(count):
        name = CLASSES[number % 4]
        for kind in ("images", "masks"):
            (folder / kind / name).mkdir(parents=True, exist_ok=True)
        pixels, mask = rng.integers(0, 120, (24, 20 + number % 3, 3), dtype=np.uint8), np.zeros((24, 20 + number % 3), np.uint8)
        top, left = rng.integers(2, 12, 2)
        pixels[top : top + 8, left : left + 8] += 120
        mask[top : top + 8, left : left + 8] = 1
        Image.fromarray(pixels).save(folder / "images" / name / f"{number:03d}.png")
        Image.fromarray(mask).save(folder / "masks" / name / f"{number:03d}.png")
    return folder


def evaluation(world, name="results", *, model=("small",), methods=("rap", "gradient"), metrics=("segmentation", "gae"), **more):
    """An evaluation of the small world's models."""
    settings = {"block": 4, "batch_size": 4, "data_options": {"masks": str(world / "masks")}, **more}
    return Evaluation(
        data=f"folder:{world / 'images'}",
        models=models(*(f"{world / 'm.py'}:{each}" for each in model)),
        methods=choices(*methods),
        metrics=choices(*metrics),
        output=world / name,
        **settings,
    )


def table(folder):
    """All rows of a results folder, without what differs from run to run."""
    return pa.Table.from_batches(read_rows(folder)).drop_columns(["seconds"])


def rows(folder):
    """All rows as dicts, maps as dicts too."""
    found = table(folder).to_pylist()
    return [{**row, **{name: dict(row[name]) for name in ("scores", "curves", "statistics")}} for row in found]


def identities(folder):
    """What every row is of, sorted: a list, so that a row that is there twice shows."""
    names = ("model", "method", "method_options", "metric", "metric_options", "image")
    return sorted(tuple(row[name] for name in names) for row in rows(folder))


def settings(folder):
    return json.loads((folder / "run.json").read_text())
