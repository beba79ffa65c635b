"""The gallery of a page: a card for each image, with the maps of all methods side by side.

A map travels as a gray JPEG, whose level is the place on the map's color scale: 127 is white, 0 and 254 are the ends. The script colors it,
so that one picture serves as the map, as the overlay at any opacity, and for the value under the pointer.
"""

import io
import math
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from PIL import Image

from relprop.viz.colors import colormap
from relprop.viz.look import PLAIN
from relprop.viz.smoothing import smoothed
from relprop.viz.tiles import Legend
from relprop.viz.views import View

LEVELS = 255
"""Gray levels of a map; the middle one is white."""
PHOTO = 224
"""Longest side of a photo, in pixels."""
LARGE, SMALL, MANY = 160, 112, 1000
"""Longest side of a map in pixels, and that of pages with more than so many maps."""
_QUALITY = 82
_REDUCED = "Maps are shown with at most {} pixels a side; their numbers are of the raw maps."


@dataclass(frozen=True)
class Measure:
    """A number by which cards are sorted; whether ``"higher"`` or ``"lower"`` is better, or ``"none"``."""

    name: str
    direction: Literal["higher", "lower", "none"] = "none"
    meaning: str = ""


@dataclass(frozen=True)
class MethodTile:
    """One map of a card.

    Attributes:
        method: One of the gallery's methods.
        view: The map, or the reason why there is none.
        title: What else stands over it, such as the explained class where there are several.
    """

    method: str
    view: View | str
    title: str = ""


@dataclass(frozen=True)
class Card:
    """One image on one model.

    Attributes:
        name: What the image is called.
        photo: The part of it that the model saw.
        tiles: Its maps.
        model: The model.
        explained: The explained class; empty if several are.
        probability: Its probability.
        predicted: The predicted class.
        label: The true class; empty if it is unknown.
        scores: The score of each method by (method, measure); NaN where there is none.
    """

    name: str
    photo: Image.Image
    tiles: Sequence[MethodTile]
    model: str = ""
    explained: str = ""
    probability: float = math.nan
    predicted: str = ""
    label: str = ""
    scores: Mapping[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])

    def index(self, gallery: "Gallery") -> dict[str, Any]:
        """Return what the script needs to sort and filter."""
        return {
            "name": self.name,
            "model": self.model,
            "explained": self.explained,
            "probability": self.probability,
            "predicted": self.predicted,
            "label": self.label,
            "right": self.label == self.predicted if self.label else None,
            "tiles": len(self.tiles),
            "scores": [
                [self.scores.get((method, measure.name), math.nan) for measure in gallery.measures] for method in gallery.methods
            ],
        }

    def pictures(self, gallery: "Gallery") -> dict[str, Any]:
        """Return its pictures, which the script decodes when the card comes into sight."""
        place = {name: number for number, name in enumerate(gallery.methods)}
        return {
            "photo": _jpeg(_reduced(self.photo.convert("RGB"), PHOTO)),
            "tiles": [
                {"method": place[tile.method], "title": tile.title, **_drawn(tile.view, gallery.side)} for tile in self.tiles
            ],
        }


@dataclass(frozen=True)
class Gallery:
    """The cards of a page.

    Attributes:
        methods: The names over the maps, in their order on every card.
        cards: The cards, made one by one as the page is written.
        measures: By what they can be sorted.
        notes: Remarks that stand above them.
        side: Longest side of a map in pixels.
        opacity: Of the strongest color over a photo, at first.
    """

    methods: Sequence[str]
    cards: Iterable[Card]
    measures: Sequence[Measure] = ()
    notes: Sequence[str] = ()
    side: int = LARGE
    opacity: float = PLAIN.opacity

    @property
    def frame(self) -> dict[str, Any]:
        """What the cards share."""
        measures = [{"name": one.name, "direction": one.direction, "meaning": one.meaning} for one in self.measures]
        names = {"methods": list(self.methods), "measures": measures, "notes": [*self.notes, _REDUCED.format(self.side)]}
        return {**names, "colors": _colors(), "opacity": self.opacity}


def side_for(maps: int) -> int:
    """Return the longest side of a map on a page of so many."""
    return SMALL if maps > MANY else LARGE


def _colors() -> str:
    """Return the color of every level as hexadecimal digits, six each."""
    return bytes(np.asarray(colormap()(np.linspace(0.0, 1.0, LEVELS), bytes=True))[:, :3].tobytes()).hex()


def _drawn(view: View | str, side: int) -> dict[str, Any]:
    if isinstance(view, str):
        return {"reason": view}
    scale = view.scale
    unit = scale.unit(smoothed(view.heatmap, view.look.smooth).astype(np.float64))
    levels = Image.fromarray(np.round((unit + 1.0) * (LEVELS // 2)).astype(np.uint8))
    return {
        "map": _jpeg(_reduced(levels, side)),
        "white": scale.white,
        "size": scale.size,
        "below": scale.below,
        "above": scale.above,
        "ends": list(Legend(scale, view.meaning).ends),
        "numbers": list(view.sums.parts),
    }


def _reduced(image: Image.Image, longest: int) -> Image.Image:
    factor = longest / max(image.size)
    if factor >= 1:
        return image
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.BOX)


def _jpeg(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return b64encode(file.getvalue()).decode("ascii")
