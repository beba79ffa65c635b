"""The docs' gallery, and the pictures of it and of a report, in headless Chromium: ``python benchmarks/pages.py docs``.

The photos come with Python packages; the report is that of the tutorial on masks.
"""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = "/usr/bin/chromium"
PHOTOS = (
    ("skimage", "data/coffee.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
METHODS = (
    "rap,rap-regional,abslrp,epsilon-plus,lrp-gamma,epsilon-gamma-box,deeplift,input-x-gradient,smoothgrad,grad-cam,finer-cam,occlusion,"
    "edge,random"
)
WIDTH = 1280


def main(docs: Path) -> None:
    """Write the gallery and both pictures."""
    gallery = docs / "generated" / "gallery.html"
    photos = [str(files(package) / path) for package, path in PHOTOS]
    _run("-m", "relprop", "explain", *photos, "--html", str(gallery), "--method", METHODS, "--smooth", "1.5")
    with TemporaryDirectory() as name, sync_playwright() as playwright:
        folder, browser = Path(name), playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        _run(str(docs / "tutorials" / "masks.py"), folder=folder)
        _run("-m", "relprop", "report", "results", "--baseline", "edge", "--html", "report.html", folder=folder)
        _shoot(browser, gallery, docs / "images" / "gallery.webp", 1000, "#gallery")
        _shoot(browser, folder / "report.html", docs / "images" / "report.webp", 760)
        browser.close()


def _run(*arguments: str, folder: Path | None = None) -> None:
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _shoot(browser: Browser, page: Path, picture: Path, height: int, part: str = "") -> None:
    """Photograph the upper end of a page, or of a part of it."""
    opened = browser.new_page(viewport={"width": WIDTH, "height": height})
    opened.goto(f"{page.resolve().as_uri()}{part}")
    opened.wait_for_timeout(1500)
    shot = picture.with_suffix(".png")
    opened.screenshot(path=shot)
    Image.open(shot).convert("RGB").save(picture, quality=85, method=6)
    shot.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
