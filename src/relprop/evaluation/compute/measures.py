"""The metrics of a run, looked up by name and checked before the run starts."""

import inspect
from dataclasses import dataclass

from relprop.evaluation.settings import Choice
from relprop.integrations.quantus import quantus_spec
from relprop.metrics import Metric, MetricSpec, Need, metric
from relprop.metrics.base import OF_EXPLANATION

_QUANTUS = "quantus:"


@dataclass(frozen=True)
class Measure:
    """A metric with its name in the settings.

    Attributes:
        choice: The name and options in the settings.
        metric: The metric with its options.
    """

    choice: Choice
    metric: Metric

    @property
    def spec(self) -> MetricSpec:
        """The metric as data."""
        return self.metric.spec

    @property
    def explained(self) -> bool:
        """Whether the metric needs the explanations of the block's images."""
        return not OF_EXPLANATION.isdisjoint(self.spec.needs)

    @property
    def images_each(self) -> int:
        """Number of images per row; 0 for a metric that captures other models in every call and thus takes a whole block."""
        return 0 if Need.MAKE_EXPLAIN in self.spec.needs else self.spec.group


def make_measure(choice: Choice, seed: int, activation: str | None = None) -> Measure:
    """Look up a metric; if it has an option ``seed`` or ``activation``, the run's seed and the model's activation are the defaults.

    Raises:
        OptionError: An unknown metric or option.
    """
    if choice.name.startswith(_QUANTUS):
        return Measure(choice, Metric(quantus_spec(choice.name.removeprefix(_QUANTUS), **choice.options)))
    made = metric(choice.name, **choice.options)
    parameters = inspect.signature(made.spec.update).parameters
    usual = {name: value for name, value in (("seed", seed), ("activation", activation)) if name in parameters}
    return Measure(choice, metric(choice.name, **{**usual, **choice.options}) if usual else made)
