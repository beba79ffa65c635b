"""HTML in which a slider chooses one of several pictures: maps of classes, slices of volumes, frames of videos."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO

import numpy as np
from PIL import Image

from relprop.viz.colors import Bytes
from relprop.viz.stacks import AXES, Stack
from relprop.viz.tiles import Legend

SLICES = 32
"""Of one axis, the most slices that a page holds; of longer ones, so many that are evenly spread."""
_SLIDE = (
    "const figure=this.closest('figure');"
    "figure.querySelectorAll('img').forEach((image,n)=>{image.style.display=n==this.value?'':'none';"
    "if(n==this.value)figure.querySelector('output').value=image.dataset.name})"
)
_LABEL = "display:block;text-align:left;font:12px sans-serif"
_WIDTH = 240
"""Of a slice, in pixels of the page."""


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        data: The file.
        kind: Its format: ``"png"``, ``"webp"``.
        text: What it shows, for who does not see it.
        name: What stands beside the slider that chooses it.
        style: CSS.
    """

    data: bytes
    kind: str
    text: str
    name: str = ""
    style: str = "max-width:100%"

    def html(self, *, hidden: bool = False) -> str:
        """Return it as HTML; pages style pictures, which outweighs the attribute ``hidden``."""
        source = f"data:image/{self.kind};base64,{b64encode(self.data).decode('ascii')}"
        text, name = escape(self.text, quote=True), escape(self.name, quote=True)
        return f'<img style="{self.style}{";display:none" * hidden}" alt="{text}" data-name="{name}" src="{source}">'


def slider(label: str, pictures: Sequence[Picture], first: int = 0, below: str = "") -> str:
    """Return a figure of one picture under a slider over all of them; ``first`` is shown first, and without any script."""
    shown = "".join(picture.html(hidden=place != first) for place, picture in enumerate(pictures))
    if len(pictures) == 1:
        return f"<figure style='margin:0'>{shown}{below}</figure>"
    bar = f"<input type='range' min='0' max='{len(pictures) - 1}' value='{first}' step='1' oninput=\"{_SLIDE}\">"
    name = f"<output>{escape(pictures[first].name)}</output>"
    return f"<figure style='margin:0'><label style='{_LABEL}'>{label}: {bar} {name}</label>{shown}{below}</figure>"


def planes(stack: Stack, method: str) -> str:
    """Return the slices of a volume along its three axes side by side, a slider for each, with the scale that they share."""
    return _page_of(stack, method, [_along(stack, axis, name, stack.strongest[axis]) for axis, name in enumerate(AXES)])


def frames(stack: Stack, method: str) -> str:
    """Return the frames of a video under a slider, with the scale that they share."""
    return _page_of(stack, method, [_along(stack, 0, "frame", stack.strongest[0])])


def _page_of(stack: Stack, method: str, figures: Sequence[str]) -> str:
    title = f"<div><b>{escape(method)}</b> {escape(stack.title)}</div>"
    row = f"<div style='display:flex;flex-wrap:wrap;gap:12px;align-items:flex-end'>{''.join(figures)}</div>"
    return f"<div style='font:12px sans-serif;margin-bottom:12px'>{title}{row}{_legend(stack.legend)}</div>"


def _along(stack: Stack, axis: int, name: str, strongest: int) -> str:
    """The slices along one axis, among them the strongest voxel's, which is shown first."""
    size = stack.heatmap.shape[axis]
    places = np.unique(np.append(np.linspace(0, size - 1, min(size, SLICES)).round().astype(int), strongest)).tolist()
    return slider(name, [_slice(stack, axis, name, place) for place in places], places.index(strongest))


def _slice(stack: Stack, axis: int, name: str, place: int) -> Picture:
    view = stack.slice(axis, place)
    pixels = view.colors().pixels if view.photo is None else view.overlaid()
    text = f"{stack.title}, {name} {place}: relevance" + " over the volume" * (view.photo is not None)
    return Picture(_webp(pixels), "webp", text, str(place), f"width:{_WIDTH}px;image-rendering:pixelated")


def _legend(legend: Legend) -> str:
    """The colors, with words and values at their ends."""
    low, high = map(escape, legend.ends)
    style = f"width:{_WIDTH}px;height:10px"
    colors = Picture(_webp(legend.scale.colors[None]), "webp", "the colors from the least to the largest relevance", style=style)
    return f"<div>{low} {colors.html()} {high}</div>"


def _webp(pixels: Bytes) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="webp", lossless=True)
    return file.getvalue()
