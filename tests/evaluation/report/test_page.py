"""The report as one HTML file: what goes into it, its gallery from kept maps, and its tables in a browser."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from relprop.cli import app
from relprop.datasets import open_dataset
from relprop.evaluation import evaluate, report
from relprop.evaluation.report.grids import WAYS
from relprop.evaluation.report.kept import gallery_of
from relprop.evaluation.report.opened import open_results
from relprop.evaluation.report.page import NO_MAPS, page_data
from relprop.evaluation.report.ranks import critical_difference, rank_methods
from relprop.evaluation.results.maps import load_kept, map_files
from relprop.zoo import load
from relprop.zoo.preprocessing import Preprocessing
from tests.evaluation.world import CLASSES, evaluation, make_world
from tests.pages.browser import chromium, open_file


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run with maps, of images one of which is broken, and one without."""
    world = make_world(tmp_path_factory.mktemp("world"), count=9)
    (world / "images" / "cat" / "008.png").write_bytes(b"broken")
    chosen = {"methods": ("rap", "gradient"), "metrics": ("outside-inside", "insertion-deletion:steps=3", "gae")}
    evaluate(evaluation(world, keep_maps=True, **chosen))
    evaluate(evaluation(world, "bare", metrics=("complexity",)))
    return world


def data_of(path):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*)</script>', path.read_text("utf-8"))
    return json.loads(text)


def run(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)], env={"COLUMNS": "200"})


def test_photos_and_answers_are_kept_beside_the_maps(world):
    loaded = load(f"{world / 'm.py'}:small")
    dataset = open_dataset(f"folder:{world / 'images'}")
    for path in map_files(world / "results"):
        kept = load_kept(path)
        for place, image in enumerate(kept.images):
            seen = np.asarray(loaded.preprocessing.crop(dataset.read(image).image), dtype=int)
            photo = np.asarray(Image.open(io.BytesIO(kept.photos[place])), dtype=int)
            assert np.abs(photo - seen).mean() < 15, "a JPEG of noise"
            logits = loaded.model(loaded.preprocessing.tensor(dataset.read(image).image)[None])[0].detach()
            assert kept.predicted[place] == kept.target[place] == int(logits.argmax())
            assert kept.probability[place] == pytest.approx(float(logits.softmax(0).max()), rel=1e-4)
            assert CLASSES[kept.label[place]] == image.partition("/")[0]
            assert kept.names[place].tolist() == [
                CLASSES[number] for number in (kept.target[place], kept.predicted[place], kept.label[place])
            ]


