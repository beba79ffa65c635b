"""Pictures show what the numbers say, and say what they show."""

import gc
import weakref
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import relprop
from relprop.errors import InputError, OptionError, OutputError
from relprop.meaning import UNSAID, Meaning
from relprop.methods import METHODS
from relprop.viz import (
    Framed,
    Look,
    Strip,
    View,
    colorize,
    colorize_rgba,
    draw_sheet,
    overlay,
    plot_contrast,
    plot_explanation,
    plot_layers,
    plot_models,
    plot_signs,
    positive_region,
    save_figure,
    scale_of,
    smoothed,
    top_scores,
)
from relprop.viz.colors import colormap
from relprop.viz.numbers import sums_of, written
from relprop.viz.page import png_of
from relprop.zoo import Preprocessing
from tests.figures import explanation, pictures_of, texts_of

REFERENCES = Path(__file__).parent / "references"


# --- colors ------------------------------------------------------------------------------------------------------------------------


def lightness(colors):
    """CIE L* of sRGB colors in [0, 1]."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def deficient(colors, kind):
    """Colors as a dichromat sees them (Machado et al. 2009, severity 1)."""
    matrix = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }[kind]
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(matrix).T, 0, 1)
    return np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)


def test_the_colors_darken_steadily_towards_both_ends_alike():
    light = lightness(colormap()(np.linspace(0, 1, 201))[:, :3])
    assert np.all(np.diff(light[:101]) > 0)
    assert np.all(np.diff(light[100:]) < 0)
    assert light[100] == pytest.approx(100, abs=0.1), "zero is white"
    assert np.abs(light[:100] - light[:100:-1]).max() < 8, "both sides are alike"


@pytest.mark.parametrize("kind", ["protan", "deutan", "tritan"])
def test_color_blind_people_tell_the_signs_apart(kind):
    seen = deficient(colormap()(np.linspace(0, 1, 201))[:, :3], kind)
    for strength in (30, 60, 100):
        assert np.abs(seen[100 + strength] - seen[100 - strength]).max() > 0.12 * strength / 30


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.floats(1, 100))
def test_colors_follow_the_sign(values, percentile):
    heatmap, look = np.array([values]), Look(percentile=percentile)
    colors, scale = colorize(heatmap, look).astype(int), scale_of(heatmap, look)
    red_minus_blue = colors[..., 0] - colors[..., 2]
    clear = np.abs(heatmap - scale.white) > scale.size / 100
    assert np.all(red_minus_blue[clear & (heatmap > 0)] > 0)
    assert np.all(red_minus_blue[clear & (heatmap < 0)] < 0)


def test_the_scale_is_symmetric_or_fixed():
    heatmap = np.array([[-1.0, 0.5, 0.0, 3.0]])
    assert scale_of(heatmap, Look(percentile=100)).ends == (-3.0, 3.0)
    assert scale_of(heatmap, Look(percentile=50)).ends == (-0.75, 0.75)
    assert scale_of(heatmap, Look(limit=2)).ends == (-2.0, 2.0)
    assert np.abs(colorize(heatmap)[0, 2].astype(int) - 255).max() == 0, "zero is white"


def test_a_limit_makes_pictures_comparable():
    weak, strong = np.array([[-0.1, 0.1]]), np.array([[-1.0, 1.0]])
    assert np.array_equal(colorize(weak), colorize(strong))
    weak, strong = (colorize(values, Look(limit=1.0)).astype(int) for values in (weak, strong))
    assert weak.sum() > strong.sum() + 400, "paler"


def test_a_map_of_zeros_is_white():
    assert colorize(np.zeros((2, 2))).min() == 255
    assert scale_of(np.zeros((2, 2))).size == 1.0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_map_of_one_sign_has_its_own_scale(sign):
    """RISE's maps lie between about 0.4 and 0.5: on a scale from zero they would be one dark square."""
    heatmap = sign * np.linspace(0.4, 0.5, 64).reshape(8, 8)
    colors = colorize(heatmap, Look(percentile=100)).astype(int)
    assert colors[0, 0].min() == 255, "the least is white"
    assert len(np.unique(colors.reshape(-1, 3), axis=0)) > 50
    assert scale_of(heatmap, Look(percentile=100)).ends == pytest.approx(tuple(sorted((sign * 0.4, sign * 0.5))))
    bar = scale_of(heatmap).colors.astype(int)
    assert np.all(sign * (bar[..., 0] - bar[..., 2]) >= 0), "the bar has one color"


