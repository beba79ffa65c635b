import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relprop.datasets import Failure, Sample, open_dataset
from relprop.datasets.coco import open_coco
from relprop.errors import InputError
from relprop.zoo import Preprocessing

SMALL = Preprocessing(size=(8, 8), resize=(8, 8), scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))
pytest.importorskip("pycocotools", reason="pycocotools is not installed")

CROWD = {"size": [16, 16], "counts": [136, *[8] * 15]}  # the lower right quarter, by columns


def polygon(x0: int, y0: int, x1: int, y1: int) -> list[list[int]]:
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations").mkdir()
    for name in ("a", "b", "d"):
        Image.new("RGB", (16, 16)).save(tmp_path / f"val2017/{name}.jpg")
    entries = [
        {"category_id": 18, "bbox": [0, 0, 8, 16], "area": 128, "segmentation": polygon(0, 0, 8, 16), "iscrowd": 0},
        {"category_id": 90, "bbox": [4, 0, 4, 4], "area": 16, "segmentation": polygon(4, 0, 8, 4), "iscrowd": 0},
        {"category_id": 18, "bbox": [8, 8, 8, 8], "area": 64, "segmentation": CROWD, "iscrowd": 1},
    ]
    annotations = [{"id": place, "image_id": 1, **entry} for place, entry in enumerate(entries, start=1)]
    annotations += [{"id": 9, "image_id": 2, **entries[0]}, {"id": 10, "image_id": 3, **entries[0]}]
    data = {
        "images": [
            {"id": key, "file_name": f"{name}.jpg", "width": 16, "height": 16} for key, name in enumerate("abcd", start=1)
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 18, "name": "dog"}],
        "annotations": annotations,
    }
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(data))
    return tmp_path


def test_masks_boxes_and_labels(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = pickle.loads(pickle.dumps(open_dataset(f"coco:{coco}")))
    assert dataset.classes == ("dog", "toothbrush")
    sample = next(dataset.samples(SMALL))
    assert isinstance(sample, Sample)
    assert sample.labels == (0, 1)
    assert sample.boxes.tolist() == [[0, 0, 4, 8], [2, 0, 4, 2]]
    assert sample.box_labels == (0, 1)
    assert sample.object_mask(0)[0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert sample.object_mask(1)[0].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert sample.object_mask(0)[7].tolist() == [1, 1, 1, 1, 255, 255, 255, 255]
    assert not capsys.readouterr().out


def test_missing_and_odd_files_are_said(coco: Path) -> None:
    Image.fromarray(np.zeros((5, 7, 3), dtype=np.uint8)).save(coco / "val2017/b.jpg")
    dataset = open_coco(coco)
    assert dataset.ids == ("a", "b")
    assert [str(problem) for problem in dataset.problems] == [
        "1 × image missing in val2017 (left out): c",
        "1 × image without annotation (left out): d",
    ]
    good, bad = dataset.samples(SMALL)
    assert isinstance(good, Sample)
    assert isinstance(bad, Failure)
    assert "16 × 16" in bad.reason


def test_bad_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no COCO folder"):
        open_coco(tmp_path)
    (tmp_path / "val2017").mkdir()
    (tmp_path / "odd.json").write_text("[1, 2")
    with pytest.raises(InputError, match="no COCO annotation file"):
        open_coco(tmp_path, annotations=tmp_path / "odd.json")
