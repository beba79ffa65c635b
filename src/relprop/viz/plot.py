"""The figures of one explanation: photo, maps, overlays, outline and the predicted classes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
from matplotlib.figure import Figure

from relprop.errors import InputError
from relprop.meaning import Meaning
from relprop.text import percent
from relprop.viz.colors import Floats
from relprop.viz.drawable import Drawable
from relprop.viz.images import Images
from relprop.viz.look import Look, LookOptions
from relprop.viz.sheet import draw_sheet
from relprop.viz.subjects import Subject, foot_of, subjects_of
from relprop.viz.tiles import Box, Cell, Classes, Marks, Strip, Tile, annotated
from relprop.viz.views import View

AT_ONCE = 4
"""Maps of one image side by side."""


def plot_explanation(
    explanation: Drawable,
    images: Images | None = None,
    labels: Sequence[str] | None = None,
    *,
    title: str | None = None,
    outline: bool = False,
    masks: Sequence[Floats | None] | None = None,
    boxes: Sequence[Sequence[Box]] | None = None,
    **look: Unpack[LookOptions],
) -> Figure:
    """Draw photo, heat maps, overlays and the predicted classes of every image.

    One class gives a row of photo, map, overlay and classes; of several classes the photo and the list are drawn once, beside a map and
    an overlay for each.

    Args:
        explanation: Of ``B`` images, with one or ``K`` maps each.
        images: The ``B`` cropped photos: PIL images, arrays ``(H, W, 3)`` of bytes, or a tensor ``(B, C, H, W)``, which is
            shown between each image's own minimum and maximum; or whole photos, see :class:`Framed`. Left out, the explained inputs
            themselves are shown so.
        labels: Class names; synonyms after a comma are not shown.
        title: Stands above; the method's name where left out.
        outline: In place of the overlays, draw the photo cut out along the region where the map is positive.
        masks: Annotations ``(H, W)`` in [0, 1] of each image, whose edges are drawn; None for an image without one.
        boxes: Annotated boxes of each image, in pixels: left, top, right, bottom.
        **look: Fields of :class:`Look`: ``percentile``, ``limit``, ``smooth``, ``opacity``.

    Raises:
        InputError: Maps are no pictures, or images or annotations do not fit them.
        OptionError: A value of the look is out of its range.
    """
    chosen = Look(**look)
    marks = _marks(masks, boxes, len(explanation.logits))
    subjects = subjects_of(explanation, images, labels, chosen, marks)
    strips = [strip for subject in subjects for strip in strips_of(subject, outline=outline)]
    return _drawn(explanation, subjects, strips, title, chosen)


def plot_contrast(
    explanation: Drawable,
    images: Images | None = None,
    labels: Sequence[str] | None = None,
    *,
    title: str | None = None,
    **look: Unpack[LookOptions],
) -> Figure:
    """Draw of every image the map of a class, where it differs from that of a rival, the outline, and the predicted classes.

    The difference is that of shares, ``R / Σ|R|`` of the class minus the same of the rival: maps of two classes are often alike up to a
    factor, and the plain difference would show the class once more. How far they are alike, ``1 − ½ Σ|difference|``, stands below it.

    Args:
        explanation: With two maps of each image, of the class and of its rival, such as the two most probable classes.
        images: As in :func:`plot_explanation`.
        labels: Class names.
        title: Stands above; the method's name where left out.
        **look: As in :func:`plot_explanation`.

    Raises:
        InputError: There are not two classes, or images do not fit.
        OptionError: A value of the look is out of its range.
    """
    chosen = Look(**look)
    subjects = subjects_of(explanation, images, labels, chosen)
    if any(len(subject.views) != 2 or len(subject.names) != 2 for subject in subjects):
        raise InputError("A contrast needs two classes of each image, such as target=[[class, rival]] for one image.")
    more = "“Rather than”: each map over the sum of its absolute values, one minus the other."
    return _drawn(explanation, subjects, [_contrast(subject) for subject in subjects], title, chosen, more)


def plot_signs(
    explanation: Drawable,
    images: Images | None = None,
    labels: Sequence[str] | None = None,
    *,
    title: str | None = None,
    **look: Unpack[LookOptions],
) -> Figure:
    """Draw every map beside its positive and its negative part, in one scale.

    Arguments and errors are those of :func:`plot_explanation`.
    """
    chosen = Look(**look)
    subjects = subjects_of(explanation, images, labels, chosen)
    strips = [
        Strip(
            [*_photo(view), view.colors("relevance"), view.part(1, "positive part"), view.part(-1, "negative part")],
            subject.names[index].title if subject.names else "",
        )
        for subject in subjects
        for index, view in enumerate(subject.views)
    ]
    return _drawn(explanation, subjects, strips, title, chosen)


def _drawn(
    explanation: Drawable, subjects: Sequence[Subject], strips: Sequence[Strip], title: str | None, look: Look, *more: str
) -> Figure:
    names = [name for subject in subjects for name in subject.names]
    title = explanation.method if title is None else title
    return draw_sheet(strips, title=title, foot=[*foot_of([explanation.method], look, names), *more])


def strips_of(subject: Subject, *, outline: bool = False) -> list[Strip]:
    """Return the rows of one image."""
    if len(subject.views) == 1:
        (view,) = subject.views
        second = [_second(view, outline=outline, title="outline" if outline else "overlay")] if view.photo is not None else []
        title = subject.names[0].title if subject.names else ""
        return [Strip([*_photo(view), view.colors("relevance"), *second, *_classes(subject)], title)]
    return [strip for start in range(0, len(subject.views), AT_ONCE) for strip in _band(subject, start, outline=outline)]


def _band(subject: Subject, start: int, *, outline: bool) -> list[Strip]:
    """Up to four maps of one image beside its photo, and their overlays beside its classes; later bands leave these places empty."""
    views = subject.views[start : start + AT_ONCE]
    titles = [name.short for name in subject.names[start : start + AT_ONCE]] or ["relevance"] * len(views)
    photos, lists = (_photo(views[0]), _classes(subject)) if start == 0 else ([None], [None])
    maps = Strip([*(photos or [None]), *(view.colors(title) for view, title in zip(views, titles, strict=True))])
    if views[0].photo is None:
        return [Strip([*maps.cells, *_classes(subject)] if start == 0 else maps.cells)]
    return [maps, Strip([*(lists or [None]), *(_second(view, outline=outline) for view in views)])]


def _contrast(subject: Subject) -> Strip:
    """Photo, the class, the class rather than its rival, its outline, and the predicted classes."""
    (view, other), (name, rival) = subject.views, subject.names
    shares = _shares(view.heatmap) - _shares(other.heatmap)
    between = replace(view, heatmap=shares, meaning=Meaning(f"more for {name.name}", f"more for {rival.name}"))
    alike = 1 - 0.5 * float(np.abs(shares).sum())
    cells: list[Cell] = [
        *_photo(view),
        view.colors(name.short),
        replace(
            between.colors(f"{name.name} rather than {rival.name}"),
            numbers=(f"{rival.short}", f"maps alike to {percent(alike, 1)}"),
        ),
        *([view.outlined(f"outline of {name.name}")] if view.photo is not None else []),
    ]
    scores = tuple(
        replace(score, explained=False, rival=True) if score.explained and score.name == rival.name else score
        for score in subject.scores
    )
    return Strip([*cells, Classes(scores)])


def _shares(heatmap: Floats) -> Floats:
    """The map over the sum of its absolute values; itself where that is zero."""
    values = heatmap.astype(np.float64)
    return values / (np.abs(values).sum() or 1.0)


def _photo(view: View) -> list[Cell]:
    return [] if view.photo is None else [view.picture()]


def _classes(subject: Subject) -> list[Cell]:
    return [Classes(subject.scores)] if subject.scores else []


def _second(view: View, *, outline: bool, title: str = "") -> Tile:
    return view.outlined(title) if outline else view.overlay(title)


def _marks(masks: Sequence[Floats | None] | None, boxes: Sequence[Sequence[Box]] | None, count: int) -> dict[int, Marks]:
    """The annotations of each image.

    Raises:
        InputError: They are of another number of images.
    """
    for name, given in (("masks", masks), ("boxes", boxes)):
        if given is not None and len(given) != count:
            raise InputError(f"There are {name} of {len(given)} images, and {count} images; give one entry per image.")
    return {
        image: annotated(None if masks is None else masks[image], () if boxes is None else boxes[image]) for image in range(count)
    }
