"""What is explained of every image: a class, a target for all, or what the data set's annotations name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from relprop.datasets import Sample
from relprop.errors import ModelError, TargetError
from relprop.evaluation.compute.subject import Subject
from relprop.metrics import box_mask
from relprop.targets import Binary, Box, Class, Classes, Contrast, Pixels, Target
from relprop.zoo.detectors import match_box, raw_boxes


@dataclass(frozen=True)
class Asking:
    """What is explained of every image; nothing said, the class that the model predicts.

    Attributes:
        classes: The model's class of each class of the data set, where the first label is explained.
        target: A target for all images.
        place: Whether the label is explained at the pixels of its ``mask``, or at the raw box that matches one of its ``boxes``.
    """

    classes: Sequence[int] | None = None
    target: Target | None = None
    place: Literal["mask", "boxes"] | None = None

    @property
    def labeled(self) -> bool:
        """Whether the first label of an image is explained."""
        return self.classes is not None

    @property
    def of_class(self) -> bool:
        """Whether a class of an output ``(B, C)`` is explained."""
        return self.place is None and isinstance(self.target, Class | Binary | None)

    @property
    def of_classes(self) -> bool:
        """Whether the output holds the logits of classes, ``(B, C)``, of which one is predicted."""
        return self.of_class or isinstance(self.target, Contrast | Classes)

    def class_of(self, sample: Sample) -> int | None:
        """Return the model's class of the first label; None where no label is explained."""
        return None if self.classes is None else self.classes[sample.labels[0]]

    def lacks(self, sample: Sample) -> str | None:
        """Return why nothing can be asked of a sample, as a sentence; None where it can."""
        if self.labeled and not sample.labels:
            return f"{sample.id} has no label."
        if self.place == "boxes" and not len(self._boxes(sample)):
            return f"{sample.id} has no box of its label."
        return self.lacks_mask(sample) if self.place == "mask" and self.mask(sample) is None else None

    def lacks_mask(self, sample: Sample) -> str:
        """Return the sentence on a sample without a mask."""
        return f"{sample.id} has neither mask nor boxes{' of its label' if self.labeled else ''}."

    def mask(self, sample: Sample) -> Tensor | None:
        """Return the mask of what is explained, ``(H, W)``: of the label, or of any object; from boxes if there is no mask, None without either.

        Where a box is explained, it is what of the mask lies in that box.
        """
        label = self._label(sample)
        boxes = self._boxes(sample)
        height, width = sample.image.shape[-2:]
        inside = box_mask([boxes], (height, width))[0].to(torch.uint8) if len(boxes) else None
        if sample.mask is None:
            return inside
        found = sample.object_mask(label)
        within = None if inside is None or self.place != "boxes" else found * inside
        return found if within is None else within if bool(within.eq(1).any()) else inside

    def of(self, subject: Subject, samples: Sequence[Sample], inputs: Tensor) -> Tensor | Target | list[Target] | None:
        """Return the target of some images, as explainers take it.

        Raises:
            TargetError: No raw box of the model overlaps an annotated one.
        """
        if self.target is not None or self.classes is None:
            return self.target
        labels = [self.classes[sample.labels[0]] for sample in samples]
        if self.place is None:
            return torch.tensor(labels)
        if self.place == "mask":
            size = tuple(subject.explainer.captured.output.meta["val"].shape[2:])
            pairs = zip(labels, samples, strict=True)
            return [Pixels(label, mask=_resized(mask, size)) for label, one in pairs if (mask := self.mask(one)) is not None]
        scores, raw = subject.logits(inputs), raw_boxes(subject.module, inputs)
        return [
            Box(_matched(one, self._boxes(one)[0], boxes, logits[:, label]), label)
            for one, label, boxes, logits in zip(samples, labels, raw, scores, strict=True)
        ]

    def _label(self, sample: Sample) -> int | None:
        return sample.labels[0] if self.labeled and sample.labels else None

    def _boxes(self, sample: Sample) -> Tensor:
        """The boxes of the label, or of any object, ``(n, 4)``; where a box is explained, the largest alone."""
        boxes = sample.boxes_of(self._label(sample))
        if self.place != "boxes" or not len(boxes):
            return boxes
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return boxes[areas.argmax(), None]


def _matched(sample: Sample, box: Tensor, boxes: Tensor, logits: Tensor) -> int:
    found = match_box(boxes, logits, box)
    if found is None:
        raise TargetError(f"No raw box of the model overlaps the annotated box of {sample.id}.")
    return found


def _resized(mask: Tensor, size: tuple[int, ...]) -> Tensor:
    """Shrink a mask ``(H, W)`` to an output's pixels: each gets the share of it that the mask covers; void pixels cover nothing."""
    return nn.functional.interpolate(mask.eq(1).float()[None, None], size, mode="area")[0, 0]


def no_place(subject: Subject, place: Literal["mask", "boxes"]) -> str | None:
    """Return the sentence on an output that has no pixels, or no raw boxes; None where it has them."""
    output, example = subject.explainer.captured.output.meta["val"], subject.example
    shown = f"the explained output has shape (batch, {', '.join(map(str, output.shape[1:]))}); choose another with tensor=."
    if place == "mask":
        return (
            None if output.dim() == 4 else f"The target mask needs a segmentation, (batch, classes, rows, columns), and {shown}"
        )
    if output.dim() != 3:
        return f"The target boxes needs the raw class logits of a detector, (batch, boxes, classes), and {shown}"
    try:
        found = raw_boxes(subject.module, example).shape[1]
    except ModelError as error:
        return str(error)
    return None if found == output.shape[1] else f"The model says {found} raw boxes and returns logits of {output.shape[1]}."
