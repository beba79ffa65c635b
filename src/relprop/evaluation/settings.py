"""The settings of an evaluation: one frozen value, from Python, a TOML file or the command line."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from relprop.errors import OptionError, suggestion
from relprop.evaluation.presets import with_preset
from relprop.evaluation.results.rows import options_text
from relprop.files import as_path
from relprop.heads import check_activation
from relprop.options import LARGEST
from relprop.targets import Binary, Class, Classes, Target, read_target
from relprop.text import split_options, split_weights
from relprop.zoo.disconnected import SETTINGS as GRIDS
from relprop.zoo.own import Own

TARGETS = ("predicted", "label", "mask", "boxes")
PLACES: tuple[Literal["mask", "boxes"], ...] = ("mask", "boxes")
"""Those of them that explain the label at a place of the output."""
GEOMETRIES = ("model", "resize")
ENGINES = ("local", "ray")
OWN = tuple(entry.name for entry in fields(Own))
"""The settings on models of one's own, side by side with the others."""
GROUP = 4
"""The block size is a multiple of this, so that no group of a metric on mosaics spans two blocks."""


@dataclass(frozen=True)
class Choice:
    """A method or metric by name and options; the same name with other options is another choice."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)

    @property
    def key(self) -> str:
        """A text that identifies the choice."""
        return f"{self.name} {options_text(self.options)}"

    def __str__(self) -> str:
        """Return the choice in command-line syntax."""
        return ":".join([self.name, *(f"{key}={_plain(value)}" for key, value in self.options.items())])


@dataclass(frozen=True)
class ModelChoice:
    """A model by the arguments of ``relprop.zoo.load``."""

    name: str
    weights: Path | None = None
    pretrained: bool = True

    @property
    def source(self) -> str:
        """The source of the weights, as in the column ``weights``: a path, ``pretrained`` or ``random``."""
        return str(self.weights) if self.weights else "pretrained" if self.pretrained else "random"

    @property
    def key(self) -> str:
        """A text that identifies the model and its weights."""
        return f"{self.name} {self.source}"

    def __str__(self) -> str:
        """Return the model in command-line syntax."""
        return f"{self.name}={self.weights}" if self.weights else self.name


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values after a JSON round trip: tuples become lists, paths become strings."""
    return json.loads(json.dumps(dict(values), default=str))


def choices(*texts: str) -> tuple[Choice, ...]:
    """Parse methods or metrics in command-line syntax: ``rap``, ``rap:start=signed``, ``segmentation:threshold=percentile:90``.

    Raises:
        OptionError: A text without a name.
    """
    return tuple(_choice(text) for text in texts)


def models(*texts: str) -> tuple[ModelChoice, ...]:
    """Parse models in command-line syntax: ``NAME`` or ``NAME=WEIGHTS``.

    Raises:
        OptionError: A text without a name or with an empty file name.
    """
    return tuple(_model(text) for text in texts)


