"""Targets: what is explained, from one class to a region of a segmentation, a box, a unit or a similarity.

Every target becomes, at one place, a value of the captured model that it reads (:func:`reading_of`) and weights of that value, per map
(:func:`ask`): the explained number is ``Σ weights · value``.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from relprop.errors import TargetError
from relprop.targets.asked import Aim, Asked, Head
from relprop.targets.classes import of_binary, of_class, of_classes, of_contrast, of_indices, of_output
from relprop.targets.fixed import Fixed, joined, of_fixed
from relprop.targets.grammar import GRAMMAR, read_target
from relprop.targets.kinds import (
    Binary,
    Box,
    Class,
    Classes,
    Contrast,
    Neuron,
    Output,
    Pixels,
    Reading,
    Similarity,
    Target,
)
from relprop.targets.names import Top, class_indices, parse_target
from relprop.targets.places import of_box, of_neuron, of_pixels, of_similarity
from relprop.targets.reading import reading_of

__all__ = [
    "GRAMMAR", "Aim", "Asked", "Binary", "Box", "Class", "Classes", "Contrast", "Fixed", "Head", "Neuron", "Output", "Pixels", "Reading",
    "Similarity", "Target", "Top", "ask", "class_indices", "joined", "parse_target", "per_sample", "read_target", "reading_of",
]  # fmt: skip

_KINDS: Mapping[type, Callable[[Any, Tensor, Head], Asked]] = {
    Class: of_class,
    Classes: of_classes,
    Contrast: of_contrast,
    Output: of_output,
    Binary: of_binary,
    Pixels: of_pixels,
    Box: of_box,
    Similarity: of_similarity,
    Neuron: of_neuron,
    Fixed: of_fixed,
}
"""What every kind of target asks of an output."""


def ask(target: object, output: Tensor, head: Head) -> Asked:
    """Set a target against the output of a batch.

    Args:
        target: A target of any kind; else classes as :func:`class_indices` takes them.
        output: The value that :func:`reading_of` names, ``(B, …)``.
        head: What is known of it.

    Raises:
        TargetError: The target does not fit the output.
    """
    return _KINDS.get(type(target), of_indices)(target, output, head)


def per_sample(target: object, batch: int) -> bool:
    """Return whether a list holds one target for each sample, of which some are more than a class.

    Raises:
        TargetError: It is of another length than the batch.
    """
    if not isinstance(target, list | tuple) or not any(type(part) in _KINDS for part in target):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return False
    if len(target) != batch:  # pyright: ignore[reportUnknownArgumentType]
        raise TargetError(f"There are {len(target)} targets for {batch} samples; give one target, or one per sample.")  # pyright: ignore[reportUnknownArgumentType]
    return True
