"""`relprop compare` as a user runs it, and the figure of a comparison."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import relprop
from relprop.cli import app
from relprop.cli.compare import SLOW, options_by_method, weights_by_model
from relprop.errors import InputError, OptionError
from relprop.methods import METHODS
from relprop.viz import Look, Row, View, colorize, draw_grid, overlay, plot_comparison
from relprop.viz.comparison import bands_of
from relprop.zoo import load
from tests.figures import boxes_of, pictures_of, texts_of
from tests.files import MODELS, names, save_photos


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model file and a photo, as the current one."""
    (tmp_path / "m.py").write_text(MODELS)
    save_photos(tmp_path, "cat.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(*arguments, model="m.py:small"):
    models = [part for name in ([model] if isinstance(model, str) else model) for part in ("--model", name)]
    return CliRunner().invoke(app, ["compare", "cat.png", *models, *map(str, arguments)])


@pytest.fixture
def drawn(folder, monkeypatch):  # noqa: ARG001 - the current folder
    """The rows and figures that the command line draws."""
    import relprop.cli.compare as module

    kept = []

    def keep(rows, **options):
        figure = draw_grid(rows, **options)
        kept.append((rows, figure))
        return figure

    monkeypatch.setattr(module, "draw_grid", keep)
    return kept


def test_methods_are_columns_with_the_maps_of_explain(drawn):
    result = compare("--methods", "rap,lrp-epsilon, gradient", "-o", "out.png")
    assert result.exit_code == 0, result.output
    assert "3 explanations → out.png" in result.stdout
    assert result.stderr.strip() == ""
    assert Image.open("out.png").size[0] > 800
    ((row,), figure) = drawn[0]
    assert list(row.cells) == ["rap", "lrp-epsilon", "gradient"]
    from relprop.images import open_photo
    from relprop.zoo import load

    loaded = load("m.py:small")
    inputs = loaded.preprocessing.tensor(open_photo("cat.png").image)[None]
    for name, view in row.cells.items():
        expected = relprop.explain(loaded.model, inputs, method=name)
        np.testing.assert_allclose(view.heatmap, expected.heatmap()[0].numpy(), rtol=1e-4, atol=1e-7)
    best = int(expected.target)
    assert row.title.startswith(f"predicted: {loaded.labels[best].split(',')[0]} ({best}), ")
    assert len(pictures_of(figure)) == 4, "the photo and three maps"
    assert {"photo", "rap", "lrp-epsilon", "gradient"} <= set(texts_of(figure))


def test_models_are_rows_with_their_own_sizes_and_classes(drawn):
    result = compare(
        "--methods", "rap,deeplift", "-o", "out.png", "--target", "dog", "-t", "tabby cat", model=["m.py:small", "m.py:large"]
    )
    assert result.exit_code == 0, result.output
    rows = drawn[0][0]
    assert [next(iter(row.cells.values())).heatmap.shape[0] for row in rows] == [24, 24, 32, 32]
    for row, (model, label) in zip(rows, [(m, c) for m in ("small", "large") for c in ("dog (1)", "tabby (0)")], strict=True):
        assert row.title.startswith(f"m.py:{model}  ·  ")
        assert label in row.title


def test_top_targets_are_those_of_the_model_for_every_method(drawn):
    assert compare("--methods", "gradient,abslrp,rap", "-t", "top:2", "-o", "out.png").exit_code == 0
    rows = drawn[0][0]
    assert len(rows) == 2
    assert rows[0].title.startswith("predicted")
    assert rows[1].title.startswith("explained")
    assert "predicted" in rows[1].title


def test_a_refused_method_gets_a_cell_with_its_reason(drawn):
    result = compare("--methods", "rap,attention-rollout", "-o", "out.png")
    assert result.exit_code == 0
    assert "attention-rollout gives no map" in result.stderr
    ((row,), figure) = drawn[0]
    assert "needs softmax attention" in row.cells["attention-rollout"]
    assert any("needs softmax" in " ".join(text.split()) for text in texts_of(figure))


def test_a_model_that_nothing_explains_keeps_its_row(drawn):
    result = compare("--methods", "rap", "-o", "out.png", model=["m.py:no_rule", "m.py:small"])
    assert result.exit_code == 0, result.output
    assert "m.py:no_rule: rap gives no map: No rule for 1 op" in result.stderr
    assert [row.title.split("  ")[0] for row in drawn[0][0]] == ["m.py:no_rule", "m.py:small"]


def test_without_any_map_there_is_no_picture(folder):
    before = names(folder)
    result = compare("--methods", "rap,attention-rollout", "-o", "out.png", model="m.py:no_rule")
    assert result.exit_code == 1
    assert "No method could explain the photo" in result.stderr
    assert "Traceback" not in result.stderr
    assert names(folder) == before


def test_relevance_that_is_not_finite_is_no_map(drawn):
    relprop.register_method("huge", lambda model, inputs, target: inputs * 0 + 3e38)
    try:
        assert compare("--methods", "gradient,huge", "-o", "out.png").exit_code == 0
    finally:
        del METHODS["huge"]
    assert "NaN or infinite" in drawn[0][0][0].cells["huge"]


def test_all_that_suit_and_are_quick_where_nothing_is_named(drawn, monkeypatch):
    quick = ("rap", "lrp-epsilon", "attention-rollout", "pattern-net", "gradient", "rise", "random")
    for name in set(METHODS) - set(quick):
        monkeypatch.delitem(METHODS, name)
    result = compare("-o", "out.png")
    assert result.exit_code == 0, result.output
    assert list(drawn[0][0][0].cells) == ["rap", "lrp-epsilon", "gradient", "random"]
    for said in ("'pattern-net' needs patterns", "attention-rollout gives no map", f"{', '.join(SLOW)}; name them"):
        assert said in result.stderr
    result = compare("-o", "out.png", "--option", "rise:masks=8")
    assert "rise" in drawn[1][0][0].cells, "an option asks for its method"
    assert "score-cam, ablation-cam, lime, kernel-shap; name them" in result.stderr


def test_options_and_weights_reach_their_method_and_model(drawn):
    save_file({key: value * 2 for key, value in load("m.py:large").model.state_dict().items()}, "w.safetensors")
    both = ["m.py:small", "m.py:large"]
    assert compare("--methods", "rap,lrp-zplus", "-o", "out.png", model=both).exit_code == 0
    changed = ("--option", "rap:start=signed", "--option", "lrp-zplus:add=positive", "--weights", "m.py:large=w.safetensors")
    assert compare("--methods", "rap,lrp-zplus", "-o", "out.png", *changed, model=both).exit_code == 0
    (before, _), (after, _) = drawn
    assert not np.allclose(before[0].cells["rap"].heatmap, after[0].cells["rap"].heatmap)
    assert np.allclose(before[0].cells["lrp-zplus"].heatmap, after[0].cells["lrp-zplus"].heatmap)
    assert not np.allclose(before[1].cells["lrp-zplus"].heatmap, after[1].cells["lrp-zplus"].heatmap)


def test_the_overlay_shows_the_photo_through_the_map(drawn):
    assert compare("--methods", "rap", "--overlay", "-o", "out.png", "--percentile", "90").exit_code == 0
    ((row,), figure) = drawn[0]
    assert np.array_equal(pictures_of(figure)[1], overlay(row.photo, row.cells["rap"].heatmap, Look(percentile=90)))


def test_in_a_folder_the_picture_is_named_after_the_photo(folder):
    (folder / "out").mkdir()
    assert compare("--methods", "gradient", "-o", "out").exit_code == 0
    assert names(folder / "out") == ["cat-compare.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "rapp"), "Did you mean 'rap'"),
        (("--methods", ","), "names no method"),
        (("--methods", "pattern-net"), "needs patterns=FILE"),
        (("--methods", "rap", "--option", "variant=paper"), "not of the form METHOD:KEY=VALUE"),
        (("--methods", "rap", "--option", "rapp:variant=paper"), "Did you mean 'rap'"),
        (("--methods", "rap", "--option", "rap:variantt=paper"), "Did you mean 'variant'"),
        (("--option", "rapp:variant=paper"), "Unknown method 'rapp'"),
        (("--option", "rap:variant=papre"), "must be one of"),
        (("--methods", "rap", "--target", "dgo"), "Did you mean 'dog'"),
        (("--methods", "rap", "--target", "top:9"), "from 1 to 4"),
        (("--methods", "rap", "--weights", "nix.pth"), "There is no weights file nix.pth"),
        (("--methods", "rap", "--weights", "m.py:small=nix.pth"), "There is no weights file nix.pth"),
        (("--methods", "rap", "-m", "m.py:large", "--weights", "nix.pth"), "names none of the models"),
        (("--methods", "rap", "-m", "m.py:nix"), "has no callable 'nix'"),
        (("--methods", "rap", "-m", "m.py:no_rule", "-t", "dog"), "m.py:no_rule: The model has no class names"),
        (("--methods", "rap", "-o", "cat.png"), "is one of the photos"),
        (("--methods", "rap", "-o", "out.xyz"), "no suffix of a picture format"),
        (("--methods", "rap", "--percentile", "0"), "percentile"),
        (("--methods", "rap", "--device", "gpu"), "cannot be used here"),
    ],
)
def test_every_wrong_value_gets_one_sentence(folder, arguments, message):
    before = names(folder)
    result = compare(*arguments)
    assert result.exit_code == 1, result.output
    assert message in result.stderr
    errors = [line for line in result.stderr.splitlines() if not line.startswith("Note:")]
    assert len(errors) == 1
    assert result.stdout == ""
    assert names(folder) == before, "nothing half-written stays"


