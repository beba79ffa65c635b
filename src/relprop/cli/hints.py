"""Hints at what a user may have overlooked."""

from collections.abc import Sequence

from torch import Tensor

from relprop.cli.terminal import note
from relprop.heads import activation_for
from relprop.text import percent

DOUBT = 0.05
"""The share of the way from chance to certainty below which a model's best class is hardly a decision."""


def note_misfit(logits: Sequence[Tensor], activation: str | None, where: str = "") -> None:
    """Print the hint of :func:`misfit_hint`, if there is one, after the name of the model or nothing."""
    hint = misfit_hint(logits, activation)
    if hint is not None:
        note(where + hint)


def misfit_hint(logits: Sequence[Tensor], activation: str | None) -> str | None:
    """Return a hint where a model hardly decides for any of the photos, as with weights of another preprocessing.

    Under a sigmoid there is none: a model of several labels may well find none of them.

    Args:
        logits: ``(1, C)`` of each photo.
        activation: The activation of the model's head, see :mod:`relprop.heads`.
    """
    if not logits or activation_for(logits[0], activation) == "sigmoid" or logits[0].shape[1] < 2:
        return None
    classes = logits[0].shape[1]
    best = [float(one.softmax(1).max()) for one in logits]
    if any((value - 1 / classes) / (1 - 1 / classes) >= DOUBT for value in best):
        return None
    what = "the photo" if len(best) == 1 else f"any of the {len(best)} photos"
    where = f"on {what} (at best {percent(max(best), 1)})"
    return (
        f"The model hardly decides for a class {where}; if that is far below what it usually reaches, its weights "
        "may not fit the preprocessing: see --mean, --std, --scale and --size."
    )
