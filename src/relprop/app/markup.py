"""The page's parts as HTML: maps with their values, predicted classes, regions, sentences."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO

import numpy as np
from PIL import Image

from relprop.app.desk import Map, Region, Share
from relprop.app.sessions import Prepared
from relprop.propagation.trace import Trace
from relprop.text import percent
from relprop.viz import View
from relprop.viz.colors import Bytes, Scale, colorize_rgba, grayed
from relprop.viz.images import Photo
from relprop.viz.look import Look
from relprop.viz.numbers import written

_FULL = Look(opacity=1.0)
"""The opacity is the page's, so that its slider needs no server."""
_STOPS = 9
HINT = (
    '<p class="rp-hint">Point at a map for its values, and click it to see which classes that region counts for and against.</p>'
)
_KEYS = "Point at the map for values; click it to ask what a region counts for. Keys: arrows move, Enter asks."


def text(value: str) -> str:
    """Return text as HTML that is shown as it is; braces and dollars mean nothing to templates either."""
    shown = escape(value, quote=True)
    for mark in "{}$`\\":
        shown = shown.replace(mark, f"&#{ord(mark)};")
    return shown


def sentence(message: str, *, wrong: bool = False) -> str:
    """Return a line of news, or what went wrong, which screen readers say at once."""
    return (
        f'<p class="rp-news{" rp-wrong" * wrong}" role="{"alert" if wrong else "status"}">{text(message)}</p>' if message else ""
    )


def cards(maps: Sequence[Map], class_name: str, photo: str) -> str:
    """Return the maps side by side."""
    return f'<div class="rp-cards">{"".join(_card(one, class_name, photo) for one in maps)}</div>'


def _card(one: Map, class_name: str, photo: str) -> str:
    head = f"<h3>{text(one.method)}</h3>"
    if one.view is None:
        return f'<section class="rp-card" aria-label="{text(one.method)}">{head}{sentence(one.reason, wrong=True)}</section>'
    label = f"Heat map of {one.method} for {class_name}, over {photo}"
    parts = [head, _picture(one.view, one.view.photo, label, one.method, keys=True), _legend(one.view)]
    parts += [f'<p class="rp-numbers">{"".join(f"<span>{text(part)}</span>" for part in one.view.sums.parts)}</p>']
    parts += [_layer(one, class_name)] if one.layer else []
    parts += [_buttons(one.method)]
    parts += [f'<p class="rp-note">{text(note)}</p>' for note in one.notes]
    return f'<section class="rp-card" aria-label="{text(one.method)}">{"".join(parts)}</section>'


def _picture(view: View, photo: Photo, label: str, method: str, *, keys: bool) -> str:
    """The photo under the map, whose cells may be larger, with the map's values for the pointer."""
    base = np.round(grayed(np.asarray(photo)) * 255).astype(np.uint8)
    values = b64encode(np.ascontiguousarray(view.heatmap, dtype="<f4").tobytes()).decode("ascii")
    rows, columns = view.heatmap.shape
    size = f'data-rows="{rows}" data-columns="{columns}" data-values="{values}" style="aspect-ratio:{columns}/{rows}"'
    asked = f'tabindex="0" role="application" aria-roledescription="map" aria-label="{text(label)}. {_KEYS}"' if keys else ""
    return (
        f'<div class="rp-map" data-method="{text(method)}" {size} {asked}>'
        f'<img class="rp-photo" alt="" src="{data_url(base)}"><img class="rp-heat" alt="{text(label)}" '
        f'src="{data_url(colorize_rgba(view.heatmap, _FULL))}"><span class="rp-disc" hidden></span><span class="rp-cross" hidden></span></div>'
        f'<p class="rp-value" aria-live="polite">{"point at the map" if keys else "point at the layer"}</p>'
    )


def _legend(view: View) -> str:
    low, high = view.legend.ends
    return (
        f'<div class="rp-legend"><span class="rp-bar" style="background:{_gradient(view.scale)}"></span>'
        f"<span>{text(low)}</span><span>{text(high)}</span></div>"
    )


def _gradient(scale: Scale) -> str:
    colors = scale.colors
    stops = [colors[round(place)] for place in np.linspace(0, len(colors) - 1, _STOPS)]
    return f"linear-gradient(to right,{','.join(f'rgb({red},{green},{blue})' for red, green, blue in stops)})"


