"""Metrics of explanations: ``Metric`` over a stream of batches, the table ``METRICS``, each metric's functions in its module."""

from relprop.metrics.base import Follows, Metric, MetricSpec, Need, Value
from relprop.metrics.maps import box_mask, heatmap
from relprop.metrics.registry import METRICS, metric, register_metric

__all__ = ["METRICS", "Follows", "Metric", "MetricSpec", "Need", "Value", "box_mask", "heatmap", "metric", "register_metric"]
