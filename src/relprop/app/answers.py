"""What the page shows after each step of a user: the parts of it that change, or a sentence on what went wrong."""

import json
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any, cast

import gradio as gr
import numpy as np

from relprop.app import markup
from relprop.app.desk import TOP, Choice, Desk
from relprop.app.drop import drop_zone
from relprop.app.photos import Upload, received, samples
from relprop.app.sessions import Session, Sessions
from relprop.errors import InputError
from relprop.text import percent
from relprop.viz.classes import Named

PARTS = ("drop", "news", "viewer", "region", "classes", "target", "layer", "table", "code")
"""The parts of the page that a step changes, in the order of the outputs."""
NO_LAYER = "none"
_TYPES = {"png": "image/png", "npy": "application/octet-stream", "py": "text/x-python"}

Answer = tuple[Any, ...]


@dataclass(frozen=True)
class Answers:
    """The steps of users, each in the session of its window.

    Attributes:
        desk: Does the work.
        sessions: The open windows.
        debug: Whether tracebacks of errors are printed on the server's terminal.
        samples: Photos to begin with, by title.
    """

    desk: Desk
    sessions: Sessions = field(default_factory=Sessions)
    debug: bool = False
    samples: Mapping[str, Upload] = field(default_factory=samples)

    def photo(self, event: gr.EventData, request: gr.Request, model: str, methods: list[str], layer: str | None) -> Answer:
        """Take a dropped photo and explain its predicted class."""
        sent = _sent(event)
        return self._opened(
            request, lambda: received(sent.get("name"), sent.get("data"), self.desk.limits), model, methods, layer
        )

    def sample(self, event: gr.EventData, request: gr.Request, model: str, methods: list[str], layer: str | None) -> Answer:
        """Take a sample, likewise."""
        title = str(_sent(event).get("name"))
        return self._opened(request, lambda: self._sample(title), model, methods, layer)

    def model(self, request: gr.Request, model: str, methods: list[str]) -> Answer:
        """Explain the predicted class of another model."""
        return self._answer(request, lambda session: self._everything(session, choice_of(model, methods, None, None)))

    def again(self, request: gr.Request, model: str, methods: list[str], target: int | None, layer: str | None) -> Answer:
        """Explain by other methods, another class, or at another layer."""
        return self._answer(request, lambda session: self._maps(session, choice_of(model, methods, target, layer)))

    def choose(self, event: gr.EventData, request: gr.Request, model: str, methods: list[str], layer: str | None) -> Answer:
        """Explain a class of the list of predicted ones."""
        target = _number(_sent(event).get("index"))
        return self.again(request, model, methods, None if target is None else int(target), layer)

    def region(self, event: gr.EventData, request: gr.Request, model: str, methods: list[str], target: int | None) -> str:
        """Tell what the region around a point of a map counts for."""
        sent, session = _sent(event), self._session(request)
        method, across, down = str(sent.get("method")), _number(sent.get("across")), _number(sent.get("down"))
        try:
            found = self.desk.region(session, choice_of(model, methods, target, None), method, across or 0.0, down or 0.0)
        except Exception as error:
            return self._sentence(error)
        return markup.region(found, method)

    def table(self, request: gr.Request, model: str, methods: list[str], target: int | None) -> str:
        """Return the conservation tables of the chosen methods."""
        session, choice = self._session(request), choice_of(model, methods, target, None)
        parts: list[str] = []
        for method in choice.methods:
            try:
                found = markup.table(self.desk.trace(session, choice, method))
            except Exception as error:
                found = self._sentence(error)
            parts.append(f"<h3>{markup.text(method)}</h3>{found}")
        return f'<div class="rp-trace">{"".join(parts)}</div>'

    def save(
        self,
        event: gr.EventData,
        request: gr.Request,
        model: str,
        methods: list[str],
        target: int | None,
        layer: str | None,
        opacity: float,
    ) -> tuple[Any, str]:
        """Return the news, and a file for the browser to save: its name, type and Base64 as JSON."""
        sent, session = _sent(event), self._session(request)
        kind, method = str(sent.get("kind")), str(sent.get("method"))
        choice = choice_of(model, methods, target, layer)
        try:
            content = self._file(session, choice, kind, method, opacity)
            name = self.desk.file_name(session, choice, method, f".{kind}")
        except Exception as error:
            return self._sentence(error), ""
        return gr.skip(), json.dumps({"name": name, "type": _TYPES[kind], "data": b64encode(content).decode("ascii")})

    def forget(self, request: gr.Request) -> None:
        """Drop the session of a closed window."""
        self.sessions.forget(request.session_hash or "")

    def _file(self, session: Session, choice: Choice, kind: str, method: str, opacity: float) -> bytes:
        if kind == "png":
            return self.desk.png(session, choice, method, opacity)
        if kind == "npy":
            file = BytesIO()
            np.save(file, self.desk.array(session, choice, method))
            return file.getvalue()
        if kind == "py":
            return self.desk.code(session, choice, method).encode("utf-8")
        raise InputError("There is no such file.")

    def _opened(
        self, request: gr.Request, upload: Callable[[], Upload], model: str, methods: list[str], layer: str | None
    ) -> Answer:
        def take(session: Session) -> Answer:
            self.desk.open(session, upload(), model)
            return self._everything(session, choice_of(model, methods, None, layer))

        return self._answer(request, take)

    def _sample(self, title: str) -> Upload:
        if title not in self.samples:
            raise InputError("There is no such sample.")
        return self.samples[title]

    def _answer(self, request: gr.Request, work: Callable[[Session], Answer]) -> Answer:
        try:
            return work(self._session(request))
        except Exception as error:
            return _only(news=self._sentence(error))

    def _session(self, request: gr.Request) -> Session:
        return self.sessions.of(request.session_hash or "")

    def _everything(self, session: Session, choice: Choice) -> Answer:
        """All parts of the page, for a new photo or model."""
        if session.upload is None:
            return _only(layer=self._layer(choice))
        prepared = self.desk.prepared(session, choice.model)
        names = self.desk.names(choice.model, len(prepared.logits))
        first = prepared.ranked[:TOP]
        rest = sorted((index for index in range(len(names)) if index not in first), key=lambda index: names[index].casefold())
        listed = [(f"{names[index]}  ·  {percent(float(prepared.probabilities[index]), 1)}", index) for index in first]
        listed += [(f"{names[index]}  ·  {index}", index) for index in rest]
        chosen = replace(choice, target=first[0])
        shown = dict(zip(PARTS, self._maps(session, chosen), strict=True))
        zone = drop_zone(self.desk.limits, self.samples, session.upload, session.thumbnail)
        target = gr.update(choices=listed, value=first[0], interactive=True)
        return _only(**{**shown, "drop": zone, "target": target})

    def _maps(self, session: Session, choice: Choice) -> Answer:
        """The parts that show maps, for another method, class or layer."""
        begun = time.perf_counter()
        maps = self.desk.maps(session, choice)
        took = time.perf_counter() - begun
        prepared, target = self.desk.prepared(session, choice.model), self.desk.target(session, choice)
        names = self.desk.names(choice.model, len(prepared.logits))
        photo = session.upload.name if session.upload else ""
        named = Named(names[target], target, float(prepared.logits[target]))
        said = [
            f"{named.name}, {percent(float(prepared.probabilities[target]), 1)}, {named.score}; explained in {took:.1f} s.",
            *session.notes,
        ]
        return _only(
            news="".join(map(markup.sentence, said)),
            viewer=markup.cards(maps, names[target], photo),
            region=markup.HINT,
            classes=markup.predicted(prepared, names, target, TOP),
            target=gr.update(value=target),
            layer=self._layer(choice),
            table="",
            code="\n".join(self.desk.code(session, choice, method) for method in choice.methods[:1]),
        )

    def _layer(self, choice: Choice) -> Any:  # noqa: ANN401 - an update of Gradio
        known = self.desk.layers(choice.model, choice.methods)
        value = choice.layer if choice.layer in known else NO_LAYER
        return gr.update(choices=[NO_LAYER, *reversed(known)], value=value, interactive=bool(known))

    def _sentence(self, error: Exception) -> str:
        if self.debug:
            traceback.print_exception(error)
        return markup.sentence(self.desk.describe(error), wrong=True)


def choice_of(model: str | None, methods: Sequence[str] | None, target: int | None, layer: str | None) -> Choice:
    """Return what is chosen, from the values of the page's controls."""
    return Choice(str(model), tuple(methods or ()), target, None if layer in {None, "", NO_LAYER} else layer)


def _only(**parts: Any) -> Answer:  # noqa: ANN401 - HTML, or updates of Gradio
    return tuple(parts.get(name, gr.skip()) for name in PARTS)


def _sent(event: gr.EventData) -> dict[str, Any]:
    """What the page sent with an event; nothing of it is trusted."""
    data: Any = event._data  # pyright: ignore[reportPrivateUsage] - Gradio's way to events of a page's own
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None
