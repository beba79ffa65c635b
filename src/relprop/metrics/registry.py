"""The table of metrics by name."""

from relprop.errors import OptionError, suggestion
from relprop.metrics.base import Metric, MetricSpec
from relprop.metrics.complexity import COMPLEXITY
from relprop.metrics.gae import GAE
from relprop.metrics.insertion import INSERTION_DELETION
from relprop.metrics.localization import POINTING_GAME, RELEVANCE_MASS, RELEVANCE_RANK
from relprop.metrics.outside_inside import OUTSIDE_INSIDE
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

METRICS: dict[str, MetricSpec] = {
    spec.name: spec
    for spec in (
        SEGMENTATION,
        SEGMENTATION_TRANSFORMER,
        OUTSIDE_INSIDE,
        POINTING_GAME,
        RELEVANCE_MASS,
        RELEVANCE_RANK,
        LERF,
        MORF,
        RANDOM_REMOVAL,
        ABPC,
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