def test_two_methods_of_one_name_are_refused(folder):
    (folder / "rap.toml").write_text('base = "lrp-epsilon"')
    assert "Two of the methods are called 'rap'" in compare("--methods", "rap,rap.toml").stderr


def test_texts_are_read_by_method_and_model():
    read = options_by_method(["rap:start=signed", "a/b.toml:epsilon=0.1", "C:x.toml:gamma=2", "rap:low=-1"])
    assert read == {"rap": {"start": "signed", "low": -1}, "a/b.toml": {"epsilon": 0.1}, "C:x.toml": {"gamma": 2}}
    with pytest.raises(OptionError):
        options_by_method([":a=1"])
    read = weights_by_model(["a:b=x=y.pt", "a=z.pt"], ["a", "a:b"])
    assert {model: str(path) for model, path in read.items()} == {"a:b": "x=y.pt", "a": "z.pt"}


# --- in Python ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def explanations():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    inputs = torch.rand(2, 3, 12, 16)
    return {name: relprop.explain(model, inputs, [[0, 1, 2]] * 2, method=name) for name in ("rap", "gradient")}


def test_one_row_per_image_and_class(explanations):
    figure = plot_comparison(explanations | {"mine": "too slow"}, labels=["a, b", "c", "d", "e", "f"], title="T", percentile=100)
    pictures = pictures_of(figure)
    assert len(pictures) == 2 * 3 * 3, "photo and two maps each"
    assert any(np.array_equal(p, colorize(explanations["rap"].heatmap()[1, 2].numpy(), Look(percentile=100))) for p in pictures)
    texts = texts_of(figure)
    assert texts.count("too slow") == 6
    assert "T" in texts
    assert sum("a (0)" in text for text in texts) >= 2


