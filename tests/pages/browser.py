"""A headless Chromium in which tests open pages, and what it saw."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


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
