import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relprop.datasets import Failure, Sample, open_dataset
from relprop.datasets.imagenet import open_imagenet, synsets
from relprop.errors import InputError
from relprop.zoo import Preprocessing
from tests.files import SHARED

REAL = SHARED / "data" / "imagenet"
SMALL = Preprocessing(size=(8, 8), resize=(8, 8), scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))
NAMES = [f"ILSVRC2012_val_{place:08d}" for place in (1, 2, 3)]
WNIDS = ["n01440764", "n02123394", "n15075141"]
INDICES = [0, 283, 999]


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (10, 20, 30)).save(path, format="JPEG")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    for name in NAMES:
        image(tmp_path / "val" / f"{name}.JPEG")
    return tmp_path


def devkit(root: Path, truth: list[int]) -> None:
    """Write the devkit's two files as they are laid out: its own class numbers, and inner nodes behind the 1000 classes."""
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy is not installed")
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in truth))
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    entries = [
        (1, WNIDS[2], "toilet tissue", 0),
        (2, WNIDS[0], "tench", 0),
        (3, WNIDS[1], "Persian cat", 0),
        (1001, "n00001740", "x", 3),
    ]
    scipy_io.savemat(folder / "meta.mat", {"synsets": np.array(entries, dtype=kind).reshape(-1, 1)})


def labels_of(root: Path, **options: object) -> list[int]:
    dataset = open_imagenet(root, **options)
    assert list(dataset.ids) == NAMES
    return [dataset.read(name).labels[0] for name in dataset.ids]


def test_synsets_are_the_thousand_in_sorted_order() -> None:
    assert len(synsets()) == 1000
    assert list(synsets()) == sorted(synsets())
    assert [synsets()[wnid] for wnid in WNIDS] == INDICES


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "val_labels.csv",
            "file,label,wnid\n" + "".join(f"{n}.JPEG,{i},{w}\n" for n, i, w in zip(NAMES, INDICES, WNIDS, strict=True)),
        ),
        ("val_labels.csv", "filename,wnid\n" + "".join(f"{n},{w}\n" for n, w in zip(NAMES, WNIDS, strict=True))),
        ("val.txt", "".join(f"{n}.JPEG {i}\n" for n, i in zip(NAMES, INDICES, strict=True))),
        (
            "LOC_val_solution.csv",
            "ImageId,PredictionString\n" + "".join(f"{n},{w} 1 2 3 4 \n" for n, w in zip(NAMES, WNIDS, strict=True)),
        ),
    ],
)
def test_labels_in_every_text_form(flat: Path, file: str, text: str) -> None:
    (flat / file).write_text(text)
    assert labels_of(flat) == INDICES
    (flat / file).rename(flat / f"other{Path(file).suffix}")
    assert labels_of(flat, labels=flat / f"other{Path(file).suffix}") == INDICES


def test_labels_of_the_devkit(flat: Path) -> None:
    devkit(flat, [2, 3, 1])
    assert labels_of(flat) == INDICES
    assert labels_of(flat, labels=flat / "ILSVRC2012_devkit_t12/data/meta.mat") == INDICES


def test_class_folders_need_no_labels(tmp_path: Path) -> None:
    for name, wnid in zip(NAMES, WNIDS, strict=True):
        image(tmp_path / "val" / wnid / f"{name}.JPEG")
    assert labels_of(tmp_path) == INDICES
    assert labels_of(tmp_path / "val") == INDICES


def test_boxes_count_pixels_from_zero_and_stay_inside(flat: Path) -> None:
    (flat / "val.txt").write_text("".join(f"{n} {i}\n" for n, i in zip(NAMES, INDICES, strict=True)))
    (flat / "bbox/val").mkdir(parents=True)
    box = "<xmin>0</xmin><ymin>8</ymin><xmax>7</xmax><ymax>16</ymax>"
    xml = f"<annotation><object><name>{WNIDS[1]}</name><bndbox>{box}</bndbox></object></annotation>"
    (flat / f"bbox/val/{NAMES[0]}.xml").write_text(xml)
    dataset = open_imagenet(flat)
    raw = dataset.read(NAMES[0])
    assert raw.boxes == ((0, 8, 8, 16),)
    assert raw.box_labels == (283,)
    assert [str(problem) for problem in dataset.problems] == [f"2 × image without box file: {NAMES[1]}, {NAMES[2]}"]
    sample = next(pickle.loads(pickle.dumps(dataset)).samples(SMALL))
    assert isinstance(sample, Sample)
    assert sample.boxes.tolist() == [[0, 4, 4, 8]]


def test_missing_and_damaged_files_are_said(flat: Path) -> None:
    (flat / "val.txt").write_text(f"{NAMES[0]} 0\n{NAMES[1]} 283\nILSVRC2012_val_00000009 7\n")
    (flat / f"val/{NAMES[1]}.JPEG").write_bytes(b"\xff\xd8\xff no image")
    dataset = open_imagenet(flat)
    assert [str(problem) for problem in dataset.problems] == [
        f"1 × image without label (left out): {NAMES[2]}",
        "1 × labeled image missing (left out): ILSVRC2012_val_00000009",
    ]
    good, bad = dataset.samples(SMALL)
    assert isinstance(good, Sample)
    assert isinstance(bad, Failure)
    assert bad.id == NAMES[1]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("val.txt", f"{NAMES[0]} 1000\n", "from 0 to 999"),
        ("val.txt", f"{NAMES[0]}\n", "label ''"),
        ("val_labels.csv", "a,b\n1,2\n", "columns file and label"),
        ("ILSVRC2012_validation_ground_truth.txt", "3\n4\n", "meta.mat is needed"),
    ],
)
def test_odd_labels_are_named(flat: Path, file: str, text: str, message: str) -> None:
    (flat / file).write_text(text)
    with pytest.raises(InputError, match=message):
        open_imagenet(flat)


def test_folders_without_images_or_labels_are_named(flat: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="have no labels"):
        open_imagenet(flat)
    with pytest.raises(InputError, match="no ImageNet images"):
        open_imagenet(tmp_path / "nowhere")
    devkit(flat, [2, 3, 7])
    with pytest.raises(InputError, match="class number 7"):
        open_imagenet(flat)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real ImageNet images are not here")
def test_the_real_images_have_labels_and_boxes_of_their_class() -> None:
    dataset = open_dataset(f"imagenet:{REAL}")
    assert len(dataset) == 44
    samples = list(dataset.samples(Preprocessing()))
    assert all(isinstance(sample, Sample) for sample in samples)
    own = [sample.labels[0] in sample.box_labels for sample in samples if isinstance(sample, Sample) and len(sample.boxes)]
    assert sum(own) / len(own) > 0.95
    boxes = [dataset.read(name).boxes for name in dataset.ids]
    assert sum(map(len, boxes)) == 74