@pytest.mark.parametrize("channels", ["RGB", "BGR", "L"])
def test_an_input_becomes_its_photo_again(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("L" if channels == "L" else "RGB")
    many = len(channels)
    preprocessing = Preprocessing((6, 5), (6, 5), mean=(0.4, 0.5, 0.6)[:many], std=(0.2, 0.3, 0.1)[:many], channels=channels)
    again = preprocessing.picture(preprocessing.normalize(image))
    assert np.array_equal(np.asarray(again), np.asarray(image.convert("RGB")))


def test_ranks_count_the_images_that_all_methods_scored():
    images = np.array(["a", "b", "c", "d"])
    first, second = np.array([0.9, 0.8, np.nan, 0.3]), np.array([0.5, 0.9, 0.2])
    found = rank_methods("v", "higher", {"x": (images, first), "y": (images[:3], second)})
    assert found is not None
    assert (found.images, dict(found.methods)) == (2, {"x": 1.5, "y": 1.5})
    assert found.difference == critical_difference(2, 2)
    assert rank_methods("v", "none", {"x": (images, first), "y": (images[:3], second)}) is None
    assert rank_methods("v", "lower", {"x": (images, first)}) is None


def test_the_page_says_what_the_report_says(world):
    found = report(world / "results", baseline="gradient")
    data = page_data(found, open_results(world / "results").settings)
    assert data["lead"] == "9 images, 1 model, 2 methods"
    for table, shown in zip(found.tables, data["tables"], strict=True):
        for grid in shown["grids"]:
            for row in grid["rows"]:
                for column, score, gap in zip(grid["columns"], row["scores"], row["gaps"], strict=True):
                    over = next(over for over, text in WAYS.items() if text in grid["caption"])
                    line = table.line(row["method"], column["name"], over)
                    assert (score["value"], score["best"]) == (pytest.approx(line.score.value, nan_ok=True), line.best)
                    assert (gap is None) == (row["method"] == "gradient")
        assert [ranks["value"] for ranks in shown["ranks"]] == [ranks.value for ranks in table.ranks]
    assert any(shown["ranks"] for shown in data["tables"])
    assert {curve["name"] for shown in data["tables"] for curve in shown["curves"]} == {"insertion", "deletion"}
    assert {tuple(failure["images"]) for failure in data["failures"] if failure["metric"] != "gae"} == {("cat/008.png",)}
    titles = dict(data["settings"])
    run_settings = dict(titles["Run"])
    assert run_settings["limit"] == "all images"
    assert not {"mean", "std", "labels"} & set(run_settings), "what was not said is not on the page"
    assert ("seed", "0") in titles["Run"]
    assert [name for name, _ in titles["Versions"]][:2] == ["relprop", "torch"]


def test_cards_have_all_methods_and_the_scores_of_their_image(world):
    results = open_results(world / "results")
    cards = {card.name: card for card in gallery_of(results, ()).cards}
    assert len(cards) == 8, "the broken image has no map"
    card = cards["cow/001.png"]
    assert [tile.method for tile in card.tiles] == ["rap", "gradient"]
    assert (card.label, card.model) == ("cow", "m.py:small")
    (key,) = (key for key in results.keys if key.metric == "outside-inside")
    data = results.scored(key)["gradient"]
    assert card.scores["gradient", "outside-inside: pos"] == data.scores["pos"][data.images.tolist().index("cow/001.png")]
    assert not any(measure.startswith("gae") for _, measure in card.scores), "groups of images have no score of one"
    assert card.tiles[0].view.legend.ends[0].endswith("unimportant")


def test_of_many_images_both_ends_are_shown(world):
    results = open_results(world / "results")
    first = gallery_of(results, ("outside-inside",))
    measure = first.measures[0].name

    def quality(card):
        return np.mean([card.scores[tile.method, measure] for tile in card.tiles])

    ordered = [card.name for card in sorted(first.cards, key=quality)]
    few = gallery_of(results, ("outside-inside",), limit=3)
    shown = {card.name for card in few.cards}
    assert len(shown) == 3
    assert {ordered[0], ordered[-1]} < shown
    assert "3 of 8 images" in few.notes[-1]


def test_a_run_without_maps_says_how_to_keep_them(world, tmp_path):
    assert run(world / "bare", "--html", tmp_path / "bare.html").exit_code == 0
    assert (data_of(tmp_path / "bare.html")["gallery"], data_of(tmp_path / "bare.html")["missing"]) == (None, NO_MAPS)
    assert run(world / "results", "--html", tmp_path / "few.html", "--images", "0").exit_code == 0
    assert "left out" in data_of(tmp_path / "few.html")["missing"]


def test_the_report_in_a_browser(world, tmp_path):
    result = run(world / "results", "--html", tmp_path / "report.html")
    assert result.exit_code == 0, result.output
    assert "report.html" in result.output
    with chromium() as browser:
        opened = open_file(browser, tmp_path / "report.html")
        page = opened.page
        assert opened.texts("nav a") == ["Summary", "Ranks", "Curves", "Gallery", "Failed", "Settings and versions"]
        table = page.locator("table").first
        assert table.locator("td.best").count() > 0
        assert "baseline" in table.inner_text(), "the first method is compared with by default"
        table.locator("thead button").first.focus()
        page.keyboard.press("Enter")
        assert table.locator("tbody th").all_inner_texts() == ["gradient", "rap"]
        assert table.locator("thead th").first.get_attribute("aria-sort") == "ascending"
        page.keyboard.press("Enter")
        assert table.locator("tbody th").all_inner_texts() == ["rap", "gradient"]
        page.get_by_label("Metric", exact=True).select_option("gae")
        assert page.locator("table:visible").count() == 1
        page.get_by_label("Metric", exact=True).select_option("")
        key = page.locator(".key").first
        lines = page.locator("#curves .curve").count()
        key.click()
        assert (key.get_attribute("aria-pressed"), page.locator("#curves .curve").count()) == ("false", lines // 2)
        page.locator("#gallery").scroll_into_view_if_needed()
        page.wait_for_selector(".tile canvas")
        assert page.locator(".card").count() == 8
        assert opened.complaints == opened.requests == []
