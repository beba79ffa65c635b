"""Sliders over the slices of volumes and the frames of videos."""

import base64
import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import relprop
from relprop.viz import View, html_of_explanation
from relprop.viz.look import Look
from relprop.viz.sliders import SLICES
from tests.pages.browser import chromium, open_file


def explain(*shape: int, targets: object = 1) -> relprop.Explanation:
    torch.manual_seed(0)
    pooled = nn.Sequential(
        nn.Conv3d(shape[1], 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 3)
    )
    return relprop.explain(pooled.eval(), torch.rand(shape), targets, method="lrp-epsilon")


def figures(page: str) -> list[str]:
    return re.findall(r"<figure.*?</figure>", page)


def pixels(figure: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(BytesIO(base64.b64decode(data)))) for data in re.findall(r"base64,([^\"]+)", figure)]


def names(figure: str) -> list[str]:
    return re.findall(r'data-name="(\d+)"', figure)


def test_every_axis_of_a_volume_has_a_slider_over_all_its_slices():
    explanation = explain(1, 1, 5, 6, 7)
    found = figures(explanation._repr_html_())
    assert [re.search(r">(depth|height|width): <input type='range' min='0' max='(\d)'", f).groups() for f in found] == [
        ("depth", "4"),
        ("height", "5"),
        ("width", "6"),
    ]
    heatmap = explanation.heatmap()[0].numpy()
    strongest = np.unravel_index(np.abs(heatmap).argmax(), heatmap.shape)
    for axis, figure in enumerate(found):
        assert names(figure) == [str(place) for place in range(heatmap.shape[axis])]
        shown = re.findall(r'<img style="(?![^"]*display:none)[^"]*" alt="[^"]*" data-name="(\d+)"', figure)
        assert shown == [str(strongest[axis])], "without any script the slice of the strongest voxel is shown"


def test_slices_are_those_of_the_map_in_one_scale():
    explanation = explain(1, 1, 5, 6, 7)
    heatmap = explanation.heatmap()[0].numpy()
    volume = explanation.inputs[0, 0]
    gray = ((volume - volume.min()) / (volume.max() - volume.min()) * 255).round().byte().numpy()
    look = Look(limit=float(np.percentile(np.abs(heatmap), 99.5)))
    for axis, figure in enumerate(figures(explanation._repr_html_())):
        for place, shown in enumerate(pixels(figure)):
            photo = np.repeat(gray.take(place, axis)[..., None], 3, axis=2)
            expected = View(heatmap.take(place, axis), photo, look).overlaid()
            assert np.abs(shown.astype(int) - expected).max() <= 1


def test_a_video_has_one_slider_over_its_frames():
    (figure,) = figures(explain(1, 3, 5, 6, 7)._repr_html_())
    assert "frame: <input" in figure
    assert [picture.shape for picture in pixels(figure)] == [(6, 7, 3)] * 5


def test_long_axes_are_spread_evenly_and_hold_the_strongest_voxel():
    explanation = explain(1, 1, 3 * SLICES + 4, 2, 2)
    relevance = torch.zeros_like(explanation.relevance)
    relevance[0, 0, 50, 1, 0] = 1.0
    depth, height, _ = figures(replace(explanation, relevance=relevance)._repr_html_())
    places = list(map(int, names(depth)))
    assert len(places) in {SLICES, SLICES + 1}
    assert {0, 50, 3 * SLICES + 3} <= set(places)
    assert np.diff(places).max() <= 4
    assert names(height) == ["0", "1"]


def test_channels_that_are_no_picture_are_shown_by_their_relevance_alone():
    page = explain(1, 2, 4, 5, 6)._repr_html_()
    assert "relevance over the volume" not in page
    assert len(figures(page)) == 3


def test_one_slice_needs_no_slider():
    depth, height, _ = figures(explain(1, 1, 1, 5, 6)._repr_html_())
    assert "<input" not in depth
    assert "<input" in height


def test_only_the_first_maps_are_shown_and_the_rest_is_named():
    page = explain(2, 1, 4, 5, 6, targets=torch.tensor([[0, 1, 2]] * 2))._repr_html_()
    assert len(figures(page)) == 6
    assert "… and 4 more maps: <code>explanation.plot()</code> draws all." in page


def test_names_do_no_harm():
    page = html_of_explanation(replace(explain(1, 1, 4, 5, 6), method="<script>"), ["a", '"><b>', "c"])
    assert "<script" not in page
    assert "<b>&quot;" not in page
    assert '"><b>' not in page


def test_maps_with_nan_have_no_page():
    explanation = explain(1, 1, 4, 5, 6)
    assert replace(explanation, relevance=explanation.relevance * float("nan"))._repr_html_() is None


@pytest.mark.parametrize("place", [0, 3, 5])
def test_moving_the_slider_shows_the_slice_and_its_number(tmp_path, place):
    (tmp_path / "p.html").write_text(f"<html data-ready><body>{explain(1, 1, 5, 6, 7)._repr_html_()}")
    with chromium() as browser:
        opened = open_file(browser, tmp_path / "p.html")
        height = opened.page.locator("figure").nth(1)
        height.locator("input").fill(str(place))
        assert [picture.is_visible() for picture in height.locator("img").all()] == [number == place for number in range(6)]
        assert height.locator("output").inner_text() == str(place)
        assert sum(picture.is_visible() for picture in opened.page.locator("figure").first.locator("img").all()) == 1
        assert opened.complaints == []