@pytest.mark.parametrize(
    "given",
    [{"percentile": 0}, {"percentile": -1}, {"percentile": 101}, {"limit": 0}, {"limit": -1.0}, {"smooth": -1}, {"opacity": 1.5}],
)
def test_looks_out_of_range_are_refused(given):
    with pytest.raises(OptionError, match=next(iter(given))):
        Look(**given)


def test_the_overlay_shows_the_photo_where_nothing_is_relevant():
    photo = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    heatmap = np.zeros((8, 8))
    heatmap[0, 0] = 1.0
    colors = overlay(photo, heatmap).astype(int)
    assert np.ptp(colors[1:], axis=2).max() == 0, "gray"
    assert colors[0, 0, 0] > colors[0, 0, 2] + 50, "red"
    assert np.ptp(overlay(photo, heatmap, Look(opacity=0)).astype(int), axis=2).max() == 0
    assert colorize_rgba(heatmap, Look(opacity=1))[..., 3].tolist()[0][:2] == [255, 0]


@pytest.mark.parametrize("sigma", [0.5, 2.0, 30.0])
def test_smoothing_is_scipys_and_keeps_the_sum(sigma):
    ndimage = pytest.importorskip("scipy.ndimage")
    values = np.random.default_rng(0).normal(size=(12, 17))
    expected = ndimage.gaussian_filter(values, sigma, mode="reflect", radius=max(1, round(4 * sigma)))
    np.testing.assert_allclose(smoothed(values, sigma), expected, atol=1e-12)
    assert smoothed(values, sigma).sum() == pytest.approx(values.sum())
    assert smoothed(values, 0) is values


# --- numbers and words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (6303.2, "6\u2009303"),
        (-6292, "−6\u2009292"),
        (0.04123, "0.0412"),
        (-1.3e-5, "−1.3e-05"),
        (99.4, "99.4"),
        (2e9, "2e+09"),
    ],
)
def test_numbers_are_written_short(value, text):
    assert written(value) == text


def test_the_numbers_below_a_map_are_its_sums():
    values = np.array([[-3.0, 1.0], [1.5, 0.0]], dtype=np.float32)
    assert sums_of(values, 0.25).parts == ("max ±3", "Σ⁺ 2.5", "Σ⁻ −3", "absorbed 0.25")
    assert sums_of(values, 1e-9).parts[-1] == "absorbed ≈ 0"
    assert sums_of(values).parts == ("max ±3", "Σ⁺ 2.5", "Σ⁻ −3")


@pytest.mark.parametrize("name", [name for name, entry in METHODS.items() if entry.source != "test"])
def test_every_method_says_what_its_colors_mean(name):
    assert METHODS[name].meaning != UNSAID
    assert max(len(METHODS[name].meaning.positive), len(METHODS[name].meaning.negative)) <= 20


def test_the_meaning_follows_the_options():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    x = torch.rand(1, 3, 2, 2)
    said = {
        method: relprop.explain(model, x, method=method).meaning
        for method in ("rap", "lrp-epsilon", "grad-cam")
        if method != "grad-cam"
    }
    assert said["rap"].negative == "unimportant"
    assert said["lrp-epsilon"].negative == "against it"
    for start in ("clrp", "sglrp", "abslrp", "softmax", "mean", "finer"):
        assert relprop.explain(model, x, method=f"lrp-epsilon:start={start}").meaning.negative == "for other classes"
    assert relprop.explain(model, x, method="gradient:absolute=true").meaning.negative == ""
    assert relprop.explain(model, x, method=relprop.Method("mine", {"dense": "epsilon"})).meaning == UNSAID
    relprop.register_method("test-meant", lambda model, inputs, target: inputs, source="test", meaning=Meaning("up", "down"))
    try:
        assert relprop.explain(model, x, method="test-meant").meaning == Meaning("up", "down")
    finally:
        del METHODS["test-meant"]


