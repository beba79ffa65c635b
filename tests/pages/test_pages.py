"""What goes into a page, and the page as a person uses it in a browser."""

import base64
import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from relprop.errors import OutputError
from relprop.meaning import IMPORTANCE, REGION
from relprop.pages import Card, Gallery, Measure, MethodTile, write_page
from relprop.pages.document import embedded
from relprop.pages.gallery import LARGE, MANY, SMALL, side_for
from relprop.viz import View, colorize
from tests.pages.browser import PALE_TEXTS, chromium, open_file

EVIL = "<script>window.hacked=1</script>"
BREAKOUT = '</script><img src="https://example.com/x" onerror="window.hacked=1">&amp;\u202e'
BARE = {"lead": "", "notes": [], "tables": [], "failures": [], "settings": [], "foot": "", "missing": ""}


def parsed(path, name):
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*)</script>', path.read_text("utf-8"))
    return json.loads(text)


def card(name="a.png", scores=(), *, seed=0, **more):
    rng = np.random.default_rng(seed)
    photo = Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8))
    tiles = [MethodTile(method, View(rng.standard_normal((20, 24)), meaning=IMPORTANCE)) for method in ("rap", "gradient")]
    return Card(name, photo, tiles, scores=dict(scores), **more)


def gallery(*cards):
    return Gallery(("rap", "gradient"), cards, [Measure("miou", "higher"), Measure("ratio", "lower")])


def levels(tile):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(tile["map"]))))


def test_json_cannot_end_its_script_element():
    text = embedded({"a": BREAKOUT, EVIL: [1, None, "\u2028"], "n": (math.nan, math.inf, 1.5)})
    assert not set("<>&") & set(text)
    found = json.loads(text)
    assert found["a"].startswith("</script><img")
    assert "\u202e" not in found["a"], "characters that turn the direction of text are shown"
    assert found["n"] == [None, None, 1.5]
    assert EVIL in found


def test_a_map_is_its_place_on_the_color_scale(tmp_path):
    ramp = np.tile(np.linspace(-1, 1, 64), (64, 1))
    views = [View(ramp, meaning=IMPORTANCE), View(2 + np.abs(ramp), meaning=REGION), "It broke."]
    one = Card("a", Image.new("RGB", (500, 250)), [MethodTile("m", view) for view in views])
    write_page(tmp_path / "p.html", "t", BARE, Gallery(["m"], [one]))
    both, positive, failed = parsed(tmp_path / "p.html", "card-0")["tiles"]
    frame = parsed(tmp_path / "p.html", "data")["gallery"]
    colors = np.frombuffer(bytes.fromhex(frame["colors"]), np.uint8).reshape(255, 3).astype(int)
    assert np.abs(colors[levels(both)] - colorize(ramp)).max() <= 16
    assert (both["below"], both["above"], both["ends"][0]) == (True, True, "−1 unimportant")
    assert levels(positive).min() >= 125
    assert (positive["white"], positive["below"]) == (pytest.approx(2, abs=0.05), False)
    assert failed == {"method": 0, "title": "", "reason": "It broke."}
    photo = Image.open(io.BytesIO(base64.b64decode(parsed(tmp_path / "p.html", "card-0")["photo"])))
    assert photo.size == (224, 112)


def test_large_pages_have_smaller_maps(tmp_path):
    assert (side_for(MANY), side_for(MANY + 1)) == (LARGE, SMALL)
    one = Card("a", Image.new("RGB", (300, 300)), [MethodTile("m", View(np.eye(300)))])
    write_page(tmp_path / "p.html", "t", BARE, Gallery(["m"], [one], side=SMALL))
    assert levels(parsed(tmp_path / "p.html", "card-0")["tiles"][0]).shape == (SMALL, SMALL)


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    def broken():
        yield card()
        raise OutputError("It broke.")

    with pytest.raises(OutputError):
        write_page(tmp_path / "p.html", "t", BARE, Gallery(("rap", "gradient"), broken()))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def chrome():
    with chromium() as started:
        yield started


def test_hostile_names_do_no_harm(chrome, tmp_path):
    hostile = card(EVIL, explained=BREAKOUT, predicted="cat", label=EVIL, model=BREAKOUT)
    tiles = [*hostile.tiles, MethodTile("rap", BREAKOUT, EVIL)]
    page = {**BARE, "notes": [BREAKOUT], "missing": EVIL, "settings": [[EVIL, [[BREAKOUT, EVIL]]]], "lead": EVIL}
    shown = Gallery(
        ("rap", "gradient"), [Card(**{**vars(hostile), "tiles": tiles}), card(model=EVIL)], [Measure(EVIL)], [BREAKOUT]
    )
    write_page(tmp_path / "p.html", BREAKOUT, page, shown)
    opened = open_file(chrome, tmp_path / "p.html")
    opened.page.wait_for_selector(".tile canvas")
    assert opened.page.evaluate("window.hacked") is None
    assert EVIL in opened.texts(".card h3")
    assert opened.texts("h1")[0].startswith("</script>")
    assert opened.complaints == opened.requests == []
    # a script or picture that got into the page all the same would be refused by its policy
    opened.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked=1'}))"
    )
    with opened.page.expect_event("requestfailed") as refused:
        opened.page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.com/x.png'}))")
    assert refused.value.failure == "csp"
    assert opened.page.evaluate("window.hacked") is None


