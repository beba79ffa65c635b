import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relprop.datasets import Failure, Sample, open_dataset
from relprop.datasets.folder import open_folder
from relprop.errors import InputError, OptionError
from relprop.zoo import Preprocessing

SMALL = Preprocessing(size=(8, 8), resize=(8, 8), scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[:8], mask[12:] = 3, 255
    for name in ("cat/a", "dog/b"):
        for part, suffix in (("images", "jpg"), ("masks", "png")):
            (tmp_path / part / name).parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(mask) if part == "masks" else Image.new("RGB", (16, 16))
            picture.save(tmp_path / part / f"{name}.{suffix}")
    (tmp_path / "boxes.json").write_text(
        json.dumps({"cat/a.jpg": [{"box": [0, 0, 16, 8], "label": "dog"}, {"box": [2, 2, 4, 4]}]})
    )
    return tmp_path


def test_class_folders_masks_and_boxes(root: Path) -> None:
    dataset = open_dataset(f"folder:{root / 'images'}", masks=root / "masks", boxes=root / "boxes.json")
    dataset = pickle.loads(pickle.dumps(dataset))
    assert dataset.classes == ("cat", "dog")
    assert dataset.ids == ("cat/a.jpg", "dog/b.jpg")
    first, second = dataset.samples(SMALL)
    assert isinstance(first, Sample)
    assert isinstance(second, Sample)
    assert first.labels == (0, 1)
    assert second.labels == (1,)
    assert first.boxes.tolist() == [[0, 0, 8, 4], [1, 1, 2, 2]]
    assert first.box_labels == (1, 0)
    assert first.object_mask()[:, 0].tolist() == [1, 1, 1, 1, 0, 0, 255, 255]
    assert [str(problem) for problem in dataset.problems] == ["1 × image without box: dog/b.jpg"]


def test_the_models_class_order_can_be_given(root: Path) -> None:
    dataset = open_folder(root / "images", classes=("bird", "dog", "cat"))
    assert [dataset.read(name).labels for name in dataset.ids] == [(2,), (1,)]
    with pytest.raises(InputError, match="'cat'"):
        open_folder(root / "images", classes=("bird", "dog"))


def test_black_and_white_masks_need_a_word(root: Path) -> None:
    for path in (root / "masks").rglob("*.png"):
        Image.fromarray(np.repeat(np.array([[255], [0]], dtype=np.uint8), 8, axis=0).repeat(16, axis=1)).save(path)
    with pytest.raises(InputError, match="object_value=255"):
        open_folder(root / "images", masks=root / "masks")
    sample = next(open_folder(root / "images", masks=root / "masks", object_value=255).samples(SMALL))
    assert isinstance(sample, Sample)
    assert sample.object_mask()[:, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_missing_and_damaged_files_are_said(root: Path) -> None:
    (root / "masks/cat/a.png").unlink()
    (root / "images/dog/b.jpg").write_bytes(b"no image")
    dataset = open_folder(root / "images", masks=root / "masks")
    assert [str(problem) for problem in dataset.problems] == ["1 × mask missing (left out): cat/a.jpg"]
    (failure,) = dataset.samples(SMALL)
    assert isinstance(failure, Failure)
    assert failure.id == "dog/b.jpg"


def test_colored_masks_and_odd_boxes_are_named(root: Path) -> None:
    Image.new("RGB", (16, 16)).save(root / "masks/dog/b.png")
    *_, failure = open_folder(root / "images", masks=root / "masks").samples(SMALL)
    assert isinstance(failure, Failure)
    assert "mode RGB" in failure.reason
    (root / "boxes.json").write_text('{"cat/a.jpg": [{"box": [1, 2]}]}')
    with pytest.raises(InputError, match="must hold"):
        open_folder(root / "images", boxes=root / "boxes.json")


def test_folders_without_images_and_unknown_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        open_folder(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(OptionError, match="'masks'"):
        open_dataset(f"folder:{tmp_path}", mask=tmp_path)
    with pytest.raises(OptionError, match="'folder'"):
        open_dataset(f"foldr:{tmp_path}")
    with pytest.raises(OptionError, match="KIND:PATH"):
        open_dataset("voc")
