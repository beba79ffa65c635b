"""The work behind the page: from a session and what is chosen to maps, regions, tables and files. Knows nothing of Gradio."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from relprop.app.code import code_of
from relprop.app.photos import Limits, Upload, thumbnail
from relprop.app.served import Served
from relprop.app.sessions import Prepared, Session
from relprop.errors import InputError, OptionError
from relprop.explainer import Explainer
from relprop.explanation import Explanation
from relprop.heads import probabilities
from relprop.inputs import as_inputs, finite_logits
from relprop.meaning import Meaning
from relprop.propagation.trace import Trace
from relprop.text import class_name
from relprop.viz import View, maps_of, plot_explanation, plot_layers
from relprop.viz.layers import layer_map
from relprop.viz.page import png_of

TOP = 5
"""Predicted classes that are listed, and that a region is asked about."""
REACH = 1 / 12
"""The radius of a region over the shorter side of the map."""
THUMBNAIL = 192
"""Pixels of the longer side of the photo in the drop zone, for screens of two pixels per point."""
_DPI = 150


@dataclass(frozen=True)
class Choice:
    """What is chosen on the page.

    Attributes:
        model: The name of a model on offer.
        methods: Of the methods on offer, at least one.
        target: The class; None for the predicted one.
        layer: A module at whose output the relevance is shown too; None for none.
    """

    model: str
    methods: tuple[str, ...]
    target: int | None = None
    layer: str | None = None


@dataclass(frozen=True)
class Map:
    """One method's answer.

    Attributes:
        method: The method.
        view: Its map; None where there is none.
        reason: Why there is none.
        notes: What the user should know.
        layer: The map at the chosen layer, or why there is none; empty where no layer is chosen.
    """

    method: str
    view: View | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()
    layer: View | str = ""


@dataclass(frozen=True)
class Share:
    """What a region counts for a class.

    Attributes:
        name: The name of the class.
        relevance: The sum of relevance in the region: positive for the class, negative against it.
        part: The same over the sum of absolute relevance of the whole map, which makes classes comparable.
        explained: Whether it is the explained class.
    """

    name: str
    relevance: float
    part: float
    explained: bool


@dataclass(frozen=True)
class Region:
    """The relevance of a disc for several classes.

    Attributes:
        shares: One per class, the largest first.
        meaning: What the signs say, in the method's words.
        reason: Why there are none.
    """

    shares: tuple[Share, ...] = ()
    meaning: Meaning = field(default_factory=Meaning)
    reason: str = ""


@dataclass(frozen=True)
class Desk:
    """What one server offers, and how it answers.

    Attributes:
        models: The models on offer, by name.
        methods: The methods on offer.
        limits: What an upload may have.
        describe: The sentence for an error.
    """

    models: dict[str, Served]
    methods: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)
    describe: Callable[[Exception], str] = str

    def open(self, session: Session, upload: Upload, model: str) -> None:
        """Take a photo into a session, and see what a model says of it.

        Raises:
            InputError: It cannot be read, or is too large; the session keeps the photo that it had.
            OptionError: The model is not on offer.
        """
        photo = upload.photo(self.limits)
        session.begin(upload, thumbnail(photo.image, THUMBNAIL), photo.notes)
        session.prepared[model] = self._seen(photo.image, model)

    def prepared(self, session: Session, model: str) -> Prepared:
        """Return the session's photo as a model sees it, with the model's answer.

        Raises:
            InputError: There is no photo.
            OptionError: The model is not on offer.
        """
        if session.upload is None:
            raise InputError("There is no photo yet; drop one, or pick a sample.")
        if model not in session.prepared:
            session.prepared[model] = self._seen(session.upload.photo(self.limits).image, model)
        return session.prepared[model]

    def names(self, model: str, count: int) -> list[str]:
        """Return the names of a model's classes."""
        labels = self._served(model).loaded.labels
        return [class_name(index, labels) for index in range(count)]

    def layers(self, model: str, methods: Sequence[str]) -> list[str]:
        """Return the modules at whose outputs the first of the methods that can tells the relevance."""
        for method in methods:
            with suppress(Exception):  # the method's card says why it cannot explain this model
                found = self._layers(self._explainer(model, method))
                if found:
                    return found
        return []

    def maps(self, session: Session, choice: Choice) -> list[Map]:
        """Explain the session's photo by every chosen method; what one of them raises becomes its reason.

        Raises:
            InputError: There is no photo.
            OptionError: Nothing is chosen, or something that is not on offer.
        """
        if not choice.methods:
            raise OptionError("No method is chosen; choose one or several.")
        prepared = self.prepared(session, choice.model)
        self._target(choice, prepared)
        return [self._map(session, choice, method, prepared) for method in choice.methods]

    def region(self, session: Session, choice: Choice, method: str, across: float, down: float) -> Region:
        """Return for which classes the disc around a point counts: the predicted ones, and the explained one.

        Args:
            session: The session.
            choice: What is chosen.
            method: The method whose map was pointed at.
            across: From the left edge, as a share of the width.
            down: From the upper edge, as a share of the height.
        """
        prepared = self.prepared(session, choice.model)
        target = self._target(choice, prepared)
        classes = list(dict.fromkeys([target, *prepared.ranked[:TOP]]))
        try:
            explanation = self._explained(session, choice.model, method, tuple(classes), None)
            maps = maps_of(explanation)[0].double().numpy()
        except Exception as error:
            return Region(reason=self.describe(error))
        inside = disc(maps.shape[1:], min(max(across, 0.0), 1.0), min(max(down, 0.0), 1.0))
        names = self.names(choice.model, len(prepared.logits))
        sums = [(float(one[inside].sum()), float(np.abs(one).sum()) or 1.0) for one in maps]
        shares = [
            Share(names[index], total, total / whole, index == target)
            for index, (total, whole) in zip(classes, sums, strict=True)
        ]
        return Region(tuple(sorted(shares, key=lambda share: -share.relevance)), explanation.meaning)

    def trace(self, session: Session, choice: Choice, method: str) -> Trace:
        """Return the conservation table of one method's run.

        Raises:
            OptionError: The method does not propagate relevance from op to op.
        """
        prepared = self.prepared(session, choice.model)
        return self._explainer(choice.model, method).trace(prepared.inputs, self._target(choice, prepared), show=False)

    def png(self, session: Session, choice: Choice, method: str, opacity: float) -> bytes:
        """Return the picture of one map as a PNG file: with its legend, title and classes."""
        explanation, prepared = self._chosen(session, choice, method), self.prepared(session, choice.model)
        what = (explanation, [prepared.cropped], self._served(choice.model).loaded.labels)
        title = f"{explanation.method}  ·  {choice.model}  ·  {session.upload.name if session.upload else ''}"
        if choice.layer and explanation.layers:
            return png_of(plot_layers(*what, title=title, opacity=opacity), _DPI)
        return png_of(plot_explanation(*what, title=title, opacity=opacity), _DPI)

    def array(self, session: Session, choice: Choice, method: str) -> NDArray[np.float32]:
        """Return the raw relevance of one map, ``(C, H, W)``."""
        return self._chosen(session, choice, method).relevance[0].detach().float().cpu().numpy()

    def code(self, session: Session, choice: Choice, method: str) -> str:
        """Return the Python code that makes one map."""
        prepared, target = self.prepared(session, choice.model), self.target(session, choice)
        name = self.names(choice.model, len(prepared.logits))[target]
        photo = session.upload.name if session.upload else "photo"
        return code_of(self._served(choice.model), photo, method, target, name, choice.layer)

    def file_name(self, session: Session, choice: Choice, method: str, suffix: str) -> str:
        """Return what a download is called: photo, method and class."""
        stem = PurePath(session.upload.name).stem if session.upload else "photo"
        label = "".join(mark if mark.isalnum() or mark in "-_." else "-" for mark in f"{stem}-{method}")
        return f"{label}-{self.target(session, choice)}{suffix}"

    def target(self, session: Session, choice: Choice) -> int:
        """Return the class that is explained."""
        return self._target(choice, self.prepared(session, choice.model))

    def _seen(self, image: Image.Image, model: str) -> Prepared:
        """A photo as a model sees it, with the model's answer."""
        served = self._served(model)
        cropped, inputs = served.prepare(image)
        with torch.no_grad():
            logits = finite_logits(served.captured(as_inputs(inputs)))[0].float().cpu()
        return Prepared(cropped, inputs, logits, probabilities(logits[None], served.captured.activation)[0])

    def _target(self, choice: Choice, prepared: Prepared) -> int:
        if choice.target is None:
            return prepared.ranked[0]
        if not 0 <= choice.target < len(prepared.logits):
            raise OptionError(f"There is no class {choice.target}; the model has {len(prepared.logits)}.")
        return choice.target

    def _map(self, session: Session, choice: Choice, method: str, prepared: Prepared) -> Map:
        photo = np.asarray(prepared.cropped.convert("RGB"))
        try:
            explanation = self._chosen(session, choice, method)
            heatmap, absorbed = maps_of(explanation)[0, 0].numpy(), float(explanation.absorbed[0])
        except Exception as error:  # one method's failure must not lose the others
            return Map(method, reason=self.describe(error))
        view = View(heatmap, photo, meaning=explanation.meaning, absorbed=absorbed)
        return Map(method, view, notes=explanation.notes, layer=_layer_view(explanation, choice.layer))

    def _chosen(self, session: Session, choice: Choice, method: str) -> Explanation:
        target = self.target(session, choice)
        known = self._layers(self._explainer(choice.model, method)) if choice.layer else []
        layer = choice.layer if choice.layer in known else None
        return self._explained(session, choice.model, method, target, layer)

    def _explained(
        self, session: Session, model: str, method: str, target: int | tuple[int, ...], layer: str | None
    ) -> Explanation:
        key = (model, method, target, layer)
        found = session.explanations.get(key)
        if found is None:
            explainer, inputs = self._explainer(model, method), self.prepared(session, model).inputs
            asked = torch.tensor([target]) if isinstance(target, tuple) else target
            found = explainer(inputs, asked, layers=[layer] if layer else [])
        session.keep(key, found)
        return found

    def _served(self, model: str) -> Served:
        if model not in self.models:
            raise OptionError(f"The model {model!r} is not on offer here.")
        return self.models[model]

    def _explainer(self, model: str, method: str) -> Explainer:
        if method not in self.methods:
            raise OptionError(f"The method {method!r} is not on offer here.")
        return self._served(model).explainer(method)

    @staticmethod
    def _layers(explainer: Explainer) -> list[str]:
        """The modules whose relevance a method tells; none where it gives relevance to inputs only."""
        return [str(path) for path in explainer.plan.layers if path]


def disc(shape: tuple[int, ...], across: float, down: float) -> NDArray[np.bool_]:
    """Return the cells of a map ``(H, W)`` whose centers lie within ``REACH`` of a point, the cell under it at least."""
    rows, columns = shape
    reach = max(REACH * min(shape), 0.5)
    ys, xs = np.ogrid[0.5:rows, 0.5:columns]
    inside = (ys - down * rows) ** 2 + (xs - across * columns) ** 2 <= reach**2
    inside[min(int(down * rows), rows - 1), min(int(across * columns), columns - 1)] = True
    return inside


def _layer_view(explanation: Explanation, layer: str | None) -> View | str:
    if layer is None:
        return ""
    if layer not in explanation.layers:
        return f"Method {explanation.method} gives relevance to inputs only."
    found = layer_map(explanation.layers[layer], 0, 0, explanation)
    return found if isinstance(found, str) else View(found.numpy(), meaning=explanation.meaning)
