"""The list of predicted classes beside a map."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """A predicted class.

    Attributes:
        name: Its name.
        probability: In [0, 1].
        explained: Whether it is an explained class, shown in the red of the maps.
        rival: Whether it is what the explained class is set against, shown in their blue.
    """

    name: str
    probability: float
    explained: bool = False
    rival: bool = False


def top_scores(
    probabilities: Sequence[float], names: Sequence[str], explained: Sequence[int], count: int = 5
) -> tuple[Score, ...]:
    """Return the ``count`` most probable classes, most probable first, and the explained ones that are not among them."""
    order = sorted(range(len(probabilities)), key=lambda index: -probabilities[index])[:count]
    shown = [*order, *(index for index in dict.fromkeys(explained) if index not in order)]
    return tuple(Score(names[index], probabilities[index], index in explained) for index in shown)
