"""Pictures show what the numbers say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from relprop.errors import InputError, OptionError
from relprop.viz import Panel, colorize, draw, overlay, plot_explanation, scale_of, top_scores
from tests.figures import explanation, pictures_of


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(1, 100))
def test_colors_follow_the_sign(values, percentile):
    heatmap = np.array([values])
    colors = colorize(heatmap, percentile).astype(int)
    red_minus_blue = colors[..., 0] - colors[..., 2]
    clear = np.abs(heatmap) > scale_of(heatmap, percentile) / 100
    assert np.all(np.sign(red_minus_blue)[clear & (heatmap > 0)] > 0)
    assert np.all(np.sign(red_minus_blue)[clear & (heatmap < 0)] < 0)


def test_the_scale_is_symmetric():
    heatmap = np.array([[-1.0, 0.5, 0.0, 3.0]])
    assert scale_of(heatmap) == 3.0
    assert scale_of(heatmap, 50) == 0.75
    assert np.abs(colorize(heatmap)[0, 2].astype(int) - 255).max() <= 3, "zero is white"


def test_a_map_of_zeros_is_white():
    assert colorize(np.zeros((2, 2))).min() >= 252
    assert scale_of(np.zeros((2, 2)), 99) == 1.0


@pytest.mark.parametrize("percentile", [0, -1, 101])
def test_percentiles_out_of_range_are_refused(percentile):
    with pytest.raises(OptionError, match="percentile"):
        scale_of(np.ones((1, 1)), percentile)


def test_the_overlay_shows_the_photo_where_nothing_is_relevant():
    photo = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    heatmap = np.zeros((8, 8))
    heatmap[0, 0] = 1.0
    colors = overlay(photo, heatmap)
    assert np.ptp(colors[1:], axis=2).max() == 0, "gray"
    assert colors[0, 0, 0] > colors[0, 0, 2] + 50, "red"


def test_scores_are_ordered_and_hold_the_explained_class():
    scores = top_scores([0.1, 0.5, 0.05, 0.3, 0.05], list("abcde"), explained=2, count=2)
    assert [(score.name, score.explained) for score in scores] == [("b", False), ("d", False), ("c", True)]


def test_the_figure_has_photo_map_and_overlay_per_row():
    photos = [Image.new("RGB", (16, 12), color) for color in ("red", "lime")]
    figure = plot_explanation(explanation(), photos, ["one", "two, second", "three", "four", "five"], title="T")
    pictures = pictures_of(figure)
    assert len(pictures) == 6
    assert any(np.array_equal(picture, np.asarray(photos[1])) for picture in pictures)
    texts = [text.get_text() for text in figure.texts]
    assert any(text.startswith("two  ·  class 1  ·  logit") for text in texts)
    assert any(text == "T" for text in texts)
    assert sum(len(axes.texts) for axes in figure.axes) == 20, "five names and percentages in each of two rows"


def test_several_targets_get_a_row_each_and_inputs_stand_in_for_photos():
    assert len(pictures_of(plot_explanation(explanation(targets=3)))) == 2 * 3 * 3


def test_maps_stand_alone_without_images():
    figure = draw([Panel(np.random.default_rng(0).normal(size=(8, 8)))])
    assert len(pictures_of(figure)) == 1


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="2 images of 12×16 pixels were expected, not 1 of 12×16"):
        plot_explanation(explanation(), [Image.new("RGB", (16, 12))])
    with pytest.raises(InputError, match="not 2 of 9×9"):
        plot_explanation(explanation(), [Image.new("RGB", (9, 9))] * 2)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_map_of_one_sign_has_its_own_scale(sign):
    """RISE's maps lie between about 0.4 and 0.5: on a scale from zero they would be one dark square."""
    colors = colorize(sign * np.linspace(0.4, 0.5, 64).reshape(8, 8)).astype(int)
    white = 3 * 255 - colors.sum(axis=2)
    assert white[0, 0] < 0.3 * white.max()
    assert len(np.unique(colors.reshape(-1, 3), axis=0)) > 50


def test_a_map_that_reaches_zero_keeps_its_scale():
    values = np.linspace(0, 0.5, 64).reshape(8, 8)
    assert np.array_equal(colorize(values), colorize(np.stack([values, -values]).reshape(16, 8))[:8])


def test_an_input_of_one_color_is_gray():
    made = replace(explanation(), inputs=torch.full((2, 3, 12, 16), 0.3))
    photo = next(pixels for pixels in pictures_of(plot_explanation(made)) if len(np.unique(pixels)) == 1)
    assert 120 < photo.flat[0] < 136
