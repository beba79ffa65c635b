from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from relprop.cli import app
from relprop.datasets.voc import VOC_CLASSES
from relprop.errors import InputError, OptionError
from relprop.evaluation.papers.protocols import PROTOCOLS, Protocol, ProtocolModel
from relprop.evaluation.papers.published import RAP_TABLE_1_NUMBERS
from relprop.evaluation.papers.reproduction import Reproduction, Sources, of_models, protocol_named, reproduce
from relprop.evaluation.papers.tables import reproduction_csv, reproduction_grids, reproduction_markdown
from relprop.evaluation.settings import choices
from relprop.methods import METHODS
from relprop.methods import pattern_fit as patterns
from relprop.metrics import METRICS
from relprop.zoo import load
from tests.datasets.birds import make_birds

MODELS = """
import torch
from torch import nn
from relprop.zoo import Preprocessing

def net(classes=1000):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, classes))

def vgg():
    return net(), Preprocessing((16, 16), 20)

def twenty():
    return net(20), Preprocessing((16, 16), 20)

def birds():
    return net(5), Preprocessing((16, 16), 20)

def broken():
    raise RuntimeError("no network")
"""
XML = """<annotation><object><name>n01440764</name><bndbox><xmin>4</xmin><ymin>4</ymin><xmax>{edge}</xmax><ymax>14</ymax></bndbox></object>
</annotation>"""
NAMES = [f"ILSVRC2012_val_{place:08d}" for place in range(1, 6)]


def picture(path: Path, seed: int) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="JPEG")
    return pixels