def test_the_legend_has_the_words_of_the_method_and_the_numbers_of_the_map():
    made = replace(explanation(), meaning=Meaning("important", "unimportant"), absorbed=torch.tensor([0.5, 0.0]))
    texts = texts_of(plot_explanation(made, percentile=100))
    heatmap = made.heatmap()[0].numpy()
    largest = written(float(np.abs(heatmap).max()))
    assert f"−{largest} unimportant" in texts
    assert f"important {largest}" in texts
    assert any(
        f"Σ⁺ {written(heatmap[heatmap > 0].sum())}" in text and f"Σ⁻ {written(heatmap[heatmap < 0].sum())}" in text
        for text in texts
    )
    assert any("absorbed 0.5" in text for text in texts)


def test_a_map_of_one_sign_has_no_word_for_the_other():
    made = replace(explanation(), meaning=Meaning("important", ""))
    made = replace(made, relevance=made.relevance.abs() + 1, logits=made.logits + 10)
    texts = texts_of(plot_explanation(made))
    assert any(text.startswith("important ") for text in texts)
    assert not any("negative" in text for text in texts)


def test_what_is_done_for_display_is_said():
    plain = explanation()
    assert not any("Smoothed" in text for text in texts_of(plot_explanation(plain)))
    texts = texts_of(plot_explanation(plain, smooth=2.0))
    assert any(text.startswith("Smoothed for display: Gaussian, σ = 2 pixels") for text in texts)
    assert any("99.5th percentile" in text for text in texts)
    assert any("saturate at ±3" in text for text in texts_of(plot_explanation(plain, limit=3.0)))


def test_a_negative_logit_is_said():
    made = explanation()
    low = replace(made, logits=made.logits - 10)
    assert any("negative" in text and text.startswith("class") for text in texts_of(plot_explanation(low)))
    assert any(text.startswith("A negative logit") for text in texts_of(plot_explanation(low)))
    high = replace(made, logits=made.logits + 10)
    assert not any("negative logit" in text for text in texts_of(plot_explanation(high)))


def test_saved_pictures_carry_the_method():
    texts = texts_of(plot_explanation(explanation()))
    assert "rap" in texts
    assert any(text.startswith("Method: rap.") for text in texts)
    assert "mine" in texts_of(plot_explanation(explanation(), title="mine"))


# --- figures -----------------------------------------------------------------------------------------------------------------------


def test_scores_are_ordered_and_hold_the_explained_classes():
    scores = top_scores([0.1, 0.5, 0.05, 0.3, 0.05], list("abcde"), explained=[2, 1], count=2)
    assert [(score.name, score.explained) for score in scores] == [("b", True), ("d", False), ("c", True)]


def test_the_figure_has_photo_map_and_overlay_per_row():
    photos = [Image.new("RGB", (16, 12), color) for color in ("red", "lime")]
    figure = plot_explanation(explanation(), photos, ["one", "two, second", "three", "four", "five"], title="T")
    pictures = pictures_of(figure)
    assert len(pictures) == 6
    assert any(np.array_equal(picture, np.asarray(photos[1])) for picture in pictures)
    texts = texts_of(figure)
    assert any(text.startswith("two  ·  class 1  ·  logit") for text in texts)
    assert "T" in texts
    assert sum(text.endswith("%") for text in texts) == 10, "five percentages in each of two rows"


