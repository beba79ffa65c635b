"""The app in headless Chromium: the time from the drop of a photo to its first map, and the picture of the docs.

    python benchmarks/app.py PHOTO [--drops 5] [--picture docs/images/app.webp]

Prints the time in the browser and the server's CPU time of every drop, each in a new session, on EfficientNet-Lite0, captured before the first.
"""

import argparse
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from relprop.app.answers import Answers
from relprop.app.desk import Desk
from relprop.app.served import Served
from relprop.app.server import Address, listen, server, url_of
from relprop.cli.serve import offered_methods
from relprop.cli.terminal import describe
from relprop.zoo import load

CHROMIUM = "/usr/bin/chromium"
MODEL = "efficientnet-lite0"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def serving() -> Iterator[str]:
    """Serve the app on a free port."""
    served, address = Served(MODEL, load), Address(port=0)
    served.warm_up("rap")
    listening = listen(address)
    running = server(Answers(Desk({MODEL: served}, offered_methods(None), describe=describe)), MODEL, ("rap",), address)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield url_of(address, listening)
    running.should_exit = True
    thread.join(20)


def drop(page: Page, url: str, photo: Path) -> tuple[float, float]:
    """Drop a photo in a new session; return the seconds until its map is there, and those of the server's CPU time."""
    page.goto(url)
    page.wait_for_selector(".rp-zone")
    begun, busy = time.perf_counter(), time.process_time()
    page.set_input_files(".rp-zone input", photo)
    page.wait_for_selector(".rp-map .rp-heat")
    return time.perf_counter() - begun, time.process_time() - busy


def picture(page: Page, path: Path) -> None:
    """Save what the page looks like with three methods and a region."""
    for method in ("abslrp", "grad-cam"):
        page.fill("#rp-methods input", method)
        page.keyboard.press("Enter")
        page.wait_for_selector(f".rp-map[data-method={method}]")
    page.keyboard.press("Escape")
    box = page.locator(".rp-map[data-method=abslrp]").bounding_box()
    page.click(".rp-map[data-method=abslrp]", position={"x": 0.5 * box["width"], "y": 0.42 * box["height"]})
    page.wait_for_selector(".rp-region tbody tr")
    Image.open(BytesIO(page.screenshot(full_page=True))).save(path, quality=88, method=6)


def main() -> None:
    """Measure, and save the picture where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--drops", type=int, default=5)
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    with sync_playwright() as driver, serving() as url:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1320, "height": 900})
        page.set_default_timeout(120_000)
        for number in range(chosen.drops):
            seconds, busy = drop(page, url, chosen.photo)
            print(f"drop {number + 1}: {seconds:.2f} s, of which {busy:.2f} s CPU of the server; {page.inner_text('#rp-news')}")
        if chosen.picture:
            picture(page, chosen.picture)
        browser.close()


if __name__ == "__main__":
    main()
