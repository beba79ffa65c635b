"""Every preset, from the command line to its report, with tiny models."""

import argparse
import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from relprop.cli import app
from relprop.datasets.imagenet import synsets
from relprop.datasets.voc import VOC_CLASSES
from relprop.errors import OptionError
from relprop.evaluation import read_rows, report
from relprop.evaluation.presets import PRESETS, with_preset
from relprop.zoo import import_torchvision
from tests.datasets.birds import SHAPES, make_birds
from tests.evaluation.world import FACTORIES, make_world

MODELS = f"""{FACTORIES}
def of(classes, side=16):
    return layers(classes=classes), Preprocessing((side, side), (side, side))

def padded():
    torch.manual_seed(0)
    first = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, stride=2), nn.ReLU()
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)), Preprocessing((16, 16), 16), ["cat", "cow", "dog", "horse"]

def thousand():
    return of(1000)

def twenty():
    return of(20)

def birds():
    return of({len(SHAPES)}, 24)
"""
NAME = "n02084071_1"


def prepare(world, preset):
    """Write the data of a preset; return its name for the command line, and the model."""
    (world / "m.py").write_text(MODELS)
    if preset in {"srg", "single-deletion"}:
        return f"folder:{world / 'images'}", "small"
    if preset in {"gridpg", "difull", "dipart"}:
        write_mosaics_of(world)
        return f"mosaic:{world / 'm.json'}", "padded"
    if preset == "known-map":
        return "handset:difference", None
    if preset == "pointing":
        return f"voc:{make_voc(world)}", "twenty"
    if preset == "imagenet-s":
        return f"imagenet-s:{make_imagenet_s(world)}", "thousand"
    return f"funnybirds:{make_birds(world)}", "birds"


def write_mosaics_of(world):
    """Mosaics of photos as if they had been recognized: a random model sees one class in all of them."""
    photos = [min((world / "images" / name).glob("*.png")) for name in ("cat", "cow", "dog", "horse")]
    cells = [[f"{path.parent.name}/{path.name}", label] for label, path in enumerate(photos)]
    (world / "m.json").write_text(
        json.dumps(
            {
                "source": f"folder:{world / 'images'}",
                "options": {},
                "grid": 2,
                "size": [16, 16],
                "resize": 16,
                "interpolation": "bilinear",
                "classes": ["cat", "cow", "dog", "horse"],
                "cells": [cells],
            }
        )
    )


def make_voc(world):
    root = world / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/val.txt").write_text("a\nb\n")
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>2</ymin><xmax>{x + 5}</xmax><ymax>9</ymax></bndbox></object>"
        for name, x in (("dog", 1), ("person", 9))
    )
    for name in "ab":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(
            root / f"JPEGImages/{name}.jpg"
        )
        (root / f"Annotations/{name}.xml").write_text(f"<annotation>{boxes}</annotation>")
    return root


def make_imagenet_s(world):
    """Two images in the official layout: masks are RGB, the class R + 256 G, 1000 is ignored."""
    root = world / "ImageNetS50"
    wnids = sorted(synsets())[:2]
    (root).mkdir()
    (root / "ImageNetS_categories_im50.txt").write_text("\n".join(wnids))
    for number, wnid in enumerate(wnids, 1):
        for folder in ("validation", "validation-segmentation"):
            (root / folder / wnid).mkdir(parents=True)
        mask = np.zeros((16, 16, 3), dtype=np.uint8)
        mask[4:9, 4:9, 0] = number
        mask[0, :, 0], mask[0, :, 1] = 1000 % 256, 1000 // 256
        Image.new("RGB", (16, 16), (90, 40 * number, 0)).save(root / f"validation/{wnid}/ILSVRC2012_val_0000000{number}.JPEG")
        Image.fromarray(mask).save(root / f"validation-segmentation/{wnid}/ILSVRC2012_val_0000000{number}.png")
    return root


