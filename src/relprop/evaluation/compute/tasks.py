"""The parts of a run: pairs of a model and a method, and tasks, one block of images each."""

from dataclasses import dataclass

from relprop.evaluation.settings import Choice, ModelChoice


@dataclass(frozen=True)
class Pair:
    """A model and a method."""

    model: ModelChoice
    method: Choice

    @property
    def key(self) -> str:
        """A text that identifies the pair."""
        return f"{self.model.key}\n{self.method.key}"

    def __str__(self) -> str:
        """Return the name of the pair in messages."""
        return f"{self.model} × {self.method}"


@dataclass(frozen=True)
class Task:
    """One unit of work: a block of images, a pair, and the metrics to compute."""

    pair: Pair
    block: int
    images: tuple[str, ...]
    metrics: tuple[Choice, ...]
