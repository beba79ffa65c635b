"""The list of predicted classes beside a map."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """A predicted class: its name, probability in [0, 1], and whether it is an explained one."""

    name: str
    probability: float
    explained: bool = False


def top_scores(
    probabilities: Sequence[float], names: Sequence[str], explained: Sequence[int], count: int = 5
) -> tuple[Score, ...]:
    """Return the ``count`` most probable classes, most probable first, and the explained ones that are not among them."""
    order = sorted(range(len(probabilities)), key=lambda index: -probabilities[index])[:count]
    shown = [*order, *(index for index in dict.fromkeys(explained) if index not in order)]
    return tuple(Score(names[index], probabilities[index], index in explained) for index in shown)
