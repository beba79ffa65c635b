"""What is known of the parts of a sample, in classes of the model: the scenes of ``relprop.metrics.parts``."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from relprop.datasets import Facts, Sample
from relprop.errors import InputError
from relprop.metrics.parts import Twin


@dataclass(frozen=True)
class ModelScene:
    """What is known of the parts of a sample, see :class:`relprop.metrics.parts.Scene`; ``classes`` are the model's of the data set's."""

    sample: Sample
    classes: Sequence[int]

    @property
    def _facts(self) -> Facts:
        if self.sample.facts is None:
            raise InputError(f"{self.sample.id} has no images without its parts.")
        return self.sample.facts

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each number in the map of parts."""
        return self._facts.names

    @property
    def object_parts(self) -> tuple[str, ...]:
        """The names of the object's own parts."""
        return self._facts.object_parts

    @property
    def sufficient(self) -> tuple[frozenset[str], ...]:
        """The minimal sets of parts that tell the class from every other."""
        return self._facts.sufficient

    @property
    def twins(self) -> tuple[Twin, Twin] | None:
        """The twins of the class, in classes of the model."""
        found = self._facts.twins
        return None if found is None else ((self.classes[found[0][0]], found[0][1]), (self.classes[found[1][0]], found[1][1]))

    def without(self, parts: frozenset[str]) -> Tensor:
        """Return the input without some parts."""
        if self.sample.without is None:
            raise InputError(f"{self.sample.id} has no images without its parts.")
        return self.sample.without(parts)
