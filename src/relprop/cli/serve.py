"""``relprop serve``: the app on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.markup import escape

from relprop.app.answers import Answers
from relprop.app.desk import Desk
from relprop.app.photos import Limits
from relprop.app.served import Served
from relprop.app.server import Address, listen, server, url_of
from relprop.cli.compare import SLOW, weights_of_models
from relprop.cli.options import parse_device
from relprop.cli.terminal import describe, err, note, out
from relprop.cli.tools import load_classifier
from relprop.errors import OptionError
from relprop.methods import METHODS, choose_method
from relprop.text import split_list
from relprop.zoo import LoadedModel, Own

FIRST = "rap"


@dataclass(frozen=True)
class ServeJob:
    """What the user asked for."""

    models: tuple[str, ...]
    weights: tuple[str, ...]
    methods: str | None
    address: Address
    limits: Limits
    device: str
    own: Own
    debug: bool


def serve_app(job: ServeJob) -> None:
    """Load the first model, capture it, and serve the page until Ctrl-C."""
    device, methods = parse_device(job.device), offered_methods(job.methods)
    served = {
        label: Served(label, partial(_load, name, weights, device, job.own), device, adapted=bool(job.own.preprocessing))
        for label, (name, weights) in weights_of_models(job.models, job.weights).items()
    }
    listening = listen(job.address)
    first, method = next(iter(served)), FIRST if FIRST in methods else methods[0]
    for text in served[first].loaded.notes:
        note(text)
    with err.status(f"Capturing {escape(first)} …"):
        served[first].warm_up(method)
    answers = Answers(Desk(served, methods, job.limits, describe), debug=job.debug)
    running = server(answers, first, (method,), job.address)
    if not job.address.loopback:
        note(f"Everybody who reaches {job.address.host} can use this page: it has no password, and photos travel unencrypted.")
    out.print(f"relprop is at [bold]{url_of(job.address, listening)}[/]; Ctrl-C stops it.", highlight=False)
    try:
        running.run(sockets=[listening])
    except KeyboardInterrupt:
        note("Stopped.")


def offered_methods(text: str | None) -> tuple[str, ...]:
    """Return the methods on offer: those of a list, or all that need no option and are not slow.

    Raises:
        OptionError: The list is empty, or has an unknown method or option.
    """
    if text is None:
        return tuple(name for name in METHODS if name not in SLOW and _complete(name))
    listed = tuple(dict.fromkeys(split_list(text)))
    if not listed:
        raise OptionError("--methods names no method; `relprop methods` lists them.")
    for name in listed:
        choose_method(name, {})
    return listed


def _complete(name: str) -> bool:
    try:
        choose_method(name, {})
    except OptionError:
        return False
    return True


def _load(name: str, weights: Path | None, device: torch.device, own: Own) -> LoadedModel:
    targets: Sequence[str] = ()
    return load_classifier(name, weights, targets, device, own).loaded
