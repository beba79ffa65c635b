"""Metrics of explanations: ``Metric`` over a stream of batches, the table ``METRICS``, each metric's functions in its module."""

from relprop.metrics.base import Metric, MetricSpec, Value
from relprop.metrics.maps import box_mask, heatmap
from relprop.metrics.registry import METRICS, metric

__all__ = ["METRICS", "Metric", "MetricSpec", "Value", "box_mask", "heatmap", "metric"]
