"""``relprop explain FOLDER --html``: one page for a folder of photos."""

import json
import re

import pytest
from typer.testing import CliRunner

from relprop.cli import app
from tests.files import MODELS, names, save_photos


@pytest.fixture
def folder(tmp_path):
    """A model file, and a folder of photos with a subfolder."""
    (tmp_path / "m.py").write_text(MODELS)
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    save_photos(tmp_path / "photos", "a.png", "sub/b.jpg", "<script>.png")
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    return tmp_path


def explain(folder, *arguments, photos="photos"):
    call = ["explain", folder / photos, "--model", f"{folder}/m.py:large", *arguments]
    return CliRunner().invoke(app, [str(argument) for argument in call])


def data_of(path, name="data"):
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*)</script>', path.read_text("utf-8"))
    return json.loads(text)


def test_a_folder_becomes_a_page(folder):
    result = explain(folder, "--html", folder / "g.html", "--method", "rap,gradient", "--smooth", "2", "--opacity", "0.5")
    assert result.exit_code == 0, result.output
    assert "3 photos" in result.output
    gallery = data_of(folder / "g.html")["gallery"]
    assert [card["name"] for card in gallery["cards"]] == ["<script>.png", "a.png", "sub/b.jpg"]
    assert (gallery["methods"], gallery["opacity"]) == (["rap", "gradient"], 0.5)
    assert any("σ = 2 pixels" in note for note in gallery["notes"])
    assert all(card["explained"] == card["predicted"] and 0 < card["probability"] < 1 for card in gallery["cards"])
    tiles = data_of(folder / "g.html", "card-1")["tiles"]
    assert [tile["method"] for tile in tiles] == [0, 1]
    assert tiles[0]["ends"][1].startswith("important")
    assert names(folder) == ["g.html", "m.py", "photos"], "no picture beside it"


def test_several_classes_have_a_map_each(folder):
    assert explain(folder, "--html", folder / "g.html", "-t", "dog", "-t", "tabby", photos="photos/a.png").exit_code == 0
    assert [tile["title"] for tile in data_of(folder / "g.html", "card-0")["tiles"]] == ["dog", "tabby"]


def test_a_method_or_photo_that_fails_does_not_lose_the_others(folder):
    (folder / "photos" / "broken.png").write_bytes(b"no photo")
    result = explain(folder, "--html", folder / "g.html")
    assert result.exit_code == 1
    assert "1 of 4 photos could not be explained" in result.stderr
    assert len(data_of(folder / "g.html")["gallery"]["cards"]) == 3
    (folder / "none").mkdir()
    (folder / "none" / "broken.png").write_bytes(b"no photo")
    (folder / "none" / "other.png").write_bytes(b"no photo")
    result = explain(folder, "--html", folder / "none.html", photos="none")
    assert result.exit_code == 1
    assert "Not one photo could be explained" in result.stderr
    assert not (folder / "none.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--outline", "--npy"), "leave out --npy, --outline"),
        (("--method", "rap,gradient", "--option", "start=signed"), "write an option after its method"),
        (("--method", "rap,nonsense"), "Unknown method 'nonsense'"),
    ],
)
def test_errors_are_one_sentence(folder, arguments, message):
    result = explain(folder, "--html", folder / "g.html", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr.replace("\n", " ")
    assert not (folder / "g.html").exists()


def test_a_page_overwrites_no_photo(folder):
    assert "is one of the photos" in explain(folder, "--html", folder / "photos" / "a.png").stderr.replace("\n", " ")


def test_a_folder_without_a_page_gets_pictures(folder):
    assert explain(folder, "-o", folder / "out", photos="photos/sub").exit_code == 0
    assert names(folder / "out") == ["b-rap.png"]
    (folder / "empty").mkdir()
    assert "holds no photos" in explain(folder, photos="empty").stderr.replace("\n", " ")
