"""Metrics as two pure functions, ``update`` and ``compute``, and a thin class that adds state."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import torch
from torch import Tensor

from relprop.errors import InputError, OptionError, suggestion
from relprop.options import check_option
from relprop.targets import GRAMMAR

Statistics = dict[str, Tensor]
"""Named tensors, one row per image as ``update`` returns them (``(B,)`` or ``(B, K)``), or their sum over images (``()`` or ``(K,)``)."""


class Need(StrEnum):
    """A keyword argument of a metric's ``update`` that a run provides."""

    RELEVANCE = "relevance"  # of the inputs, for the target, shaped like them
    ABSORBED = "absorbed"  # (B,)
    LOGITS = "logits"  # (B, C)
    TARGET = "target"  # (B,), the explained classes
    CONSERVED = "conserved"  # (B,), what relevance and absorbed relevance should add up to
    MASK = "mask"  # (B, H, W), of the object
    PARTS = "parts"  # (B, H, W), numbered regions: the cells of a mosaic, the parts of an object; 0 for none
    SCENES = "scenes"  # one relprop.metrics.parts.Scene per image
    INPUTS = "inputs"  # (B, C, H, W)
    SEEDS = "seeds"  # one random seed per image
    MODEL = "model"  # inputs → logits
    MODULE = "module"  # the torch.nn.Module
    EXPLAIN = "explain"  # inputs, target → relevance
    EXPLAIN_LAYERS = "explain_layers"  # inputs, relevance of the output → relevance of each layer
    MAKE_EXPLAIN = "make_explain"  # module → its explain function


OF_EXPLANATION = frozenset({Need.RELEVANCE, Need.ABSORBED, Need.LOGITS, Need.TARGET, Need.CONSERVED})
"""The needs met by the explanation of the images, which all metrics of a run share."""

OF_ANY_TARGET = frozenset({Need.RELEVANCE, Need.ABSORBED, Need.CONSERVED, Need.MASK, Need.PARTS, Need.INPUTS, Need.SEEDS})
"""The needs of a metric that asks the model nothing, and so suits any target."""


class Follows(StrEnum):
    """What of the model a metric looks at, which decides the targets that it suits."""

    MAP = "map"  # nothing that depends on the target: the map, its sum, the data set's annotations
    NUMBER = "number"  # the explained number, whatever the target makes it, where inputs or weights change
    CLASS = "class"  # a class among those of an output (batch, classes)


TARGET_KINDS = tuple(re.split(r"\W", form)[0] for form, _ in GRAMMAR)
"""The kinds of targets, as text calls them."""
OF_A_CLASS = ("class", "binary")
"""The targets that name one class of an output ``(B, C)``."""

Direction = Literal["higher", "lower", "none"]
Over = Literal["set", "images"]


@dataclass(frozen=True)
class Value:
    """One number that a metric reports: its name, whether higher or lower is better, its range and its meaning.

    ``ratio`` says that it is an unbounded ratio, of which a few images can decide the mean, so that reports give the median too.
    """

    name: str
    direction: Direction
    low: float
    high: float
    meaning: str
    ratio: bool = False


@dataclass(frozen=True)
class MetricSpec:
    """A metric as data.

    Attributes:
        name: The name in ``METRICS``.
        values: The values that it reports.
        needs: The keyword arguments that ``update`` takes from the run.
        update: Tensors of a batch → statistics with one row per image.
        compute: Statistics → scores; works on one row per image and on sums over images alike.
        over: How a set can be scored, the default first: ``set`` is ``compute`` of the summed statistics, ``images`` the mean of the
            images' scores.
        source: Paper and equation.
        options: Preset keyword arguments of ``update``.
        group: Number of consecutive inputs per row (4 for a metric on mosaics).
        follows: What of the model it looks at. By default the map alone where it needs nothing else, else a class. A metric that follows a
            number takes ``target`` and ``model`` as one that follows a class; where no class is explained, a run gives it the explained
            numbers as ``(B, 1)``, zeros as their classes and, if it has that option, the activation ``none``.

    Raises:
        OptionError: A need that a run does not provide.
    """

    name: str
    values: tuple[Value, ...]
    needs: tuple[Need, ...]
    update: Callable[..., Statistics]
    compute: Callable[[Statistics], Statistics]
    source: str
    over: tuple[Over, ...] = ("images",)
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    group: int = 1
    follows: Follows | None = None

    def __post_init__(self) -> None:
        if self.follows is None:
            alone = OF_ANY_TARGET.issuperset(self.needs)
            object.__setattr__(self, "follows", Follows.MAP if alone else Follows.CLASS)
        for need in self.needs:
            if need not in list(Need):
                near = suggestion(str(need), map(str, Need))
                raise OptionError(
                    f"Metric {self.name!r} needs {need!r}, which a run does not have.{near} It has {', '.join(Need)}."
                )

    @property
    def any_target(self) -> bool:
        """Whether the metric suits any target; else it follows a class of an output ``(B, C)``."""
        return self.follows is not Follows.CLASS

    @property
    def targets(self) -> tuple[str, ...]:
        """The kinds of targets that the metric suits, as :data:`relprop.targets.GRAMMAR` calls them."""
        return TARGET_KINDS if self.any_target else OF_A_CLASS

    def with_options(self, options: Mapping[str, object]) -> dict[str, object]:
        """Return the presets overlaid with ``options``.

        Raises:
            OptionError: An unknown name, or a value of the wrong type.
        """
        parameters = inspect.signature(self.update).parameters
        known = [name for name in parameters if name not in self.needs]
        for name, value in options.items():
            if name not in known:
                raise OptionError(
                    f"Metric {self.name!r} has no option {name!r}; it has {', '.join(known) or 'none'}.{suggestion(name, known)}"
                )
            if name in parameters:
                check_option(f"metric {self.name!r}", name, value, parameters[name].annotation)
        return {**self.options, **options}