@dataclass(frozen=True)
class Evaluation:
    """The settings of a run.

    Attributes:
        data: The data set, ``KIND:PATH``, see ``relprop.datasets.open_dataset``.
        models: See ``models``.
        methods: See ``choices``.
        metrics: See ``choices``; ``quantus:NAME`` is a metric of Quantus.
        output: The folder of results.
        data_options: Keyword arguments of the data set.
        limit: Number of images to take, the first in the data set's order; None for all.
        target: ``predicted``, the class that the model predicts; ``label``, the image's first label, for data sets whose classes are the
            model's; ``mask``, that class of a segmentation at the pixels of its mask; ``boxes``, that class at the raw box of a detector that finds
            the largest annotated box of it, see :func:`relprop.zoo.match_box`; or a text of :data:`relprop.targets.GRAMMAR`, such as
            ``contrast``. The mask that metrics see covers that class, with ``boxes`` that box of it, and else any object.
        geometry: ``model``, the model's own preprocessing; or ``resize``, the whole image resized to the model's input size.
        grid: How models see the mosaics of the data set ``mosaic``: ``shrunk`` to their input size; in ``full``, each cell of that size; or so
            with the cells disconnected, ``difull`` or ``dipart``. No other data set uses it.
        seed: Seed of all random draws; each image draws from a seed derived from this one and its name.
        block: Number of images per unit of work, a multiple of four; results are stored unit by unit.
        keep_maps: Whether to store the heat maps too, for ``read_maps`` and the gallery of a report, with the photos as the model saw them.
        batch_size: Number of images per batch; halved when memory runs out.
        device: ``cpu``, ``cuda``, …
        engine: ``local``, in this process; or ``ray``.
        workers: Number of workers of the engine ``ray``; None for one per GPU, or one per CPU if the device is ``cpu``.
        address: Address of a Ray cluster to join, ``auto`` or ``HOST:PORT``; None starts one on this machine.
        redo_failed: Whether to compute failed rows again, for example after an image was repaired; other rows stay.
        own: What the user says about the models: class names, preprocessing, activation. In a settings file its fields stand among the others.

    Raises:
        OptionError: A value out of range, or no model, method or metric.
        InputError: ``output`` is neither a string nor a path.
    """

    data: str
    models: tuple[ModelChoice, ...]
    methods: tuple[Choice, ...]
    metrics: tuple[Choice, ...]
    output: Path
    data_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    limit: int | None = None
    target: str = "predicted"
    geometry: str = "model"
    grid: str = "shrunk"
    seed: int = 0
    block: int = 16
    keep_maps: bool = False
    batch_size: int = 8
    device: str = "cpu"
    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    redo_failed: bool = False
    own: Own = field(default_factory=Own)

    def __post_init__(self) -> None:
        check_activation(self.own.activation)
        object.__setattr__(self, "output", as_path(self.output, "The folder of results"))
        for name in ("models", "methods", "metrics"):
            if not getattr(self, name):
                raise OptionError(f"An evaluation needs {name}; give at least one.")
            object.__setattr__(self, name, tuple({entry.key: entry for entry in getattr(self, name)}.values()))
        self._check_target()
        for name, known in (("geometry", GEOMETRIES), ("grid", GRIDS), ("engine", ENGINES)):
            value = getattr(self, name)
            if value not in known:
                raise OptionError(f"There is no {name} {value!r}; there are {', '.join(known)}.{suggestion(str(value), known)}")
        for name in ("limit", "batch_size", "workers", "block"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"The {name.replace('_', ' ')} {value} must be at least 1.")
        if abs(self.seed) > LARGEST:
            raise OptionError(f"The seed {self.seed} is beyond 64 bits.")
        if self.block % GROUP:
            raise OptionError(f"The block {self.block} must be a multiple of {GROUP}.")
        if self.address and self.engine != "ray":
            raise OptionError(f"The address {self.address} is that of a Ray cluster; add the engine ray.")

    def _check_target(self) -> None:
        if self.target in TARGETS:
            return
        asked = read_target(self.target)
        if isinstance(asked, str):
            near = suggestion(self.target, TARGETS)
            raise OptionError(
                f"There is no target {self.target!r}; there are {', '.join(TARGETS)}, and targets such as class:3 or contrast:3,5.{near}"
            )
        if isinstance(asked, Classes) and not asked.together:
            raise OptionError(f"The target {self.target!r} asks for several maps of an image; an evaluation scores one.")

    @property
    def asked(self) -> Target | None:
        """The target that holds for all images, where it is no class of each."""
        return None if self.target in TARGETS else cast("Target", read_target(self.target))

    @property
    def by_label(self) -> bool:
        """Whether the first label of an image is explained."""
        return self.target in {"label", *PLACES}

    @property
    def place(self) -> Literal["mask", "boxes"] | None:
        """Where in the output the label is explained, by which annotations of the data set."""
        return next((place for place in PLACES if place == self.target), None)

    @property
    def of_class(self) -> bool:
        """Whether a class of an output ``(B, C)`` is explained, which many metrics follow."""
        return self.target in {"predicted", "label"} or isinstance(self.asked, Class | Binary)

    @property
    def content(self) -> dict[str, Any]:
        """The settings that determine the rows, besides models, methods and metrics; runs that differ in them need two folders."""
        named = ("data", "limit", "target", "geometry", "grid", "seed", "block", "keep_maps")
        return as_json(
            {"data_options": dict(self.data_options), **{name: getattr(self, name) for name in named}, **asdict(self.own)}
        )


