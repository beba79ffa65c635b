"""Explanations, plans and traces show themselves in notebooks."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import relprop
from relprop.errors import InputError
from relprop.viz import plot_plan
from tests.figures import explanation, texts_of
from tests.pages.browser import chromium, open_file


class Tags(HTMLParser):
    """The tags of a page with their attributes; those that stay open."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in {"img", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, name):
        return [attributes for tag, attributes in self.found if tag == name]


def test_several_classes_get_a_slider():
    tags = Tags(explanation(targets=3)._repr_html_())
    assert tags.open == []
    assert [slider["max"] for slider in tags.of("input")] == ["2", "2"], "one for each of two images"
    pictures = tags.of("img")
    assert len(pictures) == 6
    hidden = ["display:none" in picture["style"] for picture in pictures]
    assert hidden == [False, True, True] * 2, "one is shown without any script too"
    for number, picture in enumerate(pictures):
        assert f"class {number % 3}" in picture["alt"]
        data = base64.b64decode(picture["src"].removeprefix("data:image/png;base64,"))
        assert Image.open(BytesIO(data)).format == "PNG"


def test_the_slider_shows_one_picture_whatever_the_page_says_of_pictures(tmp_path):
    page = f"<html data-ready><style>img {{ display: block }}</style><body>{explanation(targets=3)._repr_html_()}"
    (tmp_path / "p.html").write_text(page)
    with chromium() as browser:
        opened = open_file(browser, tmp_path / "p.html").page
        for place in (0, 2, 1):
            opened.locator("input").first.fill(str(place))
            shown = [picture.is_visible() for picture in opened.locator("figure").first.locator("img").all()]
            assert shown == [number == place for number in range(3)]


def test_a_single_class_needs_none():
    tags = Tags(explanation()._repr_html_())
    assert tags.of("input") == []
    assert len(tags.of("img")) == 2


def test_names_do_no_harm():
    made = replace(explanation(), method='<script>alert("x")</script>')
    assert "<script" not in made._repr_html_()
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    model.add_module("<b>", nn.Linear(3, 2))
    assert "<b>" not in relprop.Explainer(model, torch.rand(1, 3, 2, 2), "lrp-epsilon").plan._repr_html_()


def test_a_batch_shows_its_first_images():
    made = explanation()
    many = replace(
        made,
        relevance=made.relevance.repeat(10, 1, 1, 1),
        inputs=made.inputs.repeat(10, 1, 1, 1),
        logits=made.logits.repeat(10, 1),
        absorbed=made.absorbed.repeat(10),
        target=made.target.repeat(10),
    )
    text = many._repr_html_()
    assert len(Tags(text).of("img")) == 4
    assert "16 more images" in text
    assert Image.open(BytesIO(many._repr_png_())).size[1] < 2000


def test_what_is_no_picture_has_none():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    made = relprop.explain(model, torch.rand(2, 1, 2, 2, 2, 2), method="lrp-epsilon")
    assert made._repr_html_() is None
    assert made._repr_png_() is None


@pytest.fixture(scope="module")
def explainer():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    return relprop.Explainer(net, torch.rand(1, 3, 6, 6), "lrp-epsilon")


def test_plans_are_tables(explainer):
    for plan in (explainer.plan, explainer.captured.explainer("gradient").plan):
        tags = Tags(plan._repr_html_())
        assert tags.open == []
        assert len(tags.of("tr")) == 1 + len([line for line in str(plan).splitlines()[2:] if not line.startswith("Note")])


def test_plans_are_figures_with_a_lane_per_rule(explainer):
    captured = explainer.captured
    for plan, lanes in (
        (explainer.plan, [step.rule for step in explainer.plan.steps if step.rule]),
        (
            captured.explainer("gradient").plan,
            [line.split()[2] for line in str(captured.explainer("gradient").plan).splitlines()[2:6]],
        ),
    ):
        (axes,) = plan.plot().axes
        assert [label.get_text() for label in axes.get_yticklabels()] == list(dict.fromkeys(lanes))
        marks = {name: len(found.get_offsets()) for name, found in zip(dict.fromkeys(lanes), axes.collections, strict=True)}
        assert marks == {name: lanes.count(name) for name in lanes}
        assert len(axes.get_xticklabels()) == 4
    assert explainer.plan.plot()._repr_png_().startswith(b"\x89PNG")


def test_plans_of_averages_show_the_methods_own(explainer):
    plan = explainer.captured.explainer("lrp-epsilon", average={"shifts": 2}).plan
    assert plan._repr_html_().startswith(explainer.plan._repr_html_())
    assert "mean over" in plan._repr_html_()
    assert plan.plot().axes[0].get_title(loc="left") == explainer.plan.plot().axes[0].get_title(loc="left")


def test_a_plan_without_rules_is_refused():
    with pytest.raises(InputError, match="2 ops and 1 rules"):
        plot_plan(["a", "b"], ["epsilon"])


def test_traces_are_tables_and_figures(explainer, capsys):
    trace = explainer.trace(torch.rand(2, 3, 6, 6))
    assert capsys.readouterr().out.strip() == str(trace)
    tags = Tags(trace._repr_html_())
    assert len(tags.of("tr")) == 1 + len(trace.rows)
    figure = trace.plot()
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
    (line,) = [line for axes in figure.axes for line in axes.lines if len(line.get_ydata()) == len(trace.rows)]
    assert line.get_ydata()[0] == pytest.approx(float(trace.rows[0].received.mean()))
    assert re.search("Worst deviation", figure.axes[0].get_title(loc="left"))


def test_overlays_and_figures_of_calls(explainer):
    made = explainer(torch.rand(2, 3, 6, 6))
    assert made.overlay(image=1).size == (6, 6)
    assert "lrp-epsilon" in texts_of(made.plot())