def test_several_classes_share_one_photo_and_one_list():
    figure = plot_explanation(explanation(targets=3))
    assert len(pictures_of(figure)) == 2 * (1 + 2 * 3)
    assert sum(text.endswith("%") for text in texts_of(figure)) == 2 * 5
    six = replace(explanation(targets=5), relevance=torch.randn(2, 5, 3, 12, 16))
    assert len(pictures_of(plot_explanation(six))) == 2 * (1 + 2 * 5)


def test_maps_stand_alone_without_images():
    made = replace(explanation(), inputs=None)
    assert len(pictures_of(plot_explanation(made))) == 2
    assert len(pictures_of(plot_explanation(replace(explanation(targets=3), inputs=None)))) == 6


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="2 images of 12×16 pixels were expected, not 1 of 12×16"):
        plot_explanation(explanation(), [Image.new("RGB", (16, 12))])
    with pytest.raises(InputError, match="not 2 of 9×9"):
        plot_explanation(explanation(), [Image.new("RGB", (9, 9))] * 2)
    with pytest.raises(InputError, match="masks of 1 images"):
        plot_explanation(explanation(), masks=[None])


def test_a_contrast_shows_where_the_classes_differ():
    made = explanation(targets=2)
    relevance = torch.zeros(2, 2, 3, 12, 16)
    relevance[:, 0, :, :6], relevance[:, 1, :, 6:] = 1.0, 5.0
    figure = plot_contrast(replace(made, relevance=relevance), labels=["a", "b", "c", "d", "e"])
    photo, _, between, outline = pictures_of(figure)[:4]
    assert np.all(between[:6, :, 0] > between[:6, :, 2] + 50), "red where the class has all of its relevance"
    assert np.all(between[6:, :, 2].astype(int) > between[6:, :, 0] + 50), "blue where its rival has"
    assert np.array_equal(outline[:4], photo[:4]), "the photo inside of the outline"
    texts = texts_of(figure)
    assert {"a rather than b"} <= set(texts)
    assert any("maps alike to <0.1%" in text for text in texts)
    with pytest.raises(InputError, match="needs two classes"):
        plot_contrast(explanation(targets=3))


def test_an_input_of_one_color_is_gray():
    made = replace(explanation(), inputs=torch.full((2, 3, 12, 16), 0.3))
    photo = next(pixels for pixels in pictures_of(plot_explanation(made)) if len(np.unique(pixels)) == 1)
    assert 120 < photo.flat[0] < 136


def test_the_parts_by_sign_share_a_scale():
    made = explanation()
    _, whole, positive, negative = pictures_of(plot_signs(made, percentile=100))[:4]
    heatmap = made.heatmap()[0].numpy()
    assert np.array_equal(positive[heatmap > 0], whole[heatmap > 0])
    assert np.array_equal(negative[heatmap < 0], whole[heatmap < 0])
    assert positive[heatmap < 0].min() == negative[heatmap > 0].min() == 255


def test_annotations_are_drawn_in_place():
    mask = np.zeros((12, 16))
    mask[2:5, 3:9] = 1
    figure = plot_explanation(explanation(), masks=[mask, None], boxes=[[], [(1, 2, 8, 10)]])
    lines = [collection for axes in figure.axes for collection in axes.collections]
    assert len(lines) == 3, "an outline on each picture of the first image"
    (path,) = lines[0].get_paths()
    photo = next(image for axes in figure.axes for image in axes.images)
    left, right, bottom, top = photo.get_extent()
    found = path.vertices
    columns, rows = (found[:, 0] - left) / (right - left) * 16, (top - found[:, 1]) / (top - bottom) * 12
    assert (columns.min(), columns.max()) == pytest.approx((3, 9), abs=1e-6)
    assert (rows.min(), rows.max()) == pytest.approx((2, 5), abs=1e-6)


