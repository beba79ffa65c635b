"""The table of metrics by name."""

from __future__ import annotations

from relprop.errors import OptionError, suggestion
from relprop.metrics.base import Metric, MetricSpec
from relprop.metrics.outside_inside import OUTSIDE_INSIDE
from relprop.metrics.segmentation import SEGMENTATION, SEGMENTATION_TRANSFORMER

METRICS: dict[str, MetricSpec] = {
    spec.name: spec
    for spec in (
        SEGMENTATION,
        SEGMENTATION_TRANSFORMER,
        OUTSIDE_INSIDE,
    )
}


def metric(name: str, **options: object) -> Metric:
    """Return a fresh `Metric` of the given name.

    Args:
        name: a key of `METRICS`.
        options: options of that metric, overriding its presets.

    Raises:
        OptionError: an unknown metric or option.

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
