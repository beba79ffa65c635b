"""Mosaics: which photos are taken, how they are drawn and stored, and the runs on them."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from relprop.cli import app
from relprop.datasets import open_dataset, read_mosaics
from relprop.errors import InputError, OptionError
from relprop.evaluation import evaluate, models, report
from relprop.evaluation.mosaics import MosaicJob, drawn, make_mosaics
from relprop.zoo import load
from tests.evaluation.world import evaluation, rows

SIDE = 16


@pytest.fixture
def photos(world):
    """A model that tells the four classes of the world apart, and its photos: each class gets a color of its own."""
    from PIL import Image

    (world / "m.py").write_text(
        (world / "m.py").read_text()
        + """
def colors():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1., -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])[:, :, None, None] * 20)
        model[0].bias.copy_(torch.tensor([0., 0, 0, -10]))
        model[4].weight.copy_(torch.eye(4) * 5)
        model[4].bias.zero_()
    return model, Preprocessing((16, 16), 16, mean=(0, 0, 0), std=(1, 1, 1)), ["cat", "cow", "dog", "horse"]
"""
    )
    for name, color in zip(("cat", "cow", "dog", "horse"), ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)), strict=True):
        for path in sorted((world / "images" / name).glob("*.png")):
            Image.new("RGB", Image.open(path).size, color).save(path)
    return world


def job(world, **more):
    return MosaicJob(f"folder:{world / 'images'}", models(f"{world / 'm.py'}:colors"), **{"count": 3, **more})


def mosaics_in(world, **more):
    from relprop.datasets import write_mosaics

    found, notes = make_mosaics(job(world, **more))
    write_mosaics(found, world / "mosaics.json")
    return found, notes


def test_photos_are_recognized_and_of_different_classes(photos):
    found, notes = mosaics_in(photos)
    assert read_mosaics(photos / "mosaics.json") == found
    loaded, source = load(f"{photos / 'm.py'}:colors"), open_dataset(f"folder:{photos / 'images'}")
    for mosaic in found.cells:
        assert len({label for _, label in mosaic}) == 4
        for name, label in mosaic:
            image = loaded.preprocessing.tensor(source.read(name).image)
            chances = loaded.model(image[None]).softmax(1)[0].detach()
            assert int(chances.argmax()) == label
            assert float(chances[label]) >= 0.99
    assert notes[0].startswith("10 photos of 4 classes are recognized")
    assert make_mosaics(job(photos))[0] == found
    assert make_mosaics(job(photos, seed=1))[0] != found


def test_a_photo_comes_again_only_when_all_of_its_class_were_used():
    photos = {0: ["a", "b"], 1: ["c"], 2: ["d", "e", "f"], 3: ["g"]}
    cells, most = drawn(photos, 2, 6, 0)
    uses = {name: sum(name == used for mosaic in cells for used, _ in mosaic) for names in photos.values() for name in names}
    assert (uses["a"], uses["b"]) == (3, 3)
    assert (uses["d"], uses["e"], uses["f"]) == (2, 2, 2)
    assert most == uses["c"] == uses["g"] == 6
    with pytest.raises(InputError, match=r"Photos of 4 classes were recognized, fewer than the 9 cells"):
        drawn(photos, 3, 1, 0)


def test_models_that_disagree_leave_a_photo_out(photos):
    both = models(f"{photos / 'm.py'}:colors", f"{photos / 'm.py'}:small")
    with pytest.raises(InputError, match="take more photos or a lower confidence"):
        make_mosaics(MosaicJob(f"folder:{photos / 'images'}", both, count=1))
    with pytest.raises(OptionError, match="have 4 and 3 classes"):
        make_mosaics(
            MosaicJob(
                f"folder:{photos / 'images'}", models(*(f"{photos / 'm.py'}:{n}" for n in ("colors", "three"))), confidence=0.0
            )
        )


def test_a_sample_is_a_mosaic_and_one_of_its_cells(photos):
    found, _ = mosaics_in(photos)
    dataset = open_dataset(f"mosaic:{photos / 'mosaics.json'}")
    assert (dataset.grid, len(dataset)) == (2, 12)
    geometry = load(f"{photos / 'm.py'}:colors").preprocessing
    source = open_dataset(f"folder:{photos / 'images'}")
    for name in dataset.ids:
        raw = dataset.read(name)
        number, cell = map(int, name.split("#"))
        pixels, mask = np.asarray(raw.image), np.asarray(raw.mask)
        assert raw.labels[0] == found.cells[number][cell][1]
        rows_, columns = (slice(SIDE * place, SIDE * (place + 1)) for place in divmod(cell, 2))
        assert (mask[rows_, columns] == 1).all()
        assert (mask == 1).sum() == SIDE**2
        np.testing.assert_array_equal(
            pixels[rows_, columns], np.asarray(geometry.crop(source.read(found.cells[number][cell][0]).image))
        )
        assert np.asarray(raw.parts)[rows_, columns].tolist() == [[cell + 1] * SIDE] * SIDE
    assert len(open_dataset(f"mosaic:{photos / 'mosaics.json'}", cells="corners")) == 6
    assert open_dataset(f"mosaic:{photos / 'mosaics.json'}", cells="one").ids == ("00000#0", "00001#1", "00002#2")


@pytest.mark.parametrize("grid", ["shrunk", "full", "difull", "dipart"])
def test_a_run_on_mosaics_finds_the_right_cell(photos, grid):
    mosaics_in(photos)
    result = evaluate(run(photos, grid=grid))
    assert result.rows == 2 * 12
    assert not result.failed
    for row in rows(photos / "results"):
        assert row["scores"]["wins"] == 1 or row["method"] == "random"
        if row["method"] == "rap" and grid == "difull":
            assert row["scores"]["outside"] == 0
            assert row["scores"]["share"] == 1
    (found,) = report(photos / "results").tables
    assert found.line("rap:start=signed", "share").score.value > found.line("random", "share").score.value


def run(world, **more):
    import dataclasses

    settings = {"methods": ("rap:start=signed", "random"), "metrics": ("grid-pointing",), "model": ("colors",)}
    base = evaluation(world, **settings, target="label", geometry="resize", data_options={}, **more)
    return dataclasses.replace(base, data=f"mosaic:{world / 'mosaics.json'}")


def test_settings_that_do_not_suit_mosaics_are_refused(photos):
    import dataclasses

    mosaics_in(photos)
    with pytest.raises(InputError, match="set target label and geometry resize"):
        evaluate(dataclasses.replace(run(photos), target="predicted"))
    with pytest.raises(InputError, match="is for mosaics"):
        evaluate(evaluation(photos, grid="full"))
    from relprop.evaluation import choices

    with pytest.raises(InputError, match="a classifier for each cell; srg asks one model"):
        evaluate(dataclasses.replace(run(photos, grid="difull"), metrics=choices("srg")))
    with pytest.raises(InputError, match="no maps of parts or cells, which grid-pointing need"):
        evaluate(evaluation(photos, metrics=("grid-pointing",)))


def test_the_command(photos):
    arguments = [
        "mosaics",
        f"folder:{photos / 'images'}",
        "-m",
        f"{photos / 'm.py'}:colors",
        "--count",
        "2",
        "-o",
        str(photos / "out.json"),
    ]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "2 mosaics of 2 × 2 photos" in result.output
    assert len(read_mosaics(photos / "out.json").cells) == 2


def test_a_file_of_something_else_is_refused(tmp_path):
    path = Path(tmp_path / "x.json")
    path.write_text("{}")
    with pytest.raises(InputError, match="no file of mosaics"):
        open_dataset(f"mosaic:{path}")
    with pytest.raises(InputError, match="cannot be read"):
        open_dataset(f"mosaic:{tmp_path / 'none.json'}")
