import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from relprop.datasets import Failure, Sample, open_voc
from relprop.datasets.voc import VOC_CLASSES, read_boxes
from relprop.errors import InputError, OptionError
from relprop.zoo import Preprocessing
from tests.files import SHARED

REAL = SHARED / "data" / "VOCdevkit"
SMALL = Preprocessing(size=(8, 8), resize=(8, 8), scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))
XML = """<annotation><object><name>dog</name><bndbox><xmin>5</xmin><ymin>1</ymin><xmax>8</xmax><ymax>16</ymax></bndbox></object>
<object><name>person</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>16.0</xmax><ymax>8</ymax></bndbox></object></annotation>"""


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("a\nb\nc\n\n")
    (root / "ImageSets/Main/val.txt").write_text("a\nb\n")
    values = np.zeros((16, 16), dtype=np.uint8)
    values[:, 4:8] = VOC_CLASSES.index("dog") + 1
    values[:8, 8:] = VOC_CLASSES.index("person") + 1
    values[12:, 12:] = 255
    for name in "abc":
        Image.fromarray(np.repeat(values[:, :, None], 3, axis=2)).save(root / f"JPEGImages/{name}.jpg", quality=100)
        mask = Image.fromarray(values)
        mask.putpalette([*range(256)] * 3)
        mask.save(root / f"SegmentationClass/{name}.png")
    (root / "Annotations/a.xml").write_text(XML)
    return tmp_path


def test_image_boxes_and_mask_go_through_the_same_geometry(voc: Path) -> None:
    dataset = open_voc(voc)
    sample = next(dataset.samples(SMALL))
    assert isinstance(sample, Sample)
    dog, person = VOC_CLASSES.index("dog"), VOC_CLASSES.index("person")
    assert sample.labels == (dog, person) or sample.labels == (person, dog)
    assert sample.image.shape == (3, 8, 8)
    assert sample.mask is not None
    assert sample.mask.dtype == torch.uint8
    assert (sample.mask[6:, 6:] == 255).all()
    assert sample.object_mask(dog)[0].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert sample.object_mask(person)[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert sample.object_mask()[0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert sample.object_mask(0).sum() == 255 * 4
    assert sample.boxes_of(dog).tolist() == [[2, 0, 4, 8]]
    assert sample.boxes_of().tolist() == [[2, 0, 4, 8], [0, 0, 8, 4]]


def test_a_center_crop_cuts_boxes_and_masks(voc: Path) -> None:
    crop = Preprocessing(size=(4, 4), resize=8, scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))
    sample = next(open_voc(voc).samples(crop))
    assert isinstance(sample, Sample)
    assert sample.boxes.tolist() == [[0, 0, 2, 4], [0, 0, 4, 2]]
    assert sample.object_mask(VOC_CLASSES.index("dog"))[3].tolist() == [1, 1, 0, 0]


def test_the_main_task_has_boxes_and_no_masks(voc: Path) -> None:
    (voc / "VOCdevkit/VOC2012/Annotations/b.xml").write_text(XML.replace("dog", "cat"))
    dataset = open_voc(voc / "VOCdevkit", task="main")
    assert dataset.ids == ("a", "b")
    sample = list(dataset.samples(SMALL))[1]
    assert isinstance(sample, Sample)
    assert sample.labels == (VOC_CLASSES.index("cat"), VOC_CLASSES.index("person"))
    assert sample.mask is None
    with pytest.raises(InputError, match="no segmentation mask"):
        sample.object_mask()


def test_missing_files_are_reported_before_anything_runs(voc: Path) -> None:
    root = voc / "VOCdevkit/VOC2012"
    (root / "JPEGImages/b.jpg").unlink()
    (root / "SegmentationClass/c.png").unlink()
    dataset = open_voc(root)
    assert dataset.ids == ("a",)
    assert [str(problem) for problem in dataset.problems] == [
        "1 × image missing in JPEGImages (left out): b",
        "1 × annotation missing (left out): c",
    ]


def test_damaged_files_in_the_middle_are_failures_and_the_rest_goes_on(voc: Path) -> None:
    root = voc / "VOCdevkit/VOC2012"
    (root / "JPEGImages/a.jpg").write_bytes((root / "JPEGImages/a.jpg").read_bytes()[:200])
    Image.new("L", (3, 3)).save(root / "SegmentationClass/b.png")
    first, second, third = open_voc(root).samples(SMALL)
    assert isinstance(first, Failure)
    assert first.id == "a"
    assert isinstance(second, Failure)
    assert "3 × 3" in second.reason
    assert isinstance(third, Sample)


def test_single_class_and_workers(voc: Path) -> None:
    root = voc / "VOCdevkit/VOC2012"
    Image.new("L", (16, 16), 12).save(root / "SegmentationClass/b.png")
    dataset = open_voc(voc, single_class=True)
    assert dataset.ids == ("b",)
    assert pickle.loads(pickle.dumps(dataset)).read("b").labels == (11,)


def test_bad_folders_splits_and_tasks_are_named(voc: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Pascal VOC"):
        open_voc(tmp_path / "nowhere")
    with pytest.raises(InputError, match="there are: val"):
        open_voc(voc, split="test")
    with pytest.raises(InputError, match="VOC2007"):
        open_voc(voc, year=2007)
    with pytest.raises(OptionError, match="task"):
        open_voc(voc, task="detection")


def test_a_broken_annotation_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<annotation><object><name>dog</name></object></annotation>")
    with pytest.raises(InputError, match=r"a\.xml is no VOC annotation: an object has no bndbox/xmin"):
        read_boxes(path)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real VOC images are not here")
def test_the_real_images_show_the_classes_their_index_says() -> None:
    import json

    index = json.loads((REAL / "VOC2012/index.json").read_text())
    dataset = open_voc(REAL)
    assert len(dataset) == len(index) == 350
    assert not dataset.problems
    expected = {entry["id"]: set(entry["classes"]) for entry in index}
    for name in dataset.ids[::10]:
        assert {VOC_CLASSES[label] for label in dataset.read(name).labels} == expected[name]
    sample = next(dataset.samples(Preprocessing(resize=(224, 224))))
    assert isinstance(sample, Sample)
    assert sample.image.shape == (3, 224, 224)
    assert sample.mask is not None
    assert set(sample.mask.unique().tolist()) <= {0, 1, 255}
