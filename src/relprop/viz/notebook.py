"""Explanations in notebooks: a PNG of the first samples, and HTML; that of images has a slider over the explained classes."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Any

from relprop.errors import InputError
from relprop.viz.drawable import Drawable
from relprop.viz.features import plot_features
from relprop.viz.kinds import picture_for
from relprop.viz.look import PLAIN
from relprop.viz.page import png_of
from relprop.viz.plot import strips_of
from relprop.viz.sheet import draw_sheet
from relprop.viz.subjects import Subject, foot_of, subjects_of

IMAGES, MAPS = 4, 10
"""Of one explanation, the most images that a notebook shows, and the most maps of each."""
_SLIDE = (
    "const shown=this.closest('figure').querySelectorAll('img');"
    "shown.forEach((image,n)=>{image.style.display=n==this.value?'':'none'})"
)


def png_of_explanation(explanation: Drawable, labels: Sequence[str] | None = None) -> bytes | None:
    """Return a picture of the first samples as PNG; None where no picture suits them."""
    subjects = _first(explanation, labels)
    if not subjects:
        return _other(explanation, labels)
    strips = [strip for subject in subjects for strip in strips_of(subject)]
    return png_of(draw_sheet(strips, title=explanation.method, foot=_foot(explanation, subjects)))


def html_of_explanation(explanation: Drawable, labels: Sequence[str] | None = None) -> str | None:
    """Return the first samples as HTML, of images one picture per class under a slider; None where no picture suits them."""
    subjects = _first(explanation, labels)
    if not subjects:
        return _html_of_other(explanation, labels)
    hidden = len(explanation.logits) - len(subjects)
    rest = f"<p>… and {hidden} more images: <code>explanation.plot()</code> draws all.</p>" if hidden else ""
    return "".join(_figure(explanation, subject) for subject in subjects) + rest


def _first(explanation: Drawable, labels: Sequence[str] | None) -> list[Subject]:
    try:
        return subjects_of(explanation, None, labels, PLAIN, images_at_most=IMAGES)
    except InputError:
        return []


def _other(explanation: Drawable, labels: Sequence[str] | None) -> bytes | None:
    """A picture of the first samples that are no images."""
    first: Any = explanation
    try:
        return png_of(picture_for(explanation)(first[:IMAGES], labels=labels))
    except InputError:
        return None


def _html_of_other(explanation: Drawable, labels: Sequence[str] | None) -> str | None:
    picture = _other(explanation, labels)
    if picture is None:
        return None
    shown = 1 if picture_for(explanation) is plot_features else IMAGES
    hidden = len(explanation.logits) - shown
    how = "sample=…" if shown == 1 else ""
    samples = "sample" if hidden == 1 else "samples"
    rest = f"<p>… and {hidden} more {samples}: <code>explanation.plot({how})</code> draws more.</p>" if hidden > 0 else ""
    return _image(picture, f"{explanation.method}: relevance", "") + rest


def _figure(explanation: Drawable, subject: Subject) -> str:
    """One image: a picture for each of its maps, and a slider where there are several."""
    singles = [
        Subject((view,), subject.names[index : index + 1], subject.scores) for index, view in enumerate(subject.views[:MAPS])
    ]
    pictures = "".join(_picture(explanation, single, hidden=index > 0) for index, single in enumerate(singles))
    left = len(subject.views) - len(singles)
    more = f"<figcaption>… and {left} more classes.</figcaption>" if left else ""
    if len(singles) == 1:
        return f"<figure style='margin:0'>{pictures}{more}</figure>"
    slider = f"<input type='range' min='0' max='{len(singles) - 1}' value='0' step='1' oninput=\"{_SLIDE}\">"
    label = f"<label style='font:12px sans-serif'>explained class, of {len(singles)}: {slider}</label>"
    return f"<figure style='margin:0'>{label}{pictures}{more}</figure>"


def _picture(explanation: Drawable, subject: Subject, *, hidden: bool) -> str:
    figure = draw_sheet(strips_of(subject), title=explanation.method, foot=_foot(explanation, [subject]))
    named = subject.names[0].title if subject.names else "relevance"
    text = f"{explanation.method}, {named}: photo, heat map, overlay and predicted classes"
    # pages style pictures, which outweighs the attribute hidden
    return _image(png_of(figure), text, ";display:none" * hidden)


def _image(picture: bytes, text: str, style: str) -> str:
    data = b64encode(picture).decode("ascii")
    return f'<img style="max-width:100%{style}" alt="{escape(text, quote=True)}" src="data:image/png;base64,{data}">'


def _foot(explanation: Drawable, subjects: Sequence[Subject]) -> list[str]:
    return foot_of([explanation.method], PLAIN, [name for subject in subjects for name in subject.names])
