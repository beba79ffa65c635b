"""The rows of an evaluation: one per image, model, method and metric."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from relprop.text import storable

Table = Any
"""A ``pyarrow.Table``; the library is not typed."""
Batch = Any
"""A ``pyarrow.RecordBatch``."""

_CURVES = pa.map_(pa.string(), pa.list_(pa.float64()))

SCHEMA = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("group", pa.list_(pa.string())),
        pa.field("model", pa.string(), nullable=False),
        pa.field("weights", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("method_options", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("metric_options", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("target", pa.int64()),
        pa.field("scores", pa.map_(pa.string(), pa.float64()), nullable=False),
        pa.field("curves", _CURVES, nullable=False),
        pa.field("statistics", _CURVES, nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("relprop", pa.string(), nullable=False),
        pa.field("torch", pa.string(), nullable=False),
        pa.field("device", pa.string(), nullable=False),
    ]
)
"""The columns of the Parquet files; see ``Row`` for what they hold."""

OK, FAILED = "ok", "failed"


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        image: The image's name in its data set; for a metric on groups, that of the first image.
        model: The requested name of the model.
        weights: ``pretrained``, ``random``, or the file of the weights.
        method: A name of ``relprop.methods.METHODS``, or a TOML file.
        method_options: JSON with sorted keys; ``{}`` without options.
        metric: A name of ``relprop.metrics.METRICS``.
        metric_options: JSON with sorted keys; ``{}`` without options.
        seed: The run's seed; each image draws from ``image_seed(seed, image)``.
        relprop: The version of relprop.
        torch: The version of PyTorch.
        device: The kind of device, such as ``cpu`` or ``cuda``.
        group: The images of a metric that scores several at once, else None.
        status: ``ok`` or ``failed``.
        reason: Why it failed, in one sentence, else None.
        target: The explained class; None for groups and if it is unknown.
        scores: The metric's numbers by name; NaN where one is undefined for this image.
        curves: The metric's curves by name.
        statistics: The summable statistics of metrics that are scored over the set: ``MetricSpec.compute`` of their sums is the set's
            score; a single number is a list of one.
        seconds: The image's share of the time of the explanation (which metrics share) and of the metric.
    """

    image: str
    model: str
    weights: str
    method: str
    method_options: str
    metric: str
    metric_options: str
    seed: int
    relprop: str
    torch: str
    device: str
    group: tuple[str, ...] | None = None
    status: str = OK
    reason: str | None = None
    target: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    curves: Mapping[str, list[float]] = field(default_factory=dict[str, list[float]])
    statistics: Mapping[str, list[float]] = field(default_factory=dict[str, list[float]])
    seconds: float = 0.0


def to_table(rows: Iterable[Row]) -> Table:
    """Return the rows as an Arrow table of ``SCHEMA``."""
    return pa.Table.from_pylist([_plain(row) for row in rows], schema=SCHEMA)


def _plain(row: Row) -> dict[str, object]:
    maps = {name: list(getattr(row, name).items()) for name in ("scores", "curves", "statistics")}
    texts = {name: storable(value) for name, value in vars(row).items() if isinstance(value, str)}
    return {**asdict(row), **texts, "group": None if row.group is None else list(map(storable, row.group)), **maps}


def options_text(options: Mapping[str, object]) -> str:
    """Return options in the form of the columns ``method_options`` and ``metric_options``: JSON with sorted keys."""
    return json.dumps(dict(options), sort_keys=True, ensure_ascii=False, default=str)
