"""The metrics of a run: found by name and checked before anything runs."""

import inspect
from dataclasses import dataclass

from relprop.evaluation.settings import Choice
from relprop.integrations.quantus import quantus_spec
from relprop.metrics import Metric, MetricSpec, Need, metric
from relprop.metrics.base import OF_EXPLANATION

_QUANTUS = "quantus:"


@dataclass(frozen=True)
class Measure:
    """A metric as the settings name it.

    Attributes:
        choice: Its name and options in the settings.
        metric: The metric.
    """

    choice: Choice
    metric: Metric

    @property
    def spec(self) -> MetricSpec:
        """The metric as data."""
        return self.metric.spec

    @property
    def explained(self) -> bool:
        """Whether it takes the explanation of the images themselves."""
        return not OF_EXPLANATION.isdisjoint(self.spec.needs)

    @property
    def images_each(self) -> int:
        """How many images one row takes; 0 for a metric that captures other models at every call, which then takes a whole block."""
        return 0 if Need.MAKE_EXPLAIN in self.spec.needs else self.spec.group


def make_measure(choice: Choice, seed: int) -> Measure:
    """Find a metric; one that draws the same for all images takes the run's seed where none is given.

    Raises:
        OptionError: An unknown metric or option.
    """
    if choice.name.startswith(_QUANTUS):
        return Measure(choice, Metric(quantus_spec(choice.name.removeprefix(_QUANTUS), **choice.options)))
    made = metric(choice.name, **choice.options)
    draws = "seed" in inspect.signature(made.spec.update).parameters
    return Measure(choice, metric(choice.name, **{"seed": seed, **choice.options}) if draws else made)