def test_filters_and_orders_of_the_gallery(chrome, tmp_path):
    rows = {"b.png": (0.2, 0.9), "a.png": (0.8, 0.1), "c10.png": (0.5, 0.6), "c9.png": (math.nan, math.nan)}
    cards = [
        card(
            name,
            {("rap", "miou"): rap, ("gradient", "miou"): other, ("rap", "ratio"): rap},
            seed=number,
            explained=kind,
            predicted=kind,
            label=true,
        )
        for number, ((name, (rap, other)), kind, true) in enumerate(
            zip(rows.items(), ("cat", "cat", "dog", "dog"), ("cat", "dog", "dog", ""), strict=True)
        )
    ]
    write_page(tmp_path / "p.html", "t", BARE, gallery(*cards))
    opened = open_file(chrome, tmp_path / "p.html", color_scheme="dark")
    page = opened.page
    page.wait_for_selector(".tile canvas")

    def order():
        return page.locator(".card").evaluate_all("cards => cards.map(card => card.getAttribute('aria-label'))")

    assert order() == ["a.png", "b.png", "c10.png", "c9.png"], "worst mean first, undefined last"
    page.get_by_label("Score of").select_option(label="rap")
    assert order() == ["b.png", "c10.png", "a.png", "c9.png"]
    page.get_by_label("Order").select_option(label="best first")
    assert order() == ["a.png", "c10.png", "b.png", "c9.png"]
    page.get_by_label("Sort by").select_option(label="ratio")
    assert order()[0] == "b.png", "the lower the better"
    page.get_by_label("lowest score").fill("0.4")
    assert sorted(order()) == ["a.png", "c10.png"]
    page.get_by_label("lowest score").fill("")
    page.get_by_label("Prediction").select_option("wrong")
    assert (order(), opened.texts("#count")) == (["a.png"], ["1 of 4 images"])
    page.get_by_label("Prediction").select_option("")
    page.get_by_label("Class").select_option("dog")
    assert sorted(order()) == ["a.png", "c10.png", "c9.png"]
    page.get_by_label("Sort by").select_option(label="name")
    page.get_by_label("Order").select_option(label="A to Z")
    assert order() == ["a.png", "c9.png", "c10.png"]
    page.get_by_label("Name").fill("nothing")
    assert opened.texts("#count") == ["No image fits these filters."]
    page.get_by_label("Name").fill("")
    page.locator(".card").first.get_by_text("✗ wrong").wait_for()  # cards that come back into sight are filled anew
    assert "✗ wrong" in page.locator(".card").first.inner_text()
    page.get_by_label("gradient", exact=True).uncheck()
    assert page.locator(".card").first.locator(".tile:visible").count() == 2, "the photo and one map"
    before = page.locator(".tile canvas").first.evaluate("canvas => canvas.toDataURL()")
    page.get_by_label("Opacity").fill("0.2")
    page.wait_for_function("before => document.querySelector('.tile canvas').toDataURL() !== before", arg=before)
    assert page.locator(".tile canvas").first.evaluate("canvas => canvas.toDataURL()") != before
    page.locator(".tile button").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#zoom canvas").get_attribute("aria-label").startswith("rap · a.png, max ±")
    page.locator("#zoom canvas").hover()
    assert "under the pointer" in opened.texts("#zoom .readout")[0]
    page.keyboard.press("Escape")
    assert not page.locator("#zoom").is_visible()
    assert opened.complaints == opened.requests == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_dark(chrome, tmp_path, scheme):
    cards = [
        card("a.png", explained="cat", predicted="dog", label="cat"),
        Card("b.png", card().photo, [MethodTile("rap", "It broke.")]),
    ]
    page = {**BARE, "notes": ["a note"], "missing": "no maps", "settings": [["Run", [["model", "net"]]]], "lead": "2 photos"}
    write_page(tmp_path / "p.html", "t", page, gallery(*cards))
    opened = open_file(chrome, tmp_path / "p.html", color_scheme=scheme)
    opened.page.wait_for_selector(".tile canvas")
    assert opened.page.evaluate(PALE_TEXTS) == []


def test_a_thousand_images_are_decoded_only_where_they_are_seen(chrome, tmp_path):
    one = card()
    cards = (Card(f"{number}.png", one.photo, one.tiles[:1], scores={("rap", "miou"): number / 1000}) for number in range(1000))
    write_page(tmp_path / "p.html", "t", BARE, gallery(*cards))
    opened = open_file(chrome, tmp_path / "p.html")
    opened.page.wait_for_selector(".tile canvas")
    assert opened.texts("#count") == ["1000 of 1000 images"]
    for place in (0.3, 0.6, 1.0):
        opened.page.evaluate(f"window.scrollTo(0, {place} * document.documentElement.scrollHeight)")
        opened.page.wait_for_timeout(150)
    opened.page.wait_for_selector("[data-card] canvas >> visible=true")
    assert opened.page.locator(".card").count() == 1000
    assert 0 < opened.page.locator("canvas").count() <= 60
    assert opened.page.locator(".card img").count() <= 30
    assert opened.complaints == []
