"""Classifiers by name, with their weights, preprocessing and class names."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from relprop.errors import ModelError, OptionError, suggestion
from relprop.files import as_path
from relprop.targets import Top, parse_target
from relprop.text import split_weights
from relprop.zoo import sources
from relprop.zoo.detectors import match_box, raw_boxes, raw_head
from relprop.zoo.labels import imagenet_classes
from relprop.zoo.model import LoadedModel, Request
from relprop.zoo.own import Own, adapted
from relprop.zoo.preprocessing import Preprocessing
from relprop.zoo.torchvision_ops import import_torchvision
from relprop.zoo.weights import read_weights

__all__ = [
    "DEFAULT", "EMBEDDED", "SOURCES", "LoadedModel", "Own", "Preprocessing", "Top", "adapted", "imagenet_classes",
    "import_torchvision", "is_code", "load", "match_box", "parse_target",
    "raw_boxes", "raw_head",
]  # fmt: skip

DEFAULT = "efficientnet-lite0"
EMBEDDED: dict[str, Callable[[Request], LoadedModel]] = {DEFAULT: sources.efficientnet_lite0}
SOURCES: dict[str, Callable[[Request], LoadedModel]] = {
    "torchvision": sources.torchvision,
    "timm": sources.timm,
    "hf": sources.huggingface,
    "handset": sources.handset,
}


def load(name: str = DEFAULT, weights: str | Path | None = None, *, pretrained: bool = True) -> LoadedModel:
    """Load a classifier in eval mode.

    Args:
        name: ``efficientnet-lite0``, ``torchvision:resnet50``, ``timm:vit_tiny_patch16_224``,
            ``hf:google/vit-base-patch16-224`` or ``hf:FOLDER``, ``handset:count``, or ``path/to/file.py:factory``; with the weights after
            an equals sign, as on the command line: ``torchvision:resnet50=resnet50.pth``.
        weights: A safetensors or state-dict file instead of the published weights; never unpickled.
        pretrained: Without ``weights``, False leaves the weights random.

    Raises:
        OptionError: The name matches no source, or the weights are given twice.
        InputError: The path of the weights is neither a string nor a path.
        ModelError: A library or the weights are missing, or do not fit the model.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise OptionError(f"A model to load must be a name, not {type(name).__name__}.")
    name, inline = split_weights(name)
    if inline is not None and weights is not None:
        raise OptionError(f"The weights of {name} are given twice: {inline} and {weights}.")
    if inline == "":
        raise OptionError(f"The model {name}= names no file of weights; write MODEL=WEIGHTS.")
    request_of, rest = _source(name)
    weights = inline if weights is None else weights
    path = None if weights is None else as_path(weights, "The path of weights")
    given = None if path is None else read_weights(path)
    loaded = request_of(Request(name, rest, given, pretrained))
    loaded.model.eval()
    return loaded if given is None else replace(loaded, notes=(*loaded.notes, *given.notes))


def is_code(name: str) -> bool:
    """Return whether a model's name is a function in a Python file, which loading it would run."""
    return name.rpartition(":")[0].endswith(".py")


def _source(name: str) -> tuple[Callable[[Request], LoadedModel], str]:
    prefix, _, rest = name.partition(":")
    if name in EMBEDDED:
        return EMBEDDED[name], name
    if prefix in SOURCES and rest:
        return SOURCES[prefix], rest
    if is_code(name):
        return sources.file_factory, name
    if name.endswith(".py"):
        raise ModelError(f"Name the function in {name} that returns the model: {name}:FUNCTION.")
    forms = "torchvision:NAME, timm:NAME, hf:NAME, handset:NAME or file.py:FUNCTION"
    raise OptionError(f"There is no model {name!r}; models are {', '.join(EMBEDDED)}, {forms}.{suggestion(name, EMBEDDED)}")