def test_explanations_that_do_not_belong_together_are_refused(explanations):
    other = relprop.Explanation(
        torch.rand(2, 3, 3, 12, 16), torch.rand(2, 5), torch.ones(2, 3).long(), torch.zeros(2, 3), torch.rand(2, 3, 12, 16)
    )
    with pytest.raises(InputError, match="'other' is of other classes"):
        plot_comparison(explanations | {"other": other})
    single = relprop.Explanation(torch.rand(1, 3, 12, 16), torch.rand(1, 5), torch.ones(1).long(), torch.zeros(1), None)
    with pytest.raises(InputError, match="'other' have shape"):
        plot_comparison(explanations | {"other": single})
    with pytest.raises(InputError, match="no explanation"):
        plot_comparison({"a": "refused"})
    with pytest.raises(InputError, match="nothing to compare"):
        draw_grid([])
    with pytest.raises(InputError, match="every row has one"):
        draw_grid([Row({"a": View(np.ones((2, 2)))})], overlaid=True)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("count", [*range(1, 31), 60])
def test_cells_stay_of_sensible_size(count, rows):
    """Every cell is there, none overlaps another or leaves the page, and the page is neither a strip nor a tower."""
    columns = tuple(f"method-{number}" for number in range(count))
    bands = bands_of(("photo", *columns), several=rows > 1, repeat=True)
    flat = [column for band in bands for column in band]
    assert [column for column in flat if column != "photo"] == list(columns)
    assert flat.count("photo") == (len(bands) if rows > 1 else 1)
    assert max(map(len, bands)) <= 8
    if rows == 1 and count > 6:
        assert 0.5 <= len(bands) / len(bands[0]) <= 1.1 or len(bands[0]) == 8


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 1), (11, 1), (30, 1), (1, 2), (9, 3)])
def test_no_cell_overlaps_another(count, rows):
    maps = {f"method-{number}": View(np.random.default_rng(number).normal(size=(6, 9))) for number in range(count)}
    figure = draw_grid([Row(maps, np.zeros((6, 9, 3), dtype=np.uint8), "title")] * rows, title="T")
    boxes = boxes_of(figure)
    assert len(boxes) > count * rows
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            apart = one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0
            assert apart
    width, height = figure.get_size_inches()
    cell = boxes[0]
    assert (cell.width * width) / (cell.height * height) == pytest.approx(9 / 6), "cells keep the shape of the photo"
    assert 1.5 <= cell.width * width <= 2.9
