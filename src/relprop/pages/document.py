"""The file of a page: a fixed frame, the data as JSON, and the script that draws it.

Every text of the data goes through ``textContent`` in the script, never through HTML. A content security policy backs that: the browser
runs the one script whose hash the page states, loads pictures from within the page alone, and opens no connection.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from relprop.files import atomic
from relprop.pages.gallery import Gallery
from relprop.text import visible
from relprop.version import __version__

SCRIPTS = ("base.js", "tables.js", "charts.js", "pictures.js", "filters.js", "gallery.js", "main.js")
"""In the order in which they are joined into one."""
_FOOT = f"Made by relprop {__version__}. This file holds all its data and opens no connection."
_ESCAPES = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&"}


def write_page(path: Path, title: str, data: Mapping[str, Any], gallery: Gallery | None = None) -> int:
    """Write a page, whole or not at all; cards are taken from the gallery one by one. Return their number.

    Args:
        path: The file.
        title: Its title.
        data: What the script draws, of numbers, texts, lists and mappings; see ``main.js``.
        gallery: The pictures; None for a page without.

    Raises:
        OutputError: The file cannot be written.
    """
    index: list[dict[str, Any]] = []
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(_head(title))
        if gallery is not None:
            for number, card in enumerate(gallery.cards):
                index.append(card.index(gallery))
                file.write(f'<script type="application/json" id="card-{number}">{embedded(card.pictures(gallery))}</script>\n')
        shown = None if gallery is None else gallery.frame | {"cards": index}
        whole = {**data, "title": title, "gallery": shown, "foot": _FOOT}
        file.write(f'<script type="application/json" id="data">{embedded(whole)}</script>\n')
        file.write(f"<script>{script()}</script>\n</body>\n</html>\n")
    return len(index)


def embedded(value: object) -> str:
    """Return JSON that can stand inside a script element: ``<``, ``>`` and ``&`` as escapes, numbers that are not finite as null."""
    return json.dumps(_plain(value), allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def _plain(value: object) -> object:
    """Return a value with texts that command nothing, and without NaN."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in cast("list[object]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def script() -> str:
    """Return the script of every page."""
    body = "\n".join(_asset(name) for name in SCRIPTS)
    return f'"use strict";(() => {{\n{body}\n}})();'


@cache
def _asset(name: str) -> str:
    return files("relprop.pages").joinpath("assets", name).read_text("utf-8")


def _head(title: str) -> str:
    style = _asset("page.css")
    policy = "; ".join(_policy(style))
    parts = {"policy": policy, "style": style, "title": escape(visible(title))}
    return "".join(_filled(_asset("page.html"), parts))


def _policy(style: str) -> Iterator[str]:
    yield "default-src 'none'"
    yield "img-src data:"
    yield f"style-src '{_digest(style)}'"
    yield f"script-src '{_digest(script())}'"
    yield from ("base-uri 'none'", "form-action 'none'")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _filled(frame: str, parts: Mapping[str, str]) -> Iterator[str]:
    """Yield a frame with each ``{{name}}`` replaced once; what is put in is not searched again."""
    while frame:
        before, _, rest = frame.partition("{{")
        name, _, frame = rest.partition("}}")
        yield before
        yield parts.get(name, "")
