"""A headless Chromium in which tests open pages, and what it saw."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

PALE_TEXTS = """() => {
  const light = (color) => color.slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
  const parsed = (text) => [...text.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
  const over = (upper, lower) => [0, 1, 2].map((place) => upper[place] * upper[3] + lower[place] * (1 - upper[3]));
  const behind = (element) => {
    const color = parsed(getComputedStyle(element).backgroundColor);
    return color[3] >= 1 ? color : over(color, element.parentElement ? behind(element.parentElement) : [255, 255, 255]);
  };
  const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  return [...document.querySelectorAll("body *")].filter((element) => element.offsetParent && own(element)).filter((element) => {
    const ground = behind(element), style = getComputedStyle(element);
    const pair = [light(over(parsed(style.color), ground)), light(ground)].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05) < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5);
  }).map((element) => element.textContent.trim().slice(0, 60));
}"""
"""A script that returns the texts whose contrast to what is behind them is below 4.5, of large ones 3 (WCAG 2, level AA)."""


@dataclass
class Opened:
    """A page with its console errors, and every request that is neither the file itself nor data within it."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def texts(self, selector):
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]


@contextlib.contextmanager
def chromium():
    """Start the browser; skip where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


def open_file(browser, path, **settings):
    """Open a page and wait until it has drawn itself."""
    opened = Opened(browser.new_page(**{"viewport": {"width": 1200, "height": 900}, **settings}))
    own = path.resolve().as_uri()
    opened.page.on("console", lambda message: opened.complaints.append(message.text) if message.type == "error" else None)
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.page.on(
        "request", lambda request: opened.requests.append(request.url) if not request.url.startswith((own, "data:")) else None
    )
    opened.page.goto(own)
    opened.page.wait_for_selector("html[data-ready]", timeout=60_000)
    return opened
