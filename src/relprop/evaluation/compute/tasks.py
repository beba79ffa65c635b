"""What a run consists of: pairs of a model and a method, and for each its blocks of images."""

from dataclasses import dataclass

from relprop.evaluation.settings import Choice, ModelChoice


@dataclass(frozen=True)
class Pair:
    """A model and a method."""

    model: ModelChoice
    method: Choice

    @property
    def key(self) -> str:
        """A text that is the same for the same pair."""
        return f"{self.model.key}\n{self.method.key}"

    def __str__(self) -> str:
        """Return the pair as messages name it."""
        return f"{self.model} × {self.method}"


@dataclass(frozen=True)
class Task:
    """One unit of work: a block of images, for one pair, and the metrics that are to be computed on it."""

    pair: Pair
    block: int
    images: tuple[str, ...]
    metrics: tuple[Choice, ...]
