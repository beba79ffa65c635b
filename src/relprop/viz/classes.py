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
    """An explained class: its name, number and logit."""

    name: str
    index: int
    logit: float

    @property
    def score(self) -> str:
        """The logit in words; that it is negative is said."""
        return f"logit {self.logit:.2f}".replace("-", "−") + ", negative" * (self.logit < 0)

    @property
    def title(self) -> str:
        """Name, number and logit."""
        number = "" if self.name == f"class {self.index}" else f"class {self.index}  ·  "
        return f"{self.name}  ·  {number}{self.score}"

    @property
    def short(self) -> str:
        """Name and logit."""
        return f"{self.name}  ·  {self.score}"


def explained_classes(explanation: Drawable, image: int, labels: Sequence[str] | None) -> list[Named]:
    """Return the explained classes of one image; none where something else than classes was explained.

    Raises:
        InputError: There are class names, of another number than the classes.
    """
    logits = _logits(explanation, image)
    if explanation.target is None or logits.dim() != 1:
        return []
    check_labels(labels, len(logits))
    targets = explanation.target.reshape(len(explanation.logits), -1)[image].tolist()
    return [Named(class_name(index, labels), index, float(logits[index])) for index in targets]


def class_scores(explanation: Drawable, image: int, labels: Sequence[str] | None) -> tuple[Score, ...]:
    """Return the most probable classes of one image and the explained ones; none where something else was explained."""
    explained = [named.index for named in explained_classes(explanation, image, labels)]
    if not explained:
        return ()
    shown = explanation.probabilities[image].detach().to("cpu", torch.float32).tolist()
    return top_scores(shown, [class_name(number, labels) for number in range(len(shown))], explained)


def predicted_class(explanation: Drawable, image: int, labels: Sequence[str] | None) -> tuple[Named, float]:
    """Return the class of the largest logit of one image, with its probability."""
    logits = _logits(explanation, image)
    best = int(logits.argmax())
    return Named(class_name(best, labels), best, float(logits[best])), float(explanation.probabilities[image, best])


def _logits(explanation: Drawable, image: int) -> Tensor:
    return explanation.logits[image].detach().float().cpu()