def identity(statistics: Statistics) -> Statistics:
    """Return the statistics unchanged, for a metric whose statistics are its scores."""
    return statistics


class Metric:
    """A ``MetricSpec`` with state over a stream of batches.

    ``update`` returns the scores of each image of the batch and adds to the state; ``compute`` returns the scores of the set; ``score``
    does not change the state; ``merge`` adds the state of another worker. An image for which a score is undefined (NaN, such as an
    overlap with an empty mask) counts in ``undefined`` and is left out of that score's mean.

    Args:
        spec: The metric.
        options: Keyword arguments of the metric's ``update``, such as ``threshold="otsu"``.

    Raises:
        OptionError: The metric has no such option.
    """

    def __init__(self, spec: MetricSpec, **options: object) -> None:
        self.spec = spec
        self.options = spec.with_options(options)
        self.reset()

    def reset(self) -> None:
        """Clear the state."""
        self.images = 0
        self.statistics: Statistics = {}
        self.sums: Statistics = {}
        self.counts: Statistics = {}

    def score(self, **tensors: object) -> tuple[Statistics, Statistics]:
        """Return the scores and the statistics of a batch, one row per image, without changing the state.

        Args:
            **tensors: The keyword arguments named in ``spec.needs``; others are ignored.

        Raises:
            InputError: A needed argument is missing.
        """
        missing = [name for name in self.spec.needs if tensors.get(name) is None]
        if missing:
            raise InputError(f"Metric {self.spec.name!r} needs {', '.join(missing)}; pass it to update().")
        statistics = self.spec.update(**{name: tensors[name] for name in self.spec.needs}, **self.options)
        return self.spec.compute(statistics), statistics

    def update(self, **tensors: object) -> Statistics:
        """Add a batch to the state; arguments and errors are those of :meth:`score`. Return one row of scores per image."""
        scores, statistics = self.score(**tensors)
        defined = {name: score.isfinite() for name, score in scores.items()}
        if "set" in self.spec.over:
            _add(self.statistics, {name: _total(value) for name, value in statistics.items()})
        _add(self.sums, {name: _total(score.where(defined[name], 0)) for name, score in scores.items()})
        _add(self.counts, {name: _total(mask) for name, mask in defined.items()})
        self.images += len(next(iter(scores.values())))
        return scores

    def compute(self, over: Over | None = None) -> Statistics:
        """Return the scores of all images so far, by ``over`` or the first of ``MetricSpec.over``; empty before any image.

        Raises:
            OptionError: The metric cannot be scored that way.
        """
        over = over or self.spec.over[0]
        if over not in self.spec.over:
            raise OptionError(
                f"Metric {self.spec.name!r} cannot be scored over {over!r}, only over {' or '.join(self.spec.over)}."
            )
        if over == "set":
            return self.spec.compute(self.statistics) if self.images else {}
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    @property
    def undefined(self) -> dict[str, int]:
        """The number of images for which each score is undefined (for a curve, at its worst point)."""
        return {name: self.images - int(count.min()) for name, count in self.counts.items()}

    def merge(self, other: "Metric") -> None:
        """Add the state of another worker's metric of the same spec and options.

        Raises:
            InputError: The other metric has another name or other options.
        """
        if other.spec.name != self.spec.name or other.options != self.options:
            raise InputError(
                f"Metric {self.spec.name!r} cannot take the state of {other.spec.name!r} with options {other.options}."
            )
        for mine, theirs in ((self.statistics, other.statistics), (self.sums, other.sums), (self.counts, other.counts)):
            _add(mine, theirs)
        self.images += other.images


def _total(value: Tensor) -> Tensor:
    return value.detach().cpu().sum(0, dtype=torch.float64)


def _add(into: Statistics, values: Statistics) -> None:
    for name, value in values.items():
        into[name] = into[name] + value if name in into else value