def _layer(one: Map, class_name: str) -> str:
    if isinstance(one.layer, str):
        return f'<div class="rp-layer"><h4>At the layer</h4><p class="rp-note">{text(one.layer)}</p></div>'
    rows, columns = one.layer.heatmap.shape
    label = f"Relevance of {one.method} for {class_name} at the layer, {rows} by {columns}"
    picture = _picture(one.layer, one.view.photo if one.view else None, label, one.method, keys=False)
    return f'<div class="rp-layer"><h4>At the layer, {rows}×{columns}</h4>{picture}{_legend(one.layer)}</div>'


def _buttons(method: str) -> str:
    kinds = (("png", "PNG", "picture"), ("npy", "Array", "raw array"), ("py", "Python", "Python code"))
    made = "".join(
        f'<button type="button" class="rp-button" data-save="{kind}" data-method="{text(method)}" '
        f'aria-label="Download the {what} of {text(method)}">{name}</button>'
        for kind, name, what in kinds
    )
    return f'<div class="rp-buttons">{made}</div>'


def predicted(prepared: Prepared, names: Sequence[str], target: int, count: int) -> str:
    """Return the predicted classes with their probabilities, each a button that chooses it."""
    rows = "".join(
        f'<button type="button" class="rp-class" data-class="{index}" aria-pressed="{"true" if index == target else "false"}">'
        f'<span class="rp-name">{text(names[index])}</span><span class="rp-percent">{text(percent(float(prepared.probabilities[index]), 1))}</span>'
        f'<span class="rp-fill" style="width:{float(prepared.probabilities[index]):.1%}"></span></button>'
        for index in prepared.ranked[:count]
    )
    return f'<div class="rp-classes" role="group" aria-label="Predicted classes; press one to explain it">{rows}</div>'


def region(found: Region, method: str) -> str:
    """Return what a region counts for, as bars to both sides."""
    if found.reason:
        return sentence(found.reason, wrong=True)
    largest = max((abs(share.relevance) for share in found.shares), default=0.0) or 1.0
    rows = "".join(_share(share, largest) for share in found.shares)
    ends = f"<span>{text(found.meaning.negative or 'negative')}</span><span>{text(found.meaning.positive)}</span>"
    return (
        f'<section class="rp-region" aria-label="The region"><h3>What the region counts for, by {text(method)}</h3>'
        f'<table><thead><tr><th scope="col">class</th><th scope="col"><div class="rp-ends">{ends}</div></th>'
        f'<th scope="col">Σ</th><th scope="col">of the map</th></tr></thead><tbody>{rows}</tbody></table>'
        f'<p class="rp-note">Σ is the sum of relevance in the disc, for the explained class (bold) and the most probable ones; beside it, '
        f"its share of all absolute relevance of that class's map.</p></section>"
    )


def _share(share: Share, largest: float) -> str:
    width = f"{50 * abs(share.relevance) / largest:.1f}%"
    side = "left:50%" if share.relevance >= 0 else "right:50%"
    sign = "rp-for" if share.relevance >= 0 else "rp-against"
    signed = ("+" if share.relevance > 0 else "") + written(share.relevance)
    name = f"<strong>{text(share.name)}</strong>" if share.explained else text(share.name)
    return (
        f'<tr><th scope="row">{name}</th><td class="rp-sides"><span class="{sign}" style="{side};width:{width}"></span></td>'
        f"<td>{text(signed)}</td><td>{text(f'{share.part:+.1%}'.replace('-', '−'))}</td></tr>"
    )


def table(trace: Trace) -> str:
    """Return a conservation table."""
    return trace._repr_html_()  # pyright: ignore[reportPrivateUsage] - as notebooks call it


def data_url(pixels: Bytes) -> str:
    """Return pixels ``(H, W, 3)`` or ``(H, W, 4)`` as the URL of a PNG."""
    return image_url(Image.fromarray(pixels))


def image_url(image: Image.Image) -> str:
    """Return an image as the URL of a PNG."""
    file = BytesIO()
    image.save(file, format="png", compress_level=1)
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode('ascii')}"
