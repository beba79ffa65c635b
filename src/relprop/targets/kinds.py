"""Targets as values: what a user asks of a model's output; :func:`relprop.targets.ask` sets them against the output of a batch."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

Index = int | str
"""A class: its index, or its name where the model has class names."""


@dataclass(frozen=True)
class Class:
    """One class: its logit, the same for all samples.

    Attributes:
        index: Its index or its name.
    """

    index: Index


@dataclass(frozen=True)
class Classes:
    """Several classes: a map of each, or with ``together`` one map of the sum of their logits.

    Attributes:
        indices: Their indices or names.
        together: Explain them as one: any dog, whichever breed.
    """

    indices: Sequence[Index]
    _: KW_ONLY
    together: bool = False


@dataclass(frozen=True)
class Contrast:
    """One class rather than another: the difference of their logits, ``y_a − y_b``, which is the log of the ratio of their probabilities.

    Attributes:
        index: The class; None for the predicted one.
        rival: The other; None for the strongest other one.
    """

    index: Index | None = None
    rival: Index | None = None


@dataclass(frozen=True)
class Output:
    """A number that the model returns: a regression, or the logit of a head with a single one.

    Attributes:
        index: Which of several numbers; None where there is one.
        reference: What the number is compared with, in its units: ``y − reference`` is explained, see Letzgus et al. (2022) on why
            regressions need one. It counts as part of the last layer's bias.
    """

    index: int | None = None
    _: KW_ONLY
    reference: float = 0.0


@dataclass(frozen=True)
class Binary:
    """One label of a head with a sigmoid for each: its logit, which no other label competes with. The final sigmoid is taken off.

    Attributes:
        index: Its index or its name.
    """

    index: Index


@dataclass(frozen=True, eq=False)
class Pixels:
    """A class at some pixels of a segmentation ``(B, C, H, W)``: the mean of its logits there.

    Rows and columns are those of the model's output, which may be smaller than the image. Without a mask, a point or a box these are the
    pixels where the class is predicted.

    Attributes:
        index: The class; None for the one that is predicted at most of the pixels.
        mask: Which pixels count, ``(H, W)`` or ``(B, H, W)``: booleans, or weights from 0 to 1.
        point: One pixel: row and column.
        box: Left, top, right and bottom, the last two not included.
    """

    index: Index | None = None
    _: KW_ONLY
    mask: Any = field(default=None, repr=False)
    point: Sequence[int] | None = None
    box: Sequence[int] | None = None


@dataclass(frozen=True)
class Box:
    """A class at one box of a detector's raw head ``(B, boxes, C)``, before boxes are suppressed: its logit.

    Attributes:
        index: The number of the box, anchor or query; None for the one with the largest logit of the class.
        category: The class; None for the one with the largest logit at the box.
    """

    index: int | None = None
    category: Index | None = None


@dataclass(frozen=True, eq=False)
class Similarity:
    """How similar an embedding ``(B, D)`` is to a given vector, such as an image to a text.

    Attributes:
        vector: ``(D,)``, or ``(B, D)`` for one of each sample.
        measure: ``"cosine"``, or ``"dot"`` for the product of both vectors as they are.
    """

    vector: Any = field(repr=False)
    _: KW_ONLY
    measure: Literal["cosine", "dot"] = "cosine"


@dataclass(frozen=True)
class Neuron:
    """A unit or a channel inside the model; what follows it plays no part.

    Attributes:
        layer: Path of the module whose output it belongs to; None for the output of the model.
        index: A channel, whose mean over positions is explained; or the place of one element in the output, without the batch.
    """

    layer: str | None
    index: int | Sequence[int]


Target = Class | Classes | Contrast | Output | Binary | Pixels | Box | Similarity | Neuron


@dataclass(frozen=True)
class Reading:
    """Which value of a captured model a target reads.

    Attributes:
        layer: Path of the module whose output it is; None for the model's output.
        reference: What is subtracted from it.
        unit: Whether every sample's vector is divided by its length.
    """

    layer: str | None = None
    reference: float = 0.0
    unit: bool = False
