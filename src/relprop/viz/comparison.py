"""Grids of maps: methods × images, and models × methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

from matplotlib.figure import Figure

from relprop.errors import InputError
from relprop.text import percent
from relprop.viz.classes import explained_classes, predicted_class
from relprop.viz.drawable import Drawable, maps_of
from relprop.viz.images import Images, Photo, own_images, shown_pixels
from relprop.viz.look import Look, LookOptions
from relprop.viz.sheet import draw_sheet
from relprop.viz.subjects import foot_of, subjects_of
from relprop.viz.tiles import Cell, Reason, Strip, Tile
from relprop.viz.views import View

PHOTO = "photo"
_WIDEST = 8
"""Columns side by side."""


@dataclass(frozen=True)
class Row:
    """One row of a comparison.

    Attributes:
        cells: By column a view of a map, or the reason why there is none.
        photo: The photo, shown first: ``(H, W, 3)``, or whole.
        title: Stands above the row.
    """

    cells: Mapping[str, View | str]
    photo: Photo = None
    title: str = ""


def plot_comparison(
    explanations: Mapping[str, Drawable | str],
    images: Images | None = None,
    labels: Sequence[str] | None = None,
    *,
    title: str = "",
    overlaid: bool = False,
    **look: Unpack[LookOptions],
) -> Figure:
    """Draw explanations of the same images side by side: one column each, one row per image and explained class.

    Args:
        explanations: By the name of the column, each of the same ``B`` images and the same classes; a string in place of an
            explanation says why there is none.
        images: The ``B`` cropped photos, see :func:`relprop.viz.plot_explanation`.
        labels: Class names; synonyms after a comma are not shown.
        title: Stands above.
        overlaid: Lay the maps over the photos.
        **look: As in :func:`relprop.viz.plot_explanation`.

    Raises:
        InputError: There is no explanation, they are not of the same images and classes, or maps are no pictures.
        OptionError: A value of the look is out of its range.
    """
    rows = comparison_rows(explanations, images, labels, look=Look(**look))
    return draw_grid(rows, title=title, look=Look(**look), overlaid=overlaid)


def plot_models(
    explanations: Mapping[str, Mapping[str, Drawable | str]],
    images: Mapping[str, Images] | Images | None = None,
    labels: Sequence[str] | None = None,
    *,
    title: str = "",
    overlaid: bool = False,
    **look: Unpack[LookOptions],
) -> Figure:
    """Draw explanations of several models: for each model the rows of :func:`plot_comparison`, under one line of methods.

    Args:
        explanations: By model, and by method.
        images: The photos as each model sees them, by model; or for all of them.
        labels: Class names of all models.
        title: Stands above.
        overlaid: Lay the maps over the photos.
        **look: As in :func:`relprop.viz.plot_explanation`.

    Raises:
        InputError: As :func:`plot_comparison`, for any of the models.
        OptionError: A value of the look is out of its range.
    """
    rows: list[Row] = []
    for model, made in explanations.items():
        own = images[model] if isinstance(images, Mapping) else images
        rows += comparison_rows(made, own, labels, model=model, look=Look(**look))
    return draw_grid(rows, title=title, look=Look(**look), overlaid=overlaid)


def comparison_rows(
    explanations: Mapping[str, Drawable | str],
    images: Images | None = None,
    labels: Sequence[str] | None = None,
    *,
    model: str = "",
    look: Look | None = None,
) -> list[Row]:
    """Return one row per image and explained class; those of several models go into one :func:`relprop.viz.draw_grid`.

    Arguments and errors are those of :func:`plot_comparison`; ``model`` names the model in the rows' titles.
    """
    made = {name: value for name, value in explanations.items() if not isinstance(value, str)}
    if not made:
        raise InputError("There is no explanation to draw.")
    first = next(iter(made.values()))
    for name, explanation in made.items():
        _check_like(first, name, explanation)
    images = own_images(first) if images is None else images
    subjects = {name: subjects_of(explanation, images, labels, look or Look()) for name, explanation in made.items()}
    shown = next(iter(subjects.values()))
    return [
        Row(
            {name: subjects[name][image].views[index] if name in made else str(reason) for name, reason in explanations.items()},
            subject.views[index].photo,
            _title(first, image, index, labels, model),
        )
        for image, subject in enumerate(shown)
        for index in range(len(subject.views))
    ]


def draw_grid(
    rows: Sequence[Row], *, title: str = "", look: Look | None = None, overlaid: bool = False, method: str | None = None
) -> Figure:
    """Draw rows of heat maps under the names of their columns; too many columns for one line wrap.

    Args:
        rows: The rows; those that lack a column leave it empty.
        title: Stands above, at the left.
        look: What the foot of the page says of the colors.
        overlaid: Lay the maps over the photos.
        method: The method of all maps, where the columns are something else.

    Raises:
        InputError: There is nothing to draw, or there are no photos to lay maps over.
    """
    columns = tuple(dict.fromkeys(column for row in rows for column in row.cells))
    if not columns:
        raise InputError("There is nothing to compare: give at least one row with one column.")
    if overlaid and any(row.photo is None for row in rows):
        raise InputError("Maps can be laid over photos only where every row has one.")
    photos = any(row.photo is not None for row in rows)
    bands = bands_of((PHOTO, *columns) if photos else columns, several=len(rows) > 1, repeat=photos)
    strips = [
        Strip(
            [_cell(row, column, overlaid=overlaid, named=number == 0) for column in band],
            row.title * (band is bands[0] or len(rows) > 1),
        )
        for band in bands
        for number, row in enumerate(rows)
    ]
    widest = max(map(len, bands))
    cell = 2.8 if widest <= 4 else 2.1 if widest <= 6 else 1.7
    return draw_sheet(strips, title=title, foot=foot_of([method] if method else columns, look or Look()), cell=cell)


def _cell(row: Row, column: str, *, overlaid: bool, named: bool) -> Cell:
    """One cell; the name of the column stands over its first row."""
    title = column * named
    content = row.cells.get(column)
    if column == PHOTO:
        return None if row.photo is None else Tile(shown_pixels(row.photo), title)
    if content is None:
        return None
    if isinstance(content, str):
        return Reason(content, title)
    return content.overlay(title, legend=True) if overlaid else content.colors(title)


def bands_of(columns: tuple[str, ...], *, several: bool, repeat: bool) -> tuple[tuple[str, ...], ...]:
    """Break columns into lines of about equal length; of several rows, every line begins with the photos."""
    lead, rest = (columns[:1], columns[1:]) if several and repeat else ((), columns)
    room = _WIDEST - len(lead) if several else _columns_of_one_row(len(rest))
    lines = -(-len(rest) // room)
    length = -(-len(rest) // lines)
    return tuple(lead + rest[start : start + length] for start in range(0, len(rest), length))


def _columns_of_one_row(cells: int) -> int:
    """Return how many of so many cells lie side by side: all up to five, else about 8 to 5 of width and height."""
    return cells if cells <= 5 else next(n for n in range(4, _WIDEST + 1) if n == _WIDEST or n * n >= 1.6 * cells)


def _check_like(first: Drawable, name: str, explanation: Drawable) -> None:
    """Refuse an explanation of other images or classes than the first one."""
    shape, wanted = maps_of(explanation).shape, maps_of(first).shape
    if shape != wanted:
        raise InputError(f"The maps of {name!r} have shape {tuple(shape)}, the first ones {tuple(wanted)}.")
    ours, theirs = first.target, explanation.target
    if (ours is None) != (theirs is None) or (ours is not None and theirs is not None and ours.tolist() != theirs.tolist()):
        raise InputError(f"The explanation {name!r} is of other classes than the first one; give both the same target.")
    if ours is None and first.words != explanation.words:
        raise InputError(f"The explanation {name!r} is of another target than the first one; give both the same.")


def _title(explanation: Drawable, image: int, index: int, labels: Sequence[str] | None, model: str) -> str:
    """Name the model, the explained class with its logit, and the predicted class with its probability."""
    parts, names = [model] * bool(model), explained_classes(explanation, image, labels)
    if names:
        named = names[index]
        found = predicted_class(explanation, image, labels)
        if found is None or named.index is None:
            return "  ·  ".join([*parts, named.title])
        best, probability = found
        said = f"predicted: {_numbered(best.name, best.index or 0, labels)}, {percent(probability)}"
        number = named.index
        if best.index == number:
            parts += [f"{said}, {named.score}"]
        else:
            parts += [f"explained: {_numbered(named.name, number, labels)}, {named.score}", said]
    return "  ·  ".join(parts)


def _numbered(name: str, index: int, labels: Sequence[str] | None) -> str:
    return name if labels is None else f"{name} ({index})"