def make_voc(root: Path) -> Path:
    folder = root / "VOCdevkit" / "VOC2012"
    for part in ("SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    (folder / "ImageSets/Segmentation/val.txt").write_text("a\nb\nc\n")
    for place, name in enumerate("abc"):
        picture(folder / f"JPEGImages/{name}.jpg", place)
        mask = np.zeros((20, 24), dtype=np.uint8)
        mask[3 : 12 + place, 5:15] = VOC_CLASSES.index("dog") + 1
        saved = Image.fromarray(mask)
        saved.putpalette([*range(256)] * 3)
        saved.save(folder / f"SegmentationClass/{name}.png")
    return root / "VOCdevkit"


def make_imagenet(root: Path) -> Path:
    for place, name in enumerate(NAMES):
        picture(root / "val" / f"{name}.JPEG", 10 + place)
        (root / "bbox" / "val").mkdir(parents=True, exist_ok=True)
        (root / "bbox" / "val" / f"{name}.xml").write_text(XML.format(edge=12 + place))
    (root / "val_labels.csv").write_text("file,label\n" + "".join(f"{name}.JPEG,0\n" for name in NAMES))
    return root


def make_objects(root: Path) -> Path:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    root.mkdir()
    with h5py.File(root / "gtsegs_ijcv.mat", "w") as file:
        pictures = file.create_dataset("value/img", (2, 1), dtype=h5py.ref_dtype)
        masks = file.create_dataset("value/gt", (2, 1), dtype=h5py.ref_dtype)
        for place in range(2):
            pixels = np.random.default_rng(place).integers(0, 255, (3, 24, 20), dtype=np.uint8)
            mask = np.zeros((24, 20), dtype=np.uint8)
            mask[4:12, 5 : 12 + place] = 1
            inner = file.create_dataset(f"#refs#/inner{place}", (1, 1), dtype=h5py.ref_dtype)
            inner[0, 0] = file.create_dataset(f"#refs#/mask{place}", data=mask).ref
            pictures[place, 0], masks[place, 0] = file.create_dataset(f"#refs#/image{place}", data=pixels).ref, inner.ref
    return root


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(MODELS)
    return tmp_path / "nets.py"


def small(name: str, models: Path, methods: str = "rap,gradient:absolute=true,pattern-attribution") -> Protocol:
    """The experiment on tiny models in place of the paper's."""
    named = (ProtocolModel("vgg16", "VGG-16", f"{models}:vgg"), ProtocolModel("resnet50", "ResNet-50", f"{models}:broken"))
    return replace(PROTOCOLS[name], models=named, methods=choices(*methods.split(",")))


def line(found: Reproduction, part: str, method: str, value: str, metric: str) -> tuple[float | None, float | None, int]:
    (row,) = [
        r
        for r in found.comparisons
        if (r.part, r.method, r.value, r.metric) == (part, method, value, metric) and r.model == "VGG-16"
    ]
    return (None if row.ours is None else row.ours.value), row.published, row.images


def test_table_1_on_every_set_that_is_there(models: Path, tmp_path: Path) -> None:
    data = {
        "imagenet": make_imagenet(tmp_path / "i"),
        "imagenet-seg": make_objects(tmp_path / "s"),
        "voc": make_voc(tmp_path / "v"),
    }
    said: list[str] = []
    loaded = load(f"{models}:vgg")
    fitted = patterns.fit_patterns(loaded.model, [torch.rand(8, 3, 16, 16)])
    patterns.save_patterns(fitted, tmp_path / "p.safetensors", 8)
    sources = Sources(data, patterns={"vgg16": tmp_path / "p.safetensors"})
    found = reproduce(small("rap-table1", models), sources, tmp_path / "out", say=said.append)
    assert len(said) == 1
    assert said[0].startswith("Left out: ResNet-50 (--weights resnet50=FILE gives its weights):")
    ours, published, images = line(found, "voc", "rap", "miou", "segmentation")
    table = found.reports["voc"].table("nets.py:vgg", "segmentation")
    assert table is not None
    assert ours == pytest.approx(100 * table.line("rap", "miou", "set").score.value)
    assert (published, images) == (55.60, 3)
    assert line(found, "voc", "rap", "miou", "segmentation:threshold=zero")[1:] == (55.60, 3)
    assert line(found, "imagenet", "gradient", "pos", "outside-inside")[1:] == (0.619, 5)
    assert line(found, "imagenet", "gradient", "all", "outside-inside")[1] is None
    assert line(found, "imagenet-seg", "pattern-attribution", "pixel_accuracy", "segmentation")[1:] == (76.84, 2)
    assert line(found, "imagenet", "lrp-alpha1-beta0", "pos", "")[0] is None
    median = found.reports["imagenet"].table("nets.py:vgg", "outside-inside").line("rap", "all", "median")
    assert line(found, "imagenet", "rap", "all, median", "outside-inside") == (pytest.approx(median.score.value), None, 5)
    page = reproduction_markdown(found)
    assert "| ResNet-50 | rap | 0 | – | 0.164 | – | – | 0.166 | – |" in page
    assert "ResNet-50" in page
    assert reproduction_csv(found).count("\n") == 1 + len(found.comparisons)


def test_what_is_missing_is_said_and_the_rest_runs(models: Path, tmp_path: Path) -> None:
    said: list[str] = []
    voc = make_voc(tmp_path / "v")
    sources = Sources({"voc": voc, "imagenet": tmp_path / "nothing"}, limit=2)
    found = reproduce(small("rap-table1", models), sources, tmp_path / "out", say=said.append)
    assert list(found.reports) == ["voc"]
    assert [text.split(":")[0] for text in said] == ["Left out"] * 4
    assert "--imagenet-seg PATH says where the images are" in " ".join(said)
    assert "--imagenet: " in said[0]
    assert "--patterns vgg16=FILE gives its patterns" in said[-1]
    assert line(found, "voc", "rap", "miou", "segmentation")[2] == 2
    assert any(": not run" in grid.caption for grid in reproduction_grids(found))


def test_nothing_to_run_is_an_error(models: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Nothing of rap-table2 can run: Left out.*--imagenet-seg"):
        reproduce(small("rap-table2", models), Sources({}), tmp_path)
    with pytest.raises(OptionError, match=r"rap-table2 has no model 'vgg'.*Did you mean 'vgg16'"):
        reproduce(PROTOCOLS["rap-table2"], Sources({}, weights={"vgg": tmp_path}), tmp_path)
    with pytest.raises(OptionError, match=r"no experiment 'rap-table'.*Did you mean"):
        protocol_named("rap-table")


def test_table_2_lists_what_others_published(models: Path, tmp_path: Path) -> None:
    found = reproduce(
        small("rap-table2", models, "rap"), Sources({"imagenet-seg": make_objects(tmp_path / "s")}), tmp_path / "out"
    )
    page = reproduction_markdown(found)
    assert "| – | Xiong et al. | 0 |" in page
    assert line(found, "imagenet-seg", "rap", "miou", "segmentation")[1] == 62.23


def test_figure_7_follows_the_accuracy_of_the_true_class(models: Path, tmp_path: Path) -> None:
    root = make_imagenet(tmp_path / "i")
    loaded = load(f"{models}:vgg")
    geometry = replace(loaded.preprocessing, resize=(16, 16))
    images = torch.stack([geometry.tensor(Image.open(root / "val" / f"{name}.JPEG")) for name in NAMES[:4]])
    predicted = loaded.model.eval()(images).argmax(1).tolist()
    labels = [predicted[0], predicted[1], (predicted[2] + 1) % 1000, predicted[3], 0]
    (root / "val_labels.csv").write_text("file,label\n" + "".join(f"{n}.JPEG,{k}\n" for n, k in zip(NAMES, labels, strict=True)))
    found = reproduce(small("rap-fig7", models, "rap"), Sources({"imagenet": root}, limit=4), tmp_path / "out")
    (curve, *_) = found.reports["imagenet"].tables[0].curves
    assert curve.name == "accuracy_curve"
    assert curve.points[0].value == 0.75


def test_gae(models: Path, tmp_path: Path) -> None:
    sources = Sources({"imagenet": make_imagenet(tmp_path / "i")})
    found = reproduce(small("abslrp-gae", models, "abslrp,gradient"), sources, tmp_path / "out")
    assert [row.images for row in found.comparisons if row.value == "gae"] == [1, 1]
    assert "| method | groups of 4 | failed |" in found.reports["imagenet"].markdown()


def test_the_pointing_game_stands_beside_torchrays_numbers(models: Path, tmp_path: Path) -> None:
    root = tmp_path / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/test.txt").write_text("a\nb\n")
    entry = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox></object>"
    objects = entry.format("dog", 1, 6) + entry.format("person", 9, 22)
    for place, name in enumerate("ab"):
        picture(root / f"JPEGImages/{name}.jpg", place)
        size = "<size><width>24</width><height>20</height></size>"
        (root / f"Annotations/{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    protocol = replace(
        small("torchray-pointing", models, "gradient:absolute=true,rap"),
        models=(ProtocolModel("vgg16", "VGG-16", f"{models}:twenty"),),
    )
    found = reproduce(protocol, Sources({"voc07": root}), tmp_path / "out")
    ours, published, pairs = line(found, "voc07", "gradient", "class_pointing", "class-pointing")
    assert 0 <= ours <= 100
    assert (published, pairs) == (76.3, 4)
    assert line(found, "voc07-difficult", "gradient", "class_pointing", "class-pointing")[1:] == (56.9, 4)


def test_funnybirds_stands_beside_the_numbers_of_its_authors(models: Path, tmp_path: Path) -> None:
    named = (ProtocolModel("resnet50", "VGG-16", f"{models}:birds"),)
    protocol = replace(small("funnybirds", models, "input-x-gradient"), models=named)
    found = reproduce(protocol, Sources({"funnybirds": make_birds(tmp_path)}, limit=4), tmp_path / "out")
    ours, published, images = line(found, "funnybirds", "input-x-gradient", "correctness", "parts")
    assert 0 <= ours <= 1
    assert (published, images) == (0.54592, 4)


def test_protocols_hold_together() -> None:
    for protocol in PROTOCOLS.values():
        assert {method.name for method in protocol.methods} <= set(METHODS)
        for part in protocol.parts:
            for metric in part.metrics:
                assert set(part.values) <= {value.name for value in METRICS[metric.name].values}
        keys = {model.key for model in protocol.models} | {"–"}
        names = {method.name for method in protocol.methods}
        for number in protocol.published:
            assert number.model in keys
            assert number.method in names or number.model == "–"
            assert number.part in {part.name for part in protocol.parts}
    assert len(RAP_TABLE_1_NUMBERS) == 13 + 12 + 16 + 14
    assert {number.model for number in of_models(PROTOCOLS["rap-table1"], ["resnet50"]).published} == {"resnet50"}
    assert [model.key for model in of_models(PROTOCOLS["rap-fig7"], ["resnet50"]).models] == ["resnet50"]


def test_the_command(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "rap-fig7", small("rap-fig7", models, "rap"))
    imagenet = make_imagenet(tmp_path / "i")
    arguments = ["reproduce", "rap-fig7", "--imagenet", str(imagenet), "-o", str(tmp_path / "out"), "--limit", "4"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "Left out: ResNet-50" in result.output
    assert "VGG-16" in result.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"imagenet", "figures", "rap-fig7.md", "rap-fig7.csv", "rap-fig7-imagenet-report.md"} == names
    result = CliRunner().invoke(app, [*arguments, "--weights", "vgg16"])
    assert result.exit_code == 1
    assert "is not of the form MODEL=FILE" in result.output
    result = CliRunner().invoke(app, ["reproduce", "rap-fig7", "-o", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "Nothing of rap-fig7 can run" in result.output
