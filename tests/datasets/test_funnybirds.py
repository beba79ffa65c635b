"""FunnyBirds in its official layout: images, maps of parts, and images without parts."""

import itertools
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from relprop.datasets import Sample, open_dataset
from relprop.datasets.funnybirds import sufficient_parts, twin_classes
from relprop.errors import InputError
from relprop.zoo import Preprocessing
from tests.datasets.birds import PARTS, SHAPES, SIDE, make_birds

SAME = Preprocessing((SIDE, SIDE), (SIDE, SIDE), scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))


def test_parts_classes_and_images_without_parts(tmp_path):
    dataset = pickle.loads(pickle.dumps(open_dataset(f"funnybirds:{make_birds(tmp_path)}")))
    assert dataset.ids == tuple(f"{number:06d}" for number in range(2 * len(SHAPES)))
    sample = next(dataset.samples(SAME))
    assert isinstance(sample, Sample)
    assert sample.labels == (0,)
    assert sample.facts is not None
    assert sample.facts.object_parts == PARTS
    assert [name for name in sample.facts.names if name.startswith("bg_")] == ["bg_000", "bg_001"]
    assert sample.parts is not None
    for name in PARTS:
        own = sum(
            (sample.parts == number for number, part in enumerate(sample.facts.names, 1) if part == name), start=sample.parts < 0
        )
        assert own.any()
        gone = sample.without(frozenset({name}))
        changed = (gone != sample.image).any(0)
        assert (changed == own).all()
    assert (sample.without(frozenset({"bg_001"})) != sample.image).any()
    assert not (sample.without(frozenset(PARTS)) != sample.without(frozenset(PARTS))).any()
    with pytest.raises(InputError, match="no image without beak, bg_000"):
        sample.without(frozenset({"bg_000", "beak"}))


def test_sufficient_parts_are_those_of_a_loop():
    shapes = {number: dict(zip(PARTS, shape, strict=True)) for number, shape in enumerate(SHAPES)}
    for own in shapes:
        telling = [
            set(chosen)
            for size in range(1, 6)
            for chosen in itertools.combinations(PARTS, size)
            if not any(all(shapes[own][p] == other[p] for p in chosen) for label, other in shapes.items() if label != own)
        ]
        minimal = {frozenset(parts) for parts in telling if not any(other < parts for other in telling)}
        assert set(sufficient_parts(shapes, own)) == minimal


def test_twins_share_two_parts_each_and_not_the_same():
    shapes = {number: dict(zip(PARTS, shape, strict=True)) for number, shape in enumerate(SHAPES)}
    (one, of_one), (two, of_two) = twin_classes(shapes, 0)
    assert len(of_one) == len(of_two) == 2
    assert not of_one & of_two
    assert all(shapes[one][part] == shapes[0][part] for part in of_one)
    assert all(shapes[two][part] == shapes[0][part] for part in of_two)
    assert twin_classes({0: shapes[0], 1: shapes[1]}, 0) is None


def test_missing_and_odd_files_are_said(tmp_path):
    with pytest.raises(InputError, match=r"no FunnyBirds folder: it needs classes\.json"):
        open_dataset(f"funnybirds:{tmp_path}")
    root = make_birds(tmp_path)
    (root / "test/0/000001.png").unlink()
    assert str(open_dataset(f"funnybirds:{tmp_path}").problems[0]) == "1 × image missing in test (left out): 000001"
    (root / "classes.json").write_text(json.dumps([{"class_idx": 0}]))
    with pytest.raises(InputError, match="lacks 'parts'"):
        open_dataset(f"funnybirds:{root}")
    (root / "classes.json").write_text("no JSON")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        open_dataset(f"funnybirds:{root}")


def test_a_color_that_is_no_part_belongs_to_none(tmp_path):
    root = make_birds(tmp_path)
    Image.fromarray(np.full((SIDE, SIDE, 3), 77, dtype=np.uint8)).save(root / "test_part_map/0/000000.png")
    sample = next(open_dataset(f"funnybirds:{root}").samples(SAME))
    assert not sample.parts.any()