def test_layers_are_drawn_from_the_output_to_the_input():
    layers = {"first": torch.randn(2, 4, 6, 8), "tokens": torch.randn(2, 10, 5), "vector": torch.randn(2, 7)}
    figure = plot_layers(replace(explanation(), layers=layers), percentile=100)
    texts = texts_of(figure)
    assert [text for text in texts if text in {*layers, "input"}][:4] == ["vector", "tokens", "first", "input"]
    pictures = pictures_of(figure)
    tokens = layers["tokens"][0, 1:].sum(1).view(3, 3).numpy()
    assert any(np.array_equal(picture, colorize(tokens, Look(percentile=100))) for picture in pictures)
    assert any("no picture" in " ".join(text.split()) for text in texts)
    with pytest.raises(InputError, match="layers="):
        plot_layers(explanation())


def test_models_are_rows_under_one_line_of_methods():
    made = {"small": {"rap": explanation(), "gradient": explanation()}, "large": {"rap": explanation(), "gradient": "too slow"}}
    texts = texts_of(plot_models(made))
    assert texts.count("rap") == 1
    assert sum(text.startswith(("small", "large")) for text in texts) == 4
    assert texts.count("too slow") == 2


def test_a_hundred_images_make_one_figure_that_is_forgotten(tmp_path):
    made = explanation()
    many = replace(
        made,
        **{
            name: getattr(made, name).repeat(50, *[1] * (getattr(made, name).dim() - 1))
            for name in ("relevance", "logits", "absorbed", "inputs", "target")
        },
    )
    figure = plot_explanation(many)
    assert len(pictures_of(figure)) == 300
    with pytest.raises(OutputError, match="draw fewer images at once"):
        save_figure(figure, tmp_path / "a.png", 400)
    assert len(many._repr_html_()) < 3e6
    kept = weakref.ref(figure)
    del figure
    gc.collect()
    assert kept() is None


def test_pixels_are_repeated_where_a_whole_number_fits(tmp_path):
    """A map of 224 pixels is enlarged by two at 160 dots per inch: its own pattern, and no other."""
    heatmap = np.random.default_rng(0).normal(size=(224, 224))
    figure = draw_sheet([Strip([View(heatmap).colors()])])
    save_figure(figure, tmp_path / "a.png", 160)
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    colors = colorize(heatmap).repeat(2, 0).repeat(2, 1)
    inner = colors[20:-20, 20:-20]
    places = [drawn[top : top + 408, left : left + 408] for top in range(40, 80) for left in range(48, 57)]
    assert any(np.array_equal(place, inner) for place in places if place.shape == inner.shape)


