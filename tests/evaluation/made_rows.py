"""Rows of an evaluation, made by the metrics themselves on random maps."""

import json

import numpy as np
import torch

from relprop.evaluation.results.rows import Row
from relprop.metrics import METRICS, Metric

FIXED = {"seed": 0, "relprop": "0", "torch": "0", "device": "cpu", "weights": "pretrained"}


def maps(count: int = 10, size: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    relevance = torch.randn(count, size, size, generator=generator)
    mask = torch.zeros(count, size, size, dtype=torch.uint8)
    for place in range(count):
        mask[place, 1 : 2 + place % 5, 2:6] = 1
    return relevance, mask


def metric_rows(
    method: str, relevance: torch.Tensor, mask: torch.Tensor, *, metric: str = "segmentation", **named: str
) -> list[Row]:
    """One row per image, its scores and statistics by the metric's own functions."""
    spec = METRICS[metric]
    statistics = spec.update(relevance=relevance, mask=mask)
    scores = Metric(spec).update(relevance=relevance, mask=mask)
    return [
        Row(
            image=f"image{place}",
            **{
                "model": "m",
                "method": method,
                "method_options": "{}",
                "metric": metric,
                "metric_options": "{}",
                **FIXED,
                **named,
            },
            scores={name: float(value[place]) for name, value in scores.items()},
            statistics={name: [float(value[place])] for name, value in statistics.items()} if "set" in spec.over else {},
            target=0,
            seconds=0.1,
        )
        for place in range(len(relevance))
    ]


def curve_rows(method: str, count: int = 6, points: int = 5, seed: int = 0, **options: object) -> list[Row]:
    """Rows of the metric `lerf` with random curves."""
    generator = np.random.default_rng(seed)
    curves = generator.random((count, points))
    return [
        Row(
            image=f"image{place}",
            **{
                **FIXED,
                "model": "m",
                "method": method,
                "method_options": json.dumps(options),
                "metric": "lerf",
                "metric_options": "{}",
            },
            scores={"accuracy_mean": float(curve.mean()), "accuracy_aopc": float((curve[0] - curve).mean())},
            curves={"accuracy_curve": curve.tolist()},
        )
        for place, curve in enumerate(curves)
    ]


def failed_row(method: str, image: str, metric: str = "segmentation", reason: str = "It broke.") -> Row:
    return Row(
        image=image,
        **{**FIXED, "model": "m", "method": method, "method_options": "{}", "metric": metric, "metric_options": "{}"},
        status="failed",
        reason=reason,
    )
