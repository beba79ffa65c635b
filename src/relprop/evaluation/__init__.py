"""Evaluation runs: models × methods × metrics over a set of images, one row each, in Parquet (extra `evaluate`)."""

from relprop.evaluation.formats import Report
from relprop.evaluation.rows import SCHEMA, Row
from relprop.evaluation.run import Forecast, Observer, Summary, evaluate, forecast
from relprop.evaluation.settings import Choice, Evaluation, ModelChoice, choices, models
from relprop.evaluation.store import read_maps, read_rows, read_settings
from relprop.evaluation.summary import report

__all__ = [
    "SCHEMA", "Choice", "Evaluation", "Forecast", "ModelChoice", "Observer", "Report", "Row", "Summary", "choices", "evaluate",
    "forecast", "models", "read_maps", "read_rows", "read_settings", "report",
]  # fmt: skip
