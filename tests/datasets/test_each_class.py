"""One sample for each class in an image: VOC and COCO as the pointing game takes them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from relprop.datasets import open_dataset
from relprop.datasets.voc import VOC_CLASSES
from relprop.errors import OptionError
from relprop.zoo import Preprocessing

SMALL = Preprocessing((16, 16), (16, 16), scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))
DOG, PERSON, CAR = (VOC_CLASSES.index(name) for name in ("dog", "person", "car"))


def entry(name, box, difficult=0):
    edges = "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{edges}</bndbox></object>"


def annotation(*objects):
    return f"<annotation><size><width>16</width><height>16</height><depth>3</depth></size>{''.join(objects)}</annotation>"


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOCdevkit/VOC2007"
    for folder in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Main", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for kind in ("Main", "Segmentation"):
        (root / f"ImageSets/{kind}/test.txt").write_text("a\nb\nc\n")
    values = np.zeros((16, 16), dtype=np.uint8)
    values[:, 4:8] = DOG + 1
    values[:, 8:] = PERSON + 1
    for name in "abc":
        Image.new("RGB", (16, 16)).save(root / f"JPEGImages/{name}.jpg")
        Image.fromarray(values).save(root / f"SegmentationClass/{name}.png")
    small, large, hard = entry("dog", (1, 1, 4, 4)), entry("person", (1, 1, 16, 8)), entry("car", (9, 9, 12, 12), difficult=1)
    (root / "Annotations/a.xml").write_text(annotation(small, large, hard))
    (root / "Annotations/b.xml").write_text(annotation(small))
    (root / "Annotations/c.xml").write_text("<annotation>broken")
    return tmp_path


def test_each_class_of_voc_by_its_boxes(voc):
    dataset = open_dataset(f"voc:{voc}", split="test", task="main", each_class=True)
    assert dataset.ids == ("a#dog", "a#person", "b#dog")
    assert "1 × annotation that cannot be read (left out): c" in [str(problem) for problem in dataset.problems]
    dog, person, _ = dataset.samples(SMALL)
    assert (dog.labels[0], person.labels[0]) == (DOG, PERSON)
    assert dog.boxes_of(DOG).tolist() == [[0, 0, 4, 4]]
    assert person.boxes_of(PERSON).tolist() == [[0, 0, 16, 8]]


def test_the_difficult_pairs_are_small_and_not_alone(voc):
    dataset = open_dataset(f"voc:{voc}", split="test", task="main", each_class=True, subset="difficult")
    assert dataset.ids == ("a#dog",)  # the person fills half of the image, and b has nothing but a dog


def test_masks_are_numbered_by_the_class_that_leads(voc):
    dataset = open_dataset(f"voc:{voc}", split="test", each_class=True)
    dog, person = list(dataset.samples(SMALL))[:2]
    assert [dog.labels, person.labels] == [(DOG, PERSON), (PERSON, DOG)]
    assert dog.object_mask(DOG)[0].tolist() == person.object_mask(DOG)[0].tolist() == [0] * 4 + [1] * 4 + [0] * 8
    assert torch.equal(person.mask == 1, dog.mask == 2)


def test_options_that_contradict_each_other_are_refused(voc):
    with pytest.raises(OptionError, match="add each_class=true"):
        open_dataset(f"voc:{voc}", split="test", subset="difficult")
    with pytest.raises(OptionError, match=r"one of all, difficult, not 'difficlt'.*Did you mean 'difficult'"):
        open_dataset(f"voc:{voc}", split="test", each_class=True, subset="difficlt")


def test_each_class_of_coco_by_its_masks(tmp_path):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    (tmp_path / "val2014").mkdir()
    (tmp_path / "annotations").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "val2014/a.jpg")
    square = {"category_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]], "iscrowd": 0}
    half = {"category_id": 2, "bbox": [8, 0, 8, 16], "area": 128, "segmentation": [[8, 0, 16, 0, 16, 16, 8, 16]], "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 16, "height": 16}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "car"}],
        "annotations": [{"id": n, "image_id": 1, **one} for n, one in enumerate((square, half), 1)],
    }
    (tmp_path / "annotations/instances_val2014.json").write_text(json.dumps(content))
    every = open_dataset(f"coco:{tmp_path}", split="val2014", each_class=True)
    assert every.ids == ("a#dog", "a#car")
    assert [int(s.object_mask(s.labels[0]).sum()) for s in every.samples(SMALL)] == [16, 128]
    assert open_dataset(f"coco:{tmp_path}", split="val2014", each_class=True, subset="difficult").ids == ("a#dog",)
