"""The explained and the predicted classes of an image, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relprop.text import check_labels, class_name
from relprop.viz.drawable import Drawable
from relprop.viz.scores import Score, top_scores


@dataclass(frozen=True)
class Named:
    """An explained class: its name, number and logit; or another target in words, without a number, and its value."""

    name: str
    index: int | None
    logit: float

    @property
    def score(self) -> str:
        """The logit in words; that it is negative is said."""
        what = "value" if self.index is None else "logit"
        return f"{what} {self.logit:.2f}".replace("-", "−") + ", negative" * (self.logit < 0)

    @property
    def title(self) -> str:
        """Name, number and logit."""
        number = "" if self.index is None or self.name == f"class {self.index}" else f"class {self.index}  ·  "
        return f"{self.name}  ·  {number}{self.score}"

    @property
    def short(self) -> str:
        """Name and logit."""
        return f"{self.name}  ·  {self.score}"


def explained_classes(explanation: Drawable, image: int, labels: Sequence[str] | None) -> list[Named]:
    """Return what was explained of one image: its classes, or one target in words; none where the user gave relevance of the output.

    Raises:
        InputError: There are class names, of another number than the classes.
    """
    logits = _logits(explanation, image)
    if explanation.target is None or logits.dim() != 1:
        value = explanation.value
        return [] if value is None or not explanation.words else [Named(explanation.words[image], None, float(value[image]))]
    check_labels(labels, len(logits))
    targets = explanation.target.reshape(len(explanation.logits), -1)[image].tolist()
    return [Named(class_name(index, labels), index, float(logits[index])) for index in targets]


def class_scores(explanation: Drawable, image: int, labels: Sequence[str] | None) -> tuple[Score, ...]:
    """Return the most probable classes of one image and the explained ones; none where something else was explained."""
    explained = [named.index for named in explained_classes(explanation, image, labels) if named.index is not None]
    if not explained:
        return ()
    shown = explanation.probabilities[image].detach().to("cpu", torch.float32).tolist()
    return top_scores(shown, [class_name(number, labels) for number in range(len(shown))], explained)


def predicted_class(explanation: Drawable, image: int, labels: Sequence[str] | None) -> tuple[Named, float] | None:
    """Return the class of the largest logit of one image, with its probability; None where no class was explained."""
    logits = _logits(explanation, image)
    if explanation.target is None or logits.dim() != 1:
        return None
    best = int(logits.argmax())
    return Named(class_name(best, labels), best, float(logits[best])), float(explanation.probabilities[image, best])


def _logits(explanation: Drawable, image: int) -> Tensor:
    return explanation.logits[image].detach().float().cpu()
