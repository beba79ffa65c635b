"""Evaluation runs: models × methods × metrics over a set of images, one row each, in Parquet (extra ``evaluate``)."""

from relprop.errors import ModelError
from relprop.extras import missing_extra
from relprop.lazy import submodules

try:
    from relprop.evaluation.report.report import Report
    from relprop.evaluation.report.summarize import report
    from relprop.evaluation.results.maps import read_maps
    from relprop.evaluation.results.rows import SCHEMA, Row
    from relprop.evaluation.results.run_file import read_settings
    from relprop.evaluation.results.store import read_rows
    from relprop.evaluation.run import Forecast, Observer, RunResult, evaluate, forecast
    from relprop.evaluation.settings import Choice, Evaluation, ModelChoice, choices, models
except ModuleNotFoundError as error:
    raise (error if missing_extra(error) is None else ModelError(f"Evaluations: {missing_extra(error)}")) from error

__all__ = [
    "SCHEMA", "Choice", "Evaluation", "Forecast", "ModelChoice", "Observer", "Report", "Row", "RunResult", "choices", "evaluate",
    "forecast", "models", "read_maps", "read_rows", "read_settings", "report",
]  # fmt: skip

__getattr__ = submodules(__name__, __path__)
