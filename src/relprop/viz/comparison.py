"""The figure of several methods on the same images."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from relprop.errors import InputError
from relprop.text import check_labels, class_name, percent
from relprop.viz.drawable import Drawable
from relprop.viz.grid import Row, draw_grid
from relprop.viz.plot import Images, maps_of, own_images, pixels_of


def plot_comparison(
    explanations: Mapping[str, Drawable | str],
    images: Images | None = None,
    labels: Sequence[str] | None = None,
    *,
    title: str = "",
    percentile: float = 99.5,
    overlaid: bool = False,
) -> Figure:
    """Draw explanations of the same images side by side: one column each, one row per explained class.

    Args:
        explanations: By the name of the column, each of the same ``B`` images and the same classes; a string in place of an
            explanation says why there is none.
        images: The ``B`` cropped photos, see :func:`relprop.viz.plot_explanation`.
        labels: Class names; synonyms after a comma are not shown.
        title: Stands above.
        percentile: Percentile of each map's absolute relevance at which the colors saturate.
        overlaid: Lay the maps over the photos.

    Raises:
        InputError: There is no explanation, they are not of the same images and classes, or maps are no pictures.
    """
    rows = comparison_rows(explanations, images, labels)
    return draw_grid(rows, title=title, percentile=percentile, overlaid=overlaid)


def comparison_rows(
    explanations: Mapping[str, Drawable | str],
    images: Images | None = None,
    labels: Sequence[str] | None = None,
    *,
    model: str = "",
) -> list[Row]:
    """Return one row per image and explained class; those of several models go into one :func:`relprop.viz.draw_grid`.

    Arguments and errors are those of :func:`plot_comparison`; ``model`` names the model in the rows' titles.
    """
    made = {name: value for name, value in explanations.items() if not isinstance(value, str)}
    if not made:
        raise InputError("There is no explanation to draw.")
    first = next(iter(made.values()))
    maps = {name: _maps_like(first, name, explanation) for name, explanation in made.items()}
    shape = maps[next(iter(maps))].shape
    photos = pixels_of(own_images(first) if images is None else images, shape[0], tuple(shape[-2:]))

    def cells(image: int, index: int) -> dict[str, object]:
        return {name: maps[name][image, index].numpy() if name in maps else reason for name, reason in explanations.items()}

    return [
        Row(cells(image, index), photos[image], _title(first, image, index, labels, model))  # pyright: ignore[reportArgumentType]
        for image in range(shape[0])
        for index in range(shape[1])
    ]


def _maps_like(first: Drawable, name: str, explanation: Drawable) -> Tensor:
    """Return the maps ``(B, K, H, W)`` of an explanation, if it is of the same images and classes as the first one."""
    maps, wanted = maps_of(explanation), maps_of(first).shape
    if maps.shape != wanted:
        raise InputError(f"The maps of {name!r} have shape {tuple(maps.shape)}, the first ones {tuple(wanted)}.")
    ours, theirs = first.target, explanation.target
    if (ours is None) != (theirs is None) or (ours is not None and theirs is not None and ours.tolist() != theirs.tolist()):
        raise InputError(f"The explanation {name!r} is of other classes than the first one; give both the same target.")
    return maps


def _title(explanation: Drawable, image: int, index: int, labels: Sequence[str] | None, model: str) -> str:
    """Name the model, the explained class with its logit, and the predicted class with its probability."""
    logits = explanation.logits[image].detach().float().cpu()
    parts = [model] * bool(model)
    if explanation.target is not None and logits.dim() == 1:
        check_labels(labels, len(logits))
        target = int(explanation.target.reshape(len(explanation.logits), -1)[image, index])
        best = int(logits.argmax())
        predicted = f"predicted: {_name(best, labels)}, {percent(float(explanation.probabilities[image, best]))}"
        if best == target:
            parts += [f"{predicted}, logit {logits[target]:.2f}"]
        else:
            parts += [f"explained: {_name(target, labels)}, logit {logits[target]:.2f}", predicted]
    return "  ·  ".join(parts)


def _name(index: int, labels: Sequence[str] | None) -> str:
    return class_name(index, labels) if labels is None else f"{class_name(index, labels)} ({index})"
