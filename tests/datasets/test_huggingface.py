import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relprop.datasets import Sample
from relprop.datasets.huggingface import open_huggingface
from relprop.errors import InputError, OptionError
from relprop.zoo import Preprocessing

datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")
SMALL = Preprocessing(size=(8, 8), resize=(8, 8), scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture
def table():
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[:8], mask[12:] = 1, 255
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "class": datasets.ClassLabel(names=["cat", "dog"]),
            "mask": datasets.Image(),
            "objects": {
                "bbox": datasets.List(datasets.List(datasets.Value("float32"))),
                "category": datasets.List(datasets.Value("int64")),
            },
        }
    )
    rows = {
        "picture": [Image.new("RGB", (16, 16)), Image.new("L", (16, 16))],
        "class": [1, 0],
        "mask": [Image.fromarray(mask)] * 2,
        "objects": [{"bbox": [[0, 0, 16, 8]], "category": [1]}, {"bbox": [], "category": []}],
    }
    return datasets.Dataset.from_dict(rows, features=features)


COLUMNS = {"image": "picture", "label": "class", "mask": "mask", "objects": "objects"}


def check(dataset) -> None:
    assert dataset.classes == ("cat", "dog")
    first, second = dataset.samples(SMALL)
    assert isinstance(first, Sample)
    assert isinstance(second, Sample)
    assert (first.labels, second.labels) == ((1,), (0,))
    assert first.image.shape == second.image.shape == (3, 8, 8)
    assert first.boxes.tolist() == [[0, 0, 8, 4]]
    assert first.object_mask()[:, 0].tolist() == [1, 1, 1, 1, 0, 0, 255, 255]


def test_a_table_and_what_it_saved_to_disk(table, tmp_path: Path) -> None:
    check(pickle.loads(pickle.dumps(open_huggingface(table, **COLUMNS))))
    table.save_to_disk(tmp_path / "one")
    check(open_huggingface(tmp_path / "one", **COLUMNS))
    datasets.DatasetDict({"validation": table}).save_to_disk(tmp_path / "split")
    check(open_huggingface(tmp_path / "split", **COLUMNS))
    with pytest.raises(InputError, match="no split 'test'"):
        open_huggingface(tmp_path / "split", split="test", **COLUMNS)


def test_box_formats_and_missing_columns(table) -> None:
    dataset = open_huggingface(table, **COLUMNS, box_format="xyxy")
    assert dataset.read("00000000").boxes == ((0, 0, 16, 8),)
    assert open_huggingface(table, image="picture").read("00000000").labels == ()
    with pytest.raises(InputError, match="no column 'photo'"):
        open_huggingface(table, image="photo")
    with pytest.raises(OptionError, match="box_format"):
        open_huggingface(table, box_format="cxcywh")


def test_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded"):
        open_huggingface(tmp_path)
