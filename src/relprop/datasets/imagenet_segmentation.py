"""The ImageNet segmentation sets: Guillaumin's ``gtsegs_ijcv.mat``, and ImageNet-S."""

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from relprop.datasets.imagenet import synsets
from relprop.datasets.sample import VOID, Annotated, Dataset, listed, problems_of
from relprop.errors import InputError
from relprop.files import as_path
from relprop.images import read_rgb, read_stored
from relprop.zoo.labels import imagenet_classes

IMAGENET_S_SIZES = (50, 300, 919)
IMAGENET_S_VOID = 1000


def open_imagenet_segmentation(path: Path | str) -> Dataset:
    """Open the 4276 images with object masks of Guillaumin et al., IJCV 2014.

    The file names no classes, so samples have no labels.

    Args:
        path: ``gtsegs_ijcv.mat`` (MATLAB 7.3, so HDF5), or the folder that holds it.

    Raises:
        InputError: The file does not exist or has another layout, or the package h5py is not installed.
    """
    path = as_path(path, "The path of gtsegs_ijcv.mat")
    path = path / "gtsegs_ijcv.mat" if path.is_dir() else path
    images, masks = (_references(path, part) for part in ("img", "gt"))
    if len(images) != len(masks):
        raise InputError(f"{path} has {len(images)} images but {len(masks)} masks.")
    return Dataset("imagenet-segmentation", (), tuple(f"{place:05d}" for place in range(len(images))), partial(_read_mat, path))


@cache
def _file(path: Path) -> Any:  # noqa: ANN401 - h5py has no types
    """Open the file, cached per process."""
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("Reading gtsegs_ijcv.mat needs h5py; install it with `pip install relprop[data]`.") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} cannot be read as the HDF5 file gtsegs_ijcv.mat: {error}.") from error


def _references(path: Path, part: str) -> np.ndarray:
    """Return the flat list of references; MATLAB's 1 × N is N × 1 in HDF5."""
    file = _file(path)
    if f"/value/{part}" not in file:
        raise InputError(f"{path} has no /value/{part}; it is not the ImageNet segmentation file gtsegs_ijcv.mat.")
    return np.asarray(file[f"/value/{part}"]).reshape(-1)


def _read_mat(path: Path, name: str) -> Annotated:
    file, place = _file(path), int(name)
    pixels = np.asarray(file[_references(path, "img")[place]]).transpose(2, 1, 0)
    inner = np.asarray(file[_references(path, "gt")[place]]).reshape(-1)[0]
    mask = np.asarray(file[inner]).transpose(1, 0)
    image = Image.fromarray(pixels.astype(np.uint8).squeeze()).convert("RGB")
    return Annotated(image, mask=Image.fromarray((mask != 0).astype(np.uint8)))


def open_imagenet_s(root: Path | str, *, split: str = "validation") -> Dataset:
    """Open ImageNet-S (Gao et al., TPAMI 2022): class folders of images in ``SPLIT``, of masks in ``SPLIT-segmentation``.

    Args:
        root: The folder ``ImageNetS919`` (or 300, 50), or the one above it.
        split: ``validation`` or ``train-semi``.

    Raises:
        InputError: The folders do not exist, or the classes of the class folders cannot be told from their number or a list.
    """
    root = as_path(root, "The folder of a data set")
    base = next((folder for folder in (root, *sorted(root.glob("ImageNetS*"))) if (folder / split).is_dir()), None)
    if base is None or not (base / f"{split}-segmentation").is_dir():
        raise InputError(f"{root} is no ImageNet-S folder: it needs {split} and {split}-segmentation.")
    categories = _categories(base, split)
    images = {f"{wnid}/{Path(name).stem}": name for wnid in categories for name in sorted(listed(base / split / wnid))}
    masks = {f"{wnid}/{Path(name).stem}" for wnid in categories for name in listed(base / f"{split}-segmentation" / wnid)}
    names = {name: f"{name.split('/')[0]}/{file}" for name, file in images.items() if name in masks}
    return Dataset(
        name="imagenet-s",
        classes=imagenet_classes(),
        ids=tuple(names),
        read=partial(_read_s, base, split, categories, names),
        problems=problems_of(
            {"mask missing": [name for name in images if name not in masks], "image missing": sorted(masks - set(images))}
        ),
    )


def _categories(base: Path, split: str) -> tuple[str, ...]:
    """Return the WordNet ids in the order of the mask values 1, 2, …, which is sorted order."""
    lists = sorted(base.glob("ImageNetS_categories_im*.txt")) + sorted(
        base.parent.glob(f"ImageNetS_categories_im{base.name[9:]}.txt")
    )
    found = lists[0].read_text().split() if lists else [name for name in listed(base / split) if name in synsets()]
    if not lists and len(found) not in IMAGENET_S_SIZES:
        raise InputError(
            f"{base / split} has {len(found)} class folders, not {', '.join(map(str, IMAGENET_S_SIZES))}; "
            f"put ImageNetS_categories_im….txt into {base} to say which class is which."
        )
    return tuple(sorted(found))


def _read_s(base: Path, split: str, categories: tuple[str, ...], names: dict[str, str], name: str) -> Annotated:
    image = read_rgb(base / split / names[name])
    colors = np.asarray(read_stored(base / f"{split}-segmentation" / f"{name}.png").convert("RGB")).astype(np.int32)
    values = colors[:, :, 0] + 256 * colors[:, :, 1]
    own = categories.index(name.split("/", maxsplit=1)[0]) + 1
    others = [int(value) for value in np.unique(values) if value not in {0, own, IMAGENET_S_VOID}]
    if others and max(others) > len(categories):
        raise InputError(f"The mask of {name} has the value {max(others)}, but there are only {len(categories)} classes.")
    mask = np.where(values == IMAGENET_S_VOID, VOID, 0)
    for place, value in enumerate((own, *others), start=1):
        mask[values == value] = place
    labels = tuple(synsets()[categories[value - 1]] for value in (own, *others))
    return Annotated(image, labels, mask=Image.fromarray(mask.astype(np.uint8)))
