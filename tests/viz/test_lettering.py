"""Every name is shown as it is in every picture, and drawing changes nothing outside the figure."""

import gc
import os
import subprocess
import sys
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from relprop.evaluation.report.figures import draw_bars, draw_curves
from relprop.evaluation.report.statistics import Estimate
from relprop.evaluation.report.tables import Curve, Line, Table
from relprop.viz import Row, View, draw_grid, plot_comparison, plot_explanation, save_figure
from relprop.viz.lettering import printable, width_of
from relprop.viz.page import blank_page
from tests.figures import explanation
from tests.files import ROOT

NAMES = ["price $5 and $6", r"$\frac{$", r"a$\alpha$b", "50%_x_^{", "猫", "\x1b[31mred", "\udcff", "tab\there"]
SHOWN = {"猫": "□", "\x1b[31mred": "□[31mred", "\udcff": "□", "tab\there": "tab□here"}


def texts_of(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text)]


def make_table(name):
    """A table of a report in which model, metric, method, value and curve have the name."""
    estimate = Estimate(0.5, 0.4, 0.6)
    line = Line(name, name, "images", "higher", 4, 0, 0, estimate, None)
    return Table(name, name, None, (line, replace(line, method="rap")), (Curve(name, name, (estimate, estimate)),))


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(params=["png", "svg", "pdf"])
def saved(request, tmp_path):
    """Save a figure, which is when matplotlib reads its texts."""
    return lambda figure: save_figure(figure, tmp_path / f"out.{request.param}", dpi=40)


@pytest.mark.parametrize("name", NAMES)
def test_an_explanation_shows_names_as_they_are(name, saved):
    figure = plot_explanation(explanation(), labels=[name] * 5, title=name)
    saved(figure)
    shown = SHOWN.get(name, name)
    assert shown in texts_of(figure)
    assert any(text.startswith(f"{shown}  ·  class 1") for text in texts_of(figure))
    assert texts_of(figure).count(shown) == 1 + 2 * 5


@pytest.mark.parametrize("name", NAMES)
def test_a_comparison_shows_names_as_they_are(name, saved):
    figure = plot_comparison({name: explanation(), "none": name}, labels=[name] * 5, title=name)
    saved(figure)
    assert texts_of(figure).count(SHOWN.get(name, name)) >= 2
    cells = {name: View(np.zeros((4, 4))), "none": f"no map of {name}"}
    saved(draw_grid([Row(cells, title=name)], title=name))


@pytest.mark.parametrize("name", NAMES)
def test_figures_of_a_report_show_names_as_they_are(name, saved):
    table = make_table(name)
    for figure in (draw_bars(table), draw_curves(table)):
        saved(figure)
        assert SHOWN.get(name, name) in texts_of(figure)


def test_only_what_has_no_glyph_becomes_a_box():
    assert printable("Größe → 90 % · π\nnext") == "Größe → 90 % · π\nnext"
    assert printable("a猫b", weight="bold") == "a□b"


@pytest.mark.parametrize("dpi", [100, 110, 120, 150, 160, 200])
def test_no_line_is_wider_than_measured(dpi):
    text = "max ±3e-05  ·  Σ⁺ 0.0236  ·  Σ⁻ −0.0236  ·  absorbed ≈ 0"
    for size in (6.0, 7.0, 8.5, 10.0):
        page = blank_page(9, 2)
        page.figure.set_dpi(dpi)
        page.label(0, 1, text, size=size)
        (drawn,) = page.axes.texts
        assert drawn.get_window_extent(page.figure.canvas.get_renderer()).width / dpi <= width_of(text, size)


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path):
    mpl.rcParams["font.size"] = 31.0
    try:
        before = dict(mpl.rcParams)
        with ThreadPoolExecutor(4) as pool:
            figures = list(pool.map(lambda _: plot_explanation(explanation()), range(8)))
            list(pool.map(lambda n: save_figure(figures[n], tmp_path / f"{n}.png", 40), range(8)))
        assert dict(mpl.rcParams) == before
        assert {text.get_fontsize() for text in figures[0].findobj(mpl.text.Text) if text.get_text()} == {
            12.0,
            10.0,
            9.0,
            8.5,
            7.0,
        }
    finally:
        mpl.rcdefaults()


def test_pyplot_is_not_imported_and_no_figure_is_kept():
    figure = plot_explanation(explanation())
    kept = weakref.ref(figure)
    del figure
    gc.collect()
    assert kept() is None
    code = "import sys, relprop.viz, relprop.evaluation.report.figures; print('matplotlib.pyplot' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "False\n"


def test_a_notebook_shows_the_figure():
    figure = plot_explanation(explanation())
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