def from_mapping(values: Mapping[str, Any], source: str = "The settings") -> Evaluation:
    """Build an evaluation from the values of a TOML file: names as strings or, with options, as tables.

    Raises:
        OptionError: An unknown or missing setting, or a value of the wrong type; the message begins with ``source``.
    """
    given = with_preset(values, source)
    for single, plural in (("model", "models"), ("method", "methods"), ("metric", "metrics")):
        if single in given:
            given[plural] = [*_listed(given.get(plural, []), plural, source), *_listed(given.pop(single), single, source)]
    if isinstance(given.get("data"), Mapping):
        table: dict[str, Any] = dict(given["data"])
        given["data"], given["data_options"] = table.pop("source", None), {**table, **given.get("data_options", {})}
    said = {name: _own_text(name, given.pop(name), source) for name in OWN if name in given}
    labels = said.pop("labels", None)
    known = get_type_hints(Evaluation)
    del known["own"]
    for name, value in given.items():
        if name not in known:
            names = [*known, *OWN]
            raise OptionError(f"{source} has no setting {name!r}; there are {', '.join(names)}.{suggestion(name, names)}")
        _check_type(name, value, known[name], source)
    missing = [name for name in ("data", "models", "methods", "metrics", "output") if not given.get(name)]
    if missing:
        raise OptionError(f"{source} must say {', '.join(missing)}.")
    made: dict[str, Any] = {
        "output": Path(given["output"]),
        "own": Own(Path(labels) if labels else None, **said),
        "models": tuple(_model(entry, source) for entry in given["models"]),
        "methods": tuple(_choice(entry, source) for entry in given["methods"]),
        "metrics": tuple(_choice(entry, source) for entry in given["metrics"]),
    }
    return Evaluation(**{**given, **made})


def read_toml(path: Path) -> dict[str, Any]:
    """Return the values of a settings file, for ``from_mapping``.

    Raises:
        OptionError: The file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(as_path(path, "The path of the settings").read_text("utf-8"))
    except OSError as error:
        raise OptionError(f"The settings {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OptionError(f"The settings {path} are no TOML: {error}.") from error


def _check_type(name: str, value: object, annotation: Any, source: str) -> None:  # noqa: ANN401 - a type form
    parts = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    kinds = [get_origin(part) or part for part in parts]
    if tuple in kinds:
        _listed(value, name, source)
        return
    allowed = (str, *kinds) if Path in kinds else tuple(kinds)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in kinds):
        wanted = " | ".join(kind.__name__ for kind in kinds if kind is not NoneType)
        raise OptionError(f"{source}: {name} = {value!r} must be {wanted}.")


def _own_text(name: str, value: object, source: str) -> str | None:
    """Return a text, a number or a list of numbers as it would be typed."""
    parts = cast("Sequence[Any]", value) if isinstance(value, list | tuple) else (value,)
    if value is None or not parts:
        return None
    if not all(isinstance(part, str | Path | int | float) and not isinstance(part, bool) for part in parts):
        raise OptionError(f"{source}: {name} = {value!r} must be a text, a number or a list of numbers.")
    return ",".join(map(str, parts))


def _listed(value: object, name: str, source: str) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return cast("Sequence[Any]", value)
    raise OptionError(f"{source}: {name} must be a list, not {value!r}.")


def _choice(entry: object, source: str = "The command line") -> Choice:
    if isinstance(entry, Choice):
        return entry
    if isinstance(entry, Mapping):
        options = {str(key): value for key, value in cast("Mapping[object, Any]", entry).items()}
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise OptionError(f"{source}: {dict(options)} needs a name.")
        return Choice(name, options)
    name, options = split_options(str(entry))
    if not name or re.match(r"[A-Za-z_][\w-]*=", name):
        raise OptionError(f"{source}: {entry!r} has no name.")
    return Choice(name, options)


def _model(entry: object, source: str = "The command line") -> ModelChoice:
    if isinstance(entry, ModelChoice):
        return entry
    if isinstance(entry, Mapping):
        table = {str(key): value for key, value in cast("Mapping[object, Any]", entry).items()}
        unknown = [key for key in table if key not in {"name", "weights", "pretrained"}]
        if unknown or not isinstance(table.get("name"), str):
            raise OptionError(f"{source}: a model has name, weights and pretrained, not {', '.join(unknown) or 'no name'}.")
        weights = as_path(table["weights"], f"{source}: weights") if table.get("weights") else None
        return ModelChoice(table["name"], weights, bool(table.get("pretrained", True)))
    name, weights = split_weights(str(entry).strip())
    if not name or weights == "":
        raise OptionError(f"{source}: the model {entry!r} is not of the form NAME or NAME=WEIGHTS.")
    return ModelChoice(name, Path(weights) if weights else None)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
