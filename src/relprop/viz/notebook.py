"""Explanations in notebooks: a PNG of the first samples, and HTML.

That of images has a slider over the explained classes, that of volumes one over the slices of each axis, that of videos one over the frames.
"""

from collections.abc import Callable, Sequence
from typing import Any

from relprop.errors import InputError
from relprop.viz.drawable import Drawable
from relprop.viz.features import plot_features
from relprop.viz.kinds import picture_for
from relprop.viz.look import PLAIN
from relprop.viz.page import png_of
from relprop.viz.plot import strips_of
from relprop.viz.sheet import draw_sheet
from relprop.viz.sliders import Picture, frames, planes, slider
from relprop.viz.stacks import Stack, stacks_of
from relprop.viz.subjects import Subject, foot_of, subjects_of
from relprop.viz.volumes import plot_frames, plot_slices

IMAGES, MAPS = 4, 10
"""Of one explanation, the most images that a notebook shows, and the most maps of each."""
VOLUMES = 2
"""The most maps of volumes or videos that a notebook shows: each has many slices."""


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
    try:
        drawn = picture_for(explanation)
        if drawn in (plot_slices, plot_frames):
            return _html_of_volumes(explanation, labels, frames if drawn is plot_frames else planes)
    except InputError:
        return None
    picture = _other(explanation, labels)
    if picture is None:
        return None
    shown = 1 if drawn is plot_features else IMAGES
    hidden = len(explanation.logits) - shown
    how = "sample=…" if shown == 1 else ""
    samples = "sample" if hidden == 1 else "samples"
    rest = f"<p>… and {hidden} more {samples}: <code>explanation.plot({how})</code> draws more.</p>" if hidden > 0 else ""
    return Picture(picture, "png", f"{explanation.method}: relevance").html() + rest


def _html_of_volumes(explanation: Drawable, labels: Sequence[str] | None, draw: Callable[[Stack, str], str]) -> str:
    """The first maps of volumes or videos, with sliders."""
    stacks = stacks_of(explanation, labels, PLAIN)
    left = len(stacks) - VOLUMES
    maps = "map" if left == 1 else "maps"
    rest = f"<p>… and {left} more {maps}: <code>explanation.plot()</code> draws all.</p>" if left > 0 else ""
    return "".join(draw(stack, explanation.method) for stack in stacks[:VOLUMES]) + rest


def _figure(explanation: Drawable, subject: Subject) -> str:
    """One image: a picture for each of its maps, and a slider where there are several."""
    singles = [
        Subject((view,), subject.names[index : index + 1], subject.scores) for index, view in enumerate(subject.views[:MAPS])
    ]
    left = len(subject.views) - len(singles)
    more = f"<figcaption>… and {left} more classes.</figcaption>" if left else ""
    return slider(f"explained class, of {len(singles)}", [_picture(explanation, single) for single in singles], below=more)


def _picture(explanation: Drawable, subject: Subject) -> Picture:
    figure = draw_sheet(strips_of(subject), title=explanation.method, foot=_foot(explanation, [subject]))
    named = subject.names[0] if subject.names else None
    text = f"{explanation.method}, {named.title if named else 'relevance'}: photo, heat map, overlay and predicted classes"
    return Picture(png_of(figure), "png", text, named.name if named else "")


def _foot(explanation: Drawable, subjects: Sequence[Subject]) -> list[str]:
    return foot_of([explanation.method], PLAIN, [name for subject in subjects for name in subject.names])