# --- alignment ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "resize", "crop"), [((640, 400), 64, 56), ((300, 900), 40, 40), ((50, 40), 128, 100), ((64, 64), 64, 32)]
)
def test_a_map_lies_on_the_photo_where_the_model_saw_it(size, resize, crop):
    """Half of the photo is white, half black; a map of the crop, spread on the photo, is that photo within the window."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[size[1] // 2 :, size[0] // 2 :] = 255
    photo = Image.fromarray(pixels)
    preprocessing = Preprocessing(size=(crop, crop), resize=resize, interpolation="nearest")
    framed = Framed(photo, preprocessing.window(photo))
    seen = np.asarray(preprocessing.crop(photo))[..., 0] / 255.0
    spread = framed.spread(seen, outside=0.0)
    rows, columns = framed.inside
    step = max(1, -(-min(size) // resize))
    wrong = np.abs(spread - pixels[..., 0] / 255.0)[rows, columns] > 0.5
    edges = np.zeros_like(spread, dtype=bool)
    edges[abs(np.arange(size[1]) - size[1] / 2) <= step] = edges[:, abs(np.arange(size[0]) - size[0] / 2) <= step] = True
    assert not wrong[~edges[rows, columns]].any(), "a pixel of the crop at the edge may be of either half, no other"
    assert wrong.mean() < 0.05
    assert spread[: rows.start].sum() == spread[:, : columns.start].sum() == 0


def test_without_a_resize_the_alignment_is_exact():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    preprocessing = Preprocessing(size=(24, 32), resize=40)
    assert preprocessing.window(photo) == (14, 8, 46, 32)
    framed, values = Framed(photo, preprocessing.window(photo)), np.random.default_rng(1).normal(size=(24, 32))
    assert np.array_equal(framed.spread(values)[8:32, 14:46], values)
    assert np.abs(framed.spread(values)).sum() == pytest.approx(np.abs(values).sum())


def test_whole_photos_are_drawn_and_faded_outside_of_the_window():
    photo = Image.new("RGB", (60, 40), "red")
    made = replace(explanation(), relevance=torch.randn(2, 3, 24, 32), inputs=None)
    figure = plot_explanation(made, [Framed(photo, (14, 8, 46, 32))] * 2)
    shown, colors, _ = pictures_of(figure)[:3]
    assert shown.shape == colors.shape == (40, 60, 3)
    assert shown[20, 30].tolist() == [255, 0, 0]
    assert shown[0, 0].min() > 100
    assert np.array_equal(colors[8:32, 14:46], colorize(made.heatmap()[0].numpy()))
    overlaid = made.overlay(Framed(photo, (14, 8, 46, 32)), image=1)
    assert overlaid.size == (60, 40)
    with pytest.raises(InputError, match="shows nothing"):
        Framed(photo, (70, 0, 80, 10))


def test_large_photos_are_reduced_with_their_window():
    small = Framed(Image.new("RGB", (4000, 1000)), (1000, 0, 2000, 1000)).reduced(400)
    assert small.photo.size == (400, 100)
    assert small.window == (100, 0, 200, 100)


def test_an_overlay_is_an_image_of_the_maps_size():
    made = explanation(targets=3)
    picture = made.overlay(image=1, index=2, percentile=100)
    assert picture.size == (16, 12)
    photo = (made.inputs[1] - made.inputs[1].min()) / (made.inputs[1].max() - made.inputs[1].min())
    expected = overlay((photo * 255).round().byte().permute(1, 2, 0).numpy(), made.heatmap()[1, 2].numpy(), Look(percentile=100))
    assert np.array_equal(np.asarray(picture), expected)
    with pytest.raises(InputError, match="no map 3 of image 0"):
        made.overlay(index=3)


def test_the_positive_region_is_where_the_blurred_map_is_positive():
    heatmap = np.full((50, 50), -1.0)
    heatmap[10:30, 20:40] = 1.0
    corners = 4
    assert (positive_region(heatmap) != (heatmap > 0)).sum() <= corners
    assert (positive_region(heatmap + 2) != (heatmap > 0)).sum() < 0.25 * (heatmap > 0).sum(), "of one sign: above the mean"
    heatmap[0, 0] = 1.0
    assert not positive_region(heatmap)[0, 0], "a single pixel is no region"


# --- stored pictures ---------------------------------------------------------------------------------------------------------------


def scene():
    """A map with a positive disc and a negative corner, on a photo of gradients."""
    rows, columns = np.mgrid[0:48, 0:64]
    disc = np.hypot(rows - 22, columns - 30) < 14
    heatmap = np.where(disc, 1.0, 0.0) - 0.6 * ((rows > 36) & (columns > 44))
    photo = np.stack([4 * columns, 5 * rows, 255 - 4 * columns], axis=2).astype(np.uint8)
    return View(heatmap, photo, meaning=Meaning("for", "against"), absorbed=0.5)


def test_the_picture_looks_like_the_stored_one():
    view = scene()
    sheet = draw_sheet(
        [Strip([view.picture(), view.colors("map"), view.overlay("over"), view.outlined("outline")], "row")], title="T", cell=1.5
    )
    drawn = Image.open(BytesIO(png_of(sheet, 60))).convert("RGB")
    stored = Image.open(REFERENCES / "sheet.png").convert("RGB")
    assert drawn.size == stored.size
    difference = np.abs(np.asarray(drawn, dtype=float) - np.asarray(stored, dtype=float))
    assert difference.mean() < 2.5, "other fonts and antialiasing make less"
    blurred = np.abs(smoothed(difference.mean(2), 3.0))
    assert blurred.max() < 40, "no place differs as a whole"