def command(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_runs_from_the_command_line_to_its_report(tmp_path, preset):
    world = make_world(tmp_path, count=8)
    data, model = prepare(world, preset)
    more = ["--metrics", "srg:region=4"] if preset == "srg" else []
    named = "handset:difference" if model is None else f"{world / 'm.py'}:{model}"
    command(
        *("evaluate", "--preset", preset, "--data", data, "--model", named, "--methods", "lrp-epsilon,gradient"),
        *(*more, "--limit", "4", "--block", "4", "-o", world / "results"),
    )
    found = [row for batch in read_rows(world / "results") for row in batch.to_pylist()]
    metrics = {"srg"} if preset == "srg" else set(PRESETS[preset].settings["metrics"])
    assert {row["metric"] for row in found} == metrics
    assert {row["status"] for row in found} == {"ok"}
    tables = {table.metric.partition(":")[0]: table for table in report(world / "results").tables}
    assert set(tables) == metrics
    for table in tables.values():
        assert any(np.isfinite(line.score.value) for line in table.lines), table.metric
    if preset == "known-map":
        assert tables["known-map"].line("lrp-epsilon", "cosine").score.value > 0.99
    if preset == "pointing":
        assert [row["image"] for row in found][:2] == ["a#dog", "a#person"]
        assert {row["target"] for row in found} == {VOC_CLASSES.index("dog"), VOC_CLASSES.index("person")}
    if preset in {"difull", "dipart"}:
        assert {row["image"].partition("#")[2] for row in found} <= {"0", "3"}
    if preset == "difull":
        assert all(dict(row["scores"])["outside"] == 0 for row in found)


def test_what_is_said_goes_before_the_preset():
    found = with_preset(
        {"preset": "difull", "data": "mosaic:x", "grid": "full", "metrics": ["relevance-mass"], "data_options": {"cells": "all"}}
    )
    assert found == {
        "data": "mosaic:x",
        "grid": "full",
        "metrics": ["relevance-mass"],
        "data_options": {"cells": "all"},
        "target": "label",
        "geometry": "resize",
    }
    table = with_preset({"preset": "pointing", "data": {"source": "voc:x", "task": "segmentation"}})
    assert table["data_options"] == {"each_class": True}
    assert with_preset({"data": "voc:x"}) == {"data": "voc:x"}


def test_a_preset_that_does_not_fit_is_refused():
    with pytest.raises(OptionError, match=r"no preset 'gridgp'.*Did you mean 'gridpg'"):
        with_preset({"preset": "gridgp"})
    with pytest.raises(OptionError, match="the preset 'gridpg' takes the data set mosaic, not 'voc'"):
        with_preset({"preset": "gridpg", "data": "voc:x"})


def test_idsds_takes_its_folders_of_classes_and_its_checkpoints(tmp_path):
    wnids = sorted(synsets())[:2]
    for number, wnid in enumerate(wnids):
        (tmp_path / f"imagenet/val/{wnid}").mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"imagenet/val/{wnid}/ILSVRC2012_val_0000000{number}.JPEG")
    import_torchvision()
    from torchvision.models import resnet18

    torch.manual_seed(0)
    state = {f"module.{key}": value for key, value in resnet18().state_dict().items()}
    torch.save({"epoch": 30, "state_dict": state, "args": argparse.Namespace(lr=0.001)}, tmp_path / "resnet18.pth.tar")
    command(
        *("evaluate", "--preset", "single-deletion", "--data", f"imagenet:{tmp_path / 'imagenet'}", "--size", "64"),
        *("--model", f"torchvision:resnet18={tmp_path / 'resnet18.pth.tar'}", "--methods", "input-x-gradient"),
        *("-o", tmp_path / "results"),
    )
    found = [row for batch in read_rows(tmp_path / "results") for row in batch.to_pylist()]
    assert [(row["status"], row["target"]) for row in found] == [("ok", 0), ("ok", 1)]
    assert all(abs(dict(row["scores"])["single_deletion"]) <= 1 for row in found)
