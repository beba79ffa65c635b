"""Which value of a captured model a target reads."""

import math

from relprop.errors import TargetError
from relprop.targets.fixed import Fixed
from relprop.targets.kinds import Neuron, Output, Reading, Similarity


def reading_of(target: object) -> Reading:
    """Return which value a target reads: but for three kinds of target the model's output as it is.

    Raises:
        TargetError: A layer is no path, or a reference no number.
    """
    match target:
        case Fixed(reading=reading):
            return reading
        case Neuron(layer=layer):
            if not isinstance(layer, str | None):  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
                raise TargetError(f"The layer of a neuron is the path of a module, not {layer!r}.")
            return Reading(layer=layer)
        case Output(reference=reference):
            if not isinstance(reference, int | float) or not math.isfinite(reference):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TargetError(f"The reference of an output is a number, not {reference!r}.")
            return Reading(reference=float(reference))
        case Similarity(measure="cosine"):
            return Reading(unit=True)
        case _:
            return Reading()
