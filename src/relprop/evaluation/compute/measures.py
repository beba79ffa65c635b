"""The metrics of a run: found by name, checked before anything runs, and what they take from a batch."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relprop.evaluation.settings import Choice
from relprop.metrics import MetricSpec, metric

OF_EXPLANATION = frozenset({"relevance", "absorbed", "logits", "target"})
"""What ``MetricSpec.needs`` takes from the explanation that metrics share."""


@dataclass(frozen=True)
class Measure:
    """A metric of the run: the choice, its spec, and all options that its ``update`` gets."""

    choice: Choice
    spec: MetricSpec
    options: Mapping[str, Any]

    @property
    def explained(self) -> bool:
        """Whether it takes the explanation of the images themselves."""
        return bool(OF_EXPLANATION & set(self.spec.needs))

    @property
    def images_each(self) -> int:
        """How many images one row takes; 0 for a metric that captures other models at every call, which then takes a whole block."""
        return 0 if "make_explain" in self.spec.needs else self.spec.group


def make_measure(choice: Choice, seed: int) -> Measure:
    """Find a metric; one that draws the same for all images takes the run's seed where none is given.

    Raises:
        OptionError: An unknown metric or option.
    """
    if choice.name.startswith("quantus:"):
        from relprop.integrations.quantus import quantus_spec

        spec, options = quantus_spec(choice.name.removeprefix("quantus:"), **choice.options), dict[str, Any]()
    else:
        made = metric(choice.name, **choice.options)
        drawn = "seed" in inspect.signature(made.spec.update).parameters
        spec, options = made.spec, {**({"seed": seed} if drawn else {}), **made.options}
    return Measure(choice, spec, options)
