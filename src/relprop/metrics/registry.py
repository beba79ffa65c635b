"""The table of metrics by name."""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import get_args

from torch import Tensor

from relprop.errors import OptionError, suggestion
from relprop.metrics.base import Direction, Follows, Metric, MetricSpec, Need, Over, Statistics, Value, identity
from relprop.metrics.complexity import COMPLEXITY
from relprop.metrics.gae import GAE
from relprop.metrics.grid_pointing import GRID_POINTING
from relprop.metrics.insertion import INSERTION_DELETION
from relprop.metrics.known_map import KNOWN_MAP
from relprop.metrics.localization import CLASS_POINTING, POINTING_GAME, RELEVANCE_MASS, RELEVANCE_RANK
from relprop.metrics.outside_inside import OUTSIDE_INSIDE
from relprop.metrics.parts import PARTS
from relprop.metrics.perturbation import ABPC, LERF, MORF, RANDOM_REMOVAL
from relprop.metrics.sanity import (
    CASCADING_RANDOMIZATION,
    CONSERVATION,
    COSINE_CONVERGENCE,
    INDEPENDENT_RANDOMIZATION,
    RANDOM_LOGIT,
)
from relprop.metrics.segmentation import SEGMENTATION, SEGMENTATION_TRANSFORMER
from relprop.metrics.sensitivity import INFIDELITY, MAX_SENSITIVITY, SENSITIVITY_N
from relprop.metrics.single_deletion import SINGLE_DELETION
from relprop.metrics.srg import SRG

METRICS: dict[str, MetricSpec] = {
    spec.name: spec
    for spec in (
        SEGMENTATION,
        SEGMENTATION_TRANSFORMER,
        OUTSIDE_INSIDE,
        POINTING_GAME,
        CLASS_POINTING,
        GRID_POINTING,
        KNOWN_MAP,
        PARTS,
        RELEVANCE_MASS,
        RELEVANCE_RANK,
        LERF,
        MORF,
        RANDOM_REMOVAL,
        ABPC,
        SRG,
        SINGLE_DELETION,
        INSERTION_DELETION,
        GAE,
        SENSITIVITY_N,
        INFIDELITY,
        MAX_SENSITIVITY,
        COMPLEXITY,
        CASCADING_RANDOMIZATION,
        INDEPENDENT_RANDOMIZATION,
        RANDOM_LOGIT,
        COSINE_CONVERGENCE,
        CONSERVATION,
    )
}


def register_metric(
    name: str,
    update: Callable[..., Statistics | Tensor],
    *,
    values: Direction | Sequence[Value] = "higher",
    compute: Callable[[Statistics], Statistics] = identity,
    over: tuple[Over, ...] = ("images",),
    source: str = "-",
    follows: Follows | str | None = None,
) -> MetricSpec:
    """Register your own metric by name, for ``metric``, evaluations and their reports.

    Args:
        name: The new name.
        update: A function of a batch that returns one row per image: the score as a tensor ``(B,)``, or named tensors. Parameters named
            like a :class:`relprop.metrics.Need` (``relevance``, ``mask``, ``inputs``, ``target``, ``model``, …) come from the run; the
            others are options and have defaults.
        values: The reported values: ``"higher"``, ``"lower"`` (which is better) or ``"none"`` for a single score of the metric's name,
            or a :class:`relprop.metrics.Value` per score.
        compute: Statistics → scores, for metrics that score a set by the sum of their statistics.
        over: See :class:`relprop.metrics.MetricSpec`.
        source: Paper and equation.
        follows: See :class:`relprop.metrics.MetricSpec`: ``"number"`` for a metric that looks at the target's output alone, and so suits all.

    Raises:
        OptionError: The name is taken or invalid; the function takes nothing from the run, or has a parameter that is neither a need nor
            an option with a default; or ``over`` has ``"set"`` without ``compute``.
    """
    if not isinstance(name, str) or not name or ":" in name or "," in name:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"A metric's name must be a text without colons and commas, not {name!r}.")
    if name in METRICS:
        raise OptionError(f"There already is a metric {name!r}; choose another name.")
    if not callable(update):
        raise OptionError(f"Metric {name!r} must be a function of a batch, not {type(update).__name__}.")
    if "set" in over and compute is identity:
        raise OptionError(f"Metric {name!r} is scored over a set by what compute makes of summed statistics; give compute.")
    reported = _values(name, update, values)
    spec = MetricSpec(
        name, reported, _needs(name, update), _named(name, update), compute, source, over, follows=_follows(name, follows)
    )
    METRICS[name] = spec
    return spec


def _follows(name: str, follows: Follows | str | None) -> Follows | None:
    if follows is not None and follows not in list(Follows):
        raise OptionError(f"Metric {name!r}: follows must be one of {', '.join(Follows)}, not {follows!r}.")
    return None if follows is None else Follows(follows)


def _needs(name: str, update: Callable[..., object]) -> tuple[Need, ...]:
    parameters = inspect.signature(update).parameters.values()
    needs = tuple(Need(p.name) for p in parameters if p.name in list(Need))
    for parameter in parameters:
        fixed = parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}
        if fixed or (parameter.name not in needs and parameter.default is parameter.empty):
            near = suggestion(parameter.name, map(str, Need))
            raise OptionError(
                f"Metric {name!r}: parameter {parameter.name!r} is neither what a run has ({', '.join(Need)}) nor an option with a default.{near}"
            )
    if not needs:
        raise OptionError(f"Metric {name!r} takes nothing of a run; name a parameter relevance, mask, inputs, target, model, ….")
    return needs


def _values(name: str, update: Callable[..., object], values: Direction | Sequence[Value]) -> tuple[Value, ...]:
    if not isinstance(values, str):
        return tuple(values)
    if values not in get_args(Direction):
        raise OptionError(
            f"Metric {name!r}: values must be one of {', '.join(get_args(Direction))} or a list of Value, not {values!r}."
        )
    meaning = (inspect.getdoc(update) or name).splitlines()[0]
    return (Value(name, values, -math.inf, math.inf, meaning),)


def _named(name: str, update: Callable[..., Statistics | Tensor]) -> Callable[..., Statistics]:
    """Wrap the function so that a single score gets the metric's name."""

    @functools.wraps(update)
    def named(**given: object) -> Statistics:
        found = update(**given)
        return {name: found} if isinstance(found, Tensor) else found

    return named


def metric(name: str, **options: object) -> Metric:
    """Return a fresh ``Metric`` of the given name.

    Args:
        name: A key of ``METRICS``.
        options: Options of that metric, overriding its presets.

    Raises:
        OptionError: An unknown metric or option.

    Example:
        >>> import torch
        >>> accuracy = metric("segmentation", threshold="zero")
        >>> scores = accuracy.update(relevance=torch.tensor([[[1.0, -1.0]]]), mask=torch.tensor([[[1, 0]]]))
        >>> float(accuracy.compute()["pixel_accuracy"])
        1.0
    """
    if name not in METRICS:
        raise OptionError(f"There is no metric {name!r}; there are {', '.join(METRICS)}.{suggestion(name, METRICS)}")
    return Metric(METRICS[name], **options)
