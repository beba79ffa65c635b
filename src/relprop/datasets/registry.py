"""The table of data sets by name."""

import inspect
from collections.abc import Callable

from relprop.datasets.coco import open_coco
from relprop.datasets.folder import open_folder
from relprop.datasets.funnybirds import open_funnybirds
from relprop.datasets.handset import open_handset
from relprop.datasets.huggingface import open_huggingface
from relprop.datasets.imagenet import open_imagenet
from relprop.datasets.imagenet_segmentation import open_imagenet_s, open_imagenet_segmentation
from relprop.datasets.sample import Dataset
from relprop.datasets.voc import open_voc
from relprop.errors import OptionError, suggestion

DATASETS: dict[str, Callable[..., Dataset]] = {
    "voc": open_voc,
    "imagenet": open_imagenet,
    "imagenet-segmentation": open_imagenet_segmentation,
    "imagenet-s": open_imagenet_s,
    "coco": open_coco,
    "folder": open_folder,
    "huggingface": open_huggingface,
    "funnybirds": open_funnybirds,
    "handset": open_handset,
}


def register_dataset(name: str, opener: Callable[..., Dataset]) -> None:
    """Register your own kind of data set by name, for ``open_dataset`` and evaluations.

    Args:
        name: The new kind, as in ``KIND:PATH``.
        opener: A function ``(path, *, options) -> Dataset``; its keyword-only parameters are the kind's options.

    Raises:
        OptionError: The name is taken or invalid, or the function does not take one path.
    """
    if not isinstance(name, str) or not name or ":" in name:  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise OptionError(f"The name of a kind of data set must be a text without a colon, not {name!r}.")
    if name in DATASETS:
        raise OptionError(f"There already is a kind of data set {name!r}; choose another name.")
    if not callable(opener):
        raise OptionError(f"Data set {name!r} must be opened by a function, not {type(opener).__name__}.")
    parameters = inspect.signature(opener).parameters.values()
    required = [p.name for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD} and p.default is p.empty]
    if len(required) != 1:
        raise OptionError(f"Data set {name!r} must be opened by a function (path, *, options); it takes ({', '.join(required)}).")
    DATASETS[name] = opener


def open_dataset(source: str, **options: object) -> Dataset:
    """Open a data set by its name on the command line, ``KIND:PATH``.

    Args:
        source: ``KIND:PATH``, such as ``voc:/data/VOCdevkit``, where KIND is a key of ``DATASETS``.
        options: Keyword arguments of that kind's function.

    Raises:
        OptionError: The kind or an option is unknown, or there is no path.
        InputError: The data set cannot be opened.
    """
    if not isinstance(source, str):  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise OptionError(f"A data set must be named as KIND:PATH, not by {type(source).__name__}.")
    kind, _, path = source.partition(":")
    if kind not in DATASETS or not path:
        raise OptionError(
            f"{source!r} names no data set; write KIND:PATH, with KIND one of {', '.join(DATASETS)}.{suggestion(kind, DATASETS)}"
        )
    known = [
        name
        for name, parameter in inspect.signature(DATASETS[kind]).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    for name in options:
        if name not in known:
            raise OptionError(
                f"Data set {kind!r} has no option {name!r}; it has {', '.join(known) or 'none'}.{suggestion(name, known)}"
            )
    return DATASETS[kind](path, **options)
