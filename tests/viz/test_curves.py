"""Curves of methods with their intervals."""

import numpy as np
import pytest

from relprop.errors import InputError
from relprop.viz import plot_curves
from tests.figures import texts_of

CURVE = np.stack([np.linspace(1, 0, 5), np.linspace(0.9, -0.1, 5), np.linspace(1.1, 0.1, 5)], 1)


def test_a_panel_has_a_line_per_method_and_a_band_where_there_is_an_interval():
    figure = plot_curves(
        {"lerf": {"rap": CURVE, "edge": CURVE[:, 0]}, "morf": {"rap": CURVE}}, title="Perturbation", xlabel="pixels"
    )
    first, second = figure.axes
    assert [len(axes.lines) for axes in (first, second)] == [2, 1]
    assert [len(axes.collections) for axes in (first, second)] == [1, 1]
    np.testing.assert_array_equal(first.lines[0].get_ydata(), CURVE[:, 0])
    band = first.collections[0].get_datalim(first.transData)
    assert (band.y0, band.y1) == pytest.approx((-0.1, 1.1))
    assert first.lines[0].get_color() == second.lines[0].get_color() != first.lines[1].get_color()
    assert texts_of(figure)[0] == "Perturbation"
    assert [(axes.get_title(), axes.get_xlabel()) for axes in figure.axes] == [("lerf", "pixels"), ("morf", "pixels")]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["rap", "edge"]


def test_of_more_than_ten_methods_no_bands_are_drawn():
    (axes,) = plot_curves({"lerf": {f"method {number}": CURVE for number in range(11)}}).axes
    assert len(axes.lines) == 11
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 11
    assert not axes.collections


@pytest.mark.parametrize("panels", [{}, {"lerf": {}}])
def test_no_curve_is_refused(panels):
    with pytest.raises(InputError, match="no curve"):
        plot_curves(panels)


def test_another_shape_is_refused():
    with pytest.raises(InputError, match=r"'rap' has shape \(5, 2\)"):
        plot_curves({"lerf": {"rap": CURVE[:, :2]}})
