"""Every image of an explanation with the views of its maps, the explained classes and the predicted ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relprop.viz.classes import Named, class_scores, explained_classes
from relprop.viz.drawable import Drawable, maps_of
from relprop.viz.images import Images, photos_of
from relprop.viz.look import Look
from relprop.viz.scores import Score
from relprop.viz.tiles import Marks
from relprop.viz.views import View


@dataclass(frozen=True)
class Subject:
    """One image.

    Attributes:
        views: One per map.
        names: What was explained, one per map; empty where the user gave relevance of the output.
        scores: The predicted classes; empty where something else than classes was explained.
    """

    views: tuple[View, ...]
    names: tuple[Named, ...]
    scores: tuple[Score, ...]


def subjects_of(
    explanation: Drawable,
    images: Images | None,
    labels: Sequence[str] | None,
    look: Look,
    marks: Mapping[int, Marks] | None = None,
    images_at_most: int | None = None,
) -> list[Subject]:
    """Return the images of an explanation, or the first of them; ``marks`` are lines on the pictures of single images.

    Raises:
        InputError: Maps are no pictures, or images or class names do not fit them.
    """
    maps = maps_of(explanation)
    photos = photos_of(images, explanation, len(maps), tuple(maps.shape[-2:]))
    absorbed = explanation.absorbed.detach().float().cpu().reshape(maps.shape[:2]).tolist()

    def view(image: int, index: int) -> View:
        lines = (marks or {}).get(image, Marks())
        return View(maps[image, index].numpy(), photos[image], look, explanation.meaning, absorbed[image][index], lines)

    return [
        Subject(
            tuple(view(image, index) for index in range(maps.shape[1])),
            tuple(explained_classes(explanation, image, labels)),
            class_scores(explanation, image, labels),
        )
        for image in range(len(maps))[:images_at_most]
    ]


def foot_of(methods: Sequence[str], look: Look, names: Sequence[Named] = ()) -> list[str]:
    """Return the lines at the foot of a figure: the method, how colors are made, and what a negative logit does."""
    which = f"Method: {methods[0]}. " if len(methods) == 1 else ""
    if look.limit is not None:
        scale = f"Colors saturate at ±{look.limit:g} in every map."
    elif look.percentile == 100:
        scale = "Colors saturate at each map's largest value."
    else:
        scale = f"Colors saturate at the {look.percentile:g}th percentile of each map's absolute values."
    lines = [which + scale]
    if look.smooth:
        lines.append(f"Smoothed for display: Gaussian, σ = {look.smooth:g} pixels of the map. The numbers are of the raw map.")
    if any(named.logit < 0 for named in names):
        lines.append("A negative logit: where relevance is shares of the logit, it adds up to a negative number.")
    return lines
