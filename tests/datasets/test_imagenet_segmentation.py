import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relprop.datasets import Failure, Sample
from relprop.datasets.imagenet import synsets
from relprop.datasets.imagenet_segmentation import open_imagenet_s, open_imagenet_segmentation
from relprop.errors import InputError
from relprop.zoo import Preprocessing

SMALL = Preprocessing(size=(8, 8), resize=(8, 8), scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture(params=["column", "row"])
def mat(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Write two images in the layout of `gtsegs_ijcv.mat`: references to images, and to references to masks, both transposed."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    path = tmp_path / "gtsegs_ijcv.mat"
    shape = (2, 1) if request.param == "column" else (1, 2)
    with h5py.File(path, "w") as file:
        pictures = file.create_dataset("value/img", shape, dtype=h5py.ref_dtype)
        masks = file.create_dataset("value/gt", shape, dtype=h5py.ref_dtype)
        for place in range(2):
            pixels = np.zeros((3, 12, 6), dtype=np.uint8)  # channels × width × height
            pixels[0, :6] = 200
            mask = np.zeros((12, 6), dtype=np.uint8)
            mask[: 6 + 3 * place] = 1
            pixels_at = file.create_dataset(f"#refs#/image{place}", data=pixels)
            mask_at = file.create_dataset(f"#refs#/mask{place}", data=mask)
            inner = file.create_dataset(f"#refs#/inner{place}", (1, 1), dtype=h5py.ref_dtype)
            inner[0, 0] = mask_at.ref
            where = (place, 0) if request.param == "column" else (0, place)
            pictures[where], masks[where] = pixels_at.ref, inner.ref
    return path


def test_the_matlab_file_is_read_in_its_layout(mat: Path) -> None:
    dataset = pickle.loads(pickle.dumps(open_imagenet_segmentation(mat.parent)))
    assert dataset.ids == ("00000", "00001")
    raw = dataset.read("00001")
    assert raw.image.size == (12, 6)
    assert raw.image.getpixel((0, 3)) == (200, 0, 0)
    assert raw.image.getpixel((11, 3)) == (0, 0, 0)
    first, second = dataset.samples(SMALL)
    assert isinstance(first, Sample)
    assert isinstance(second, Sample)
    assert first.object_mask()[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert second.object_mask()[0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]


def test_files_of_another_layout_are_named(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    (tmp_path / "gtsegs_ijcv.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(InputError, match="cannot be read as the HDF5 file"):
        open_imagenet_segmentation(tmp_path)
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["value/img"] = 1
    with pytest.raises(InputError, match="no /value/gt"):
        open_imagenet_segmentation(tmp_path / "other.mat")
    with pytest.raises(InputError, match="cannot be read"):
        open_imagenet_segmentation(tmp_path / "nowhere.mat")


@pytest.fixture
def imagenet_s(tmp_path: Path) -> Path:
    """Three classes in the layout of ImageNetS919: mask values are R + 256·G, 1000 is void."""
    root = tmp_path / "ImageNetS919"
    wnids = ["n02123394", "n01440764", "n15075141"]
    (tmp_path / "ImageNetS_categories_im919.txt").write_text("\n".join(sorted(wnids)))
    for value, wnid in enumerate(sorted(wnids), start=1):
        for part in ("validation", "validation-segmentation"):
            (root / part / wnid).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(root / "validation" / wnid / f"{wnid}_1.JPEG")
        values = np.zeros((16, 16), dtype=np.int64)
        values[:, :8], values[8:, 8:], values[:2, 8:] = value, 1000, value % 3 + 1
        colors = np.stack([values % 256, values // 256, 0 * values], axis=2).astype(np.uint8)
        Image.fromarray(colors).save(root / "validation-segmentation" / wnid / f"{wnid}_1.png")
    return tmp_path


def test_imagenet_s_masks_are_decoded(imagenet_s: Path) -> None:
    for root in (imagenet_s, imagenet_s / "ImageNetS919"):
        dataset = open_imagenet_s(root)
        assert len(dataset) == 3
        sample = next(dataset.samples(SMALL))
        assert isinstance(sample, Sample)
        assert sample.id == "n01440764/n01440764_1"
        assert sample.labels == (0, synsets()["n02123394"])
        assert sample.object_mask(0)[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
        assert sample.object_mask(0)[6].tolist() == [1, 1, 1, 1, 255, 255, 255, 255]
        assert sample.object_mask(synsets()["n02123394"])[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_imagenet_s_says_what_is_missing_or_odd(imagenet_s: Path) -> None:
    root = imagenet_s / "ImageNetS919"
    (root / "validation-segmentation/n01440764/n01440764_1.png").unlink()
    (root / "validation/n15075141/n15075141_1.JPEG").unlink()
    broken = root / "validation-segmentation/n02123394/n02123394_1.png"
    Image.new("RGB", (16, 16), (77, 0, 0)).save(broken)
    dataset = open_imagenet_s(imagenet_s)
    assert [str(problem) for problem in dataset.problems] == [
        "1 × mask missing (left out): n01440764/n01440764_1",
        "1 × image missing (left out): n15075141/n15075141_1",
    ]
    (failure,) = dataset.samples(SMALL)
    assert isinstance(failure, Failure)
    assert "value 77" in failure.reason
    (imagenet_s / "ImageNetS_categories_im919.txt").unlink()
    with pytest.raises(InputError, match="3 class folders"):
        open_imagenet_s(imagenet_s)
    with pytest.raises(InputError, match="no ImageNet-S folder"):
        open_imagenet_s(imagenet_s / "nowhere")
