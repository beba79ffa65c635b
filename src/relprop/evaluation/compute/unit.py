"""Compute the rows of one block of images, for one model and one method."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from relprop.datasets import Failure, Sample
from relprop.evaluation.compute.asking import Asking
from relprop.evaluation.compute.batches import Batches, Failed
from relprop.evaluation.compute.loading import Loaded, image_seed
from relprop.evaluation.compute.measures import Measure
from relprop.evaluation.compute.scenes import ModelScene
from relprop.evaluation.compute.subject import Subject
from relprop.evaluation.results.rows import FAILED, Row, options_text
from relprop.explainer import Explainer
from relprop.metrics import Follows, Need
from relprop.targets import Fixed

NOT_FINITE = "The relevance has NaN or infinite values."


@dataclass(frozen=True)
class Explained:
    """The explanations of some images, in the block's order, and the seconds per image.

    ``logits`` and ``probabilities`` are there where the output holds those of classes, ``target`` where a class is explained, whatever else
    the target names; ``conserved`` is what relevance and absorbed relevance should add up to: what the method promises, or
    else the explained number. ``words`` say what is explained.
    """

    relevance: Tensor
    absorbed: Tensor
    logits: Tensor | None
    probabilities: Tensor | None
    target: Tensor | None
    conserved: Tensor | None
    words: tuple[str, ...]
    seconds: float = 0.0

    def row(self, place: int, seconds: float) -> "Explained | str":
        """Return the explanation of one image, or ``NOT_FINITE``."""
        if not bool(self.relevance[place].isfinite().all()):
            return NOT_FINITE
        rows = slice(place, place + 1)
        there = {name: part[rows] for name, part in vars(self).items() if name != "seconds" and part is not None}
        return replace(self, **there, seconds=seconds)


class Unit:
    """One block of images for one subject; its metrics share the explanations.

    Args:
        subject: The model and its explainer.
        images: The images of the block; a ``Failure`` for each that cannot be read.
        batches: The batch size.
        stamp: A row with the columns that all rows share.
        asking: What is explained.
    """

    def __init__(self, subject: Subject, images: Sequence[Loaded], batches: Batches, stamp: Row, asking: Asking) -> None:
        self.subject, self.images, self.batches, self.stamp, self.asking = subject, images, batches, stamp, asking
        self.unreadable = {index: image.reason for index, image in enumerate(images) if isinstance(image, Failure)}
        self.samples = {index: image for index, image in enumerate(images) if isinstance(image, Sample)}

    def rows(self, measure: Measure) -> list[Row]:
        """Return the rows of one metric, image by image.

        Raises:
            NoMemory: A single image does not fit into memory.
        """
        return self._grouped(measure) if measure.spec.group > 1 else self._single(measure)

    @cached_property
    def explained(self) -> Mapping[int, Explained | str]:
        """The explanation of each image, cached for all metrics, or the reason why there is none.

        Raises:
            NoMemory: A single image does not fit into memory.
        """
        unasked = {index: reason for index in self.samples if (reason := self.asking.lacks(self.samples[index])) is not None}
        explained: dict[int, Explained | str] = dict(unasked)
        wanted = [index for index in self.samples if index not in explained]
        cells = self.subject.cells
        numbers = {0} if cells is None else {self.samples[index].cell for index in wanted}
        for number in sorted(numbers):
            explainer = self.subject.explainer if cells is None else cells.explainer(number)
            alike = [index for index in wanted if cells is None or self.samples[index].cell == number]
            for part, (found, seconds) in self._timed(alike, partial(self._explain_part, explainer)):
                for place, index in enumerate(part):
                    explained[index] = found.reason if isinstance(found, Failed) else found.row(place, seconds)
        return dict(sorted(explained.items()))

    def _explain_part(self, explainer: Explainer, part: list[int]) -> Explained:
        inputs = self.inputs(part)
        target = self.asking.of(self.subject, [self.samples[index] for index in part], inputs)
        # targets of each image, fixed together, are explained as one batch
        found = explainer(inputs, explainer.fixed(inputs, target) if isinstance(target, list) else target)
        logits = (found.logits, found.probabilities) if self.asking.of_classes else (None, None)
        labels = [self.asking.class_of(self.samples[index]) for index in part]
        classes = torch.tensor(labels) if found.target is None and self.asking.labeled else found.target
        conserved = found.value if found.conserved is None else found.conserved
        return Explained(found.relevance, found.absorbed, *logits, classes, conserved, found.words)

    def fixed(self, part: list[int]) -> Fixed:
        """Return the target of some images, with the choices that it makes on them."""
        inputs = self.inputs(part)
        return self.subject.explainer.fixed(inputs, self.asking.of(self.subject, [self.samples[i] for i in part], inputs))

    def _single(self, measure: Measure) -> list[Row]:
        reasons = {**self.unreadable, **{i: reason for i in self.samples if (reason := self._lacks(measure, i)) is not None}}
        rows = {index: self._failure(measure, index, reason) for index, reason in reasons.items()}
        wanted = [index for index in self.samples if index not in rows]
        for part, (scores, seconds) in self._timed(wanted, lambda part: self._measure(measure, part), measure.images_each):
            for place, index in enumerate(part):
                row, one = self._row(measure, index, scores, place), self.explained[index] if measure.explained else None
                if isinstance(one, Explained):
                    target = None if one.target is None else int(one.target)
                    row, seconds_each = replace(row, target=target), seconds + one.seconds
                else:
                    seconds_each = seconds
                rows[index] = replace(row, seconds=seconds_each)
        return [rows[index] for index in sorted(rows)]

    def _lacks(self, measure: Measure, index: int) -> str | None:
        """Return the missing explanation or annotation as a sentence; None if the metric can score the image."""
        explanation = self.explained[index] if measure.explained else None
        if isinstance(explanation, str):
            return explanation
        needs, sample = measure.spec.needs, self.samples[index]
        if Need.MASK in needs and self.asking.mask(sample) is None:
            return self.asking.lacks_mask(sample)
        if Need.PARTS in needs and sample.parts is None:
            return f"{sample.id} has no map of parts or cells."
        if Need.SCENES in needs and sample.facts is None:
            return f"{sample.id} has no images without its parts."
        return None

    def _measure(self, measure: Measure, part: list[int]) -> list[dict[str, Tensor]]:
        """Return the scores and, for metrics scored over a set, the statistics of some images, one row each."""
        number = measure.spec.follows is Follows.NUMBER and not self.asking.of_class
        given = self._of_number(self.fixed(part), measure.spec.needs) if number else {}
        wanted = {name: given[name] if name in given else NEEDS[name](self, part) for name in measure.spec.needs}
        scores, statistics = measure.metric.score(**wanted)
        summed = statistics if "set" in measure.spec.over else {}
        return [{name: value.detach().cpu().double() for name, value in table.items()} for table in (scores, summed)]

    def _of_number(self, fixed: Fixed, needs: Sequence[Need]) -> dict[Need, Any]:
        """Return what a metric gets that follows another number than the logit of a class: a model with that number as its only output."""
        explainer = self.subject.explainer

        def model(inputs: Tensor) -> Tensor:
            return explainer.values(inputs, fixed)[:, None]

        def explain(inputs: Tensor, _: Tensor) -> Tensor:
            return explainer(inputs, fixed).relevance

        def make_explain(module: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
            other = self.make_explain(module)
            return lambda inputs, _: other(inputs, fixed)

        target = torch.zeros(len(fixed), dtype=torch.long, device=self.subject.device)
        given = {Need.TARGET: target, Need.MODEL: model, Need.EXPLAIN: explain, Need.MAKE_EXPLAIN: make_explain}
        return {need: given[need] for need in needs if need in given}

    def stacked(self, name: str, part: list[int]) -> Tensor:
        """Concatenate one tensor of the explanations of some images."""
        return torch.cat([getattr(self.explained[index], name) for index in part])

    def masks(self, part: list[int]) -> Tensor:
        """Return the masks of some images, ``(B, H, W)``."""
        found = [self.asking.mask(self.samples[index]) for index in part]
        return torch.stack([mask for mask in found if mask is not None]).to(self.subject.device)

    def parts(self, part: list[int]) -> Tensor:
        """Return the maps of parts of some images, ``(B, H, W)``."""
        found = [self.samples[index].parts for index in part]
        return torch.stack([numbers for numbers in found if numbers is not None]).to(self.subject.device)

    def scenes(self, part: list[int]) -> list[ModelScene]:
        """Return what is known of the parts of some images, in classes of the model."""
        return [ModelScene(self.samples[index], self.asking.classes or range(self.subject.classes)) for index in part]

    def seeds(self, part: list[int]) -> list[int]:
        """Return the seeds of some images."""
        return [image_seed(self.stamp.seed, self.images[index].id) for index in part]

    def inputs(self, part: list[int]) -> Tensor:
        """Return the inputs of some images."""
        return torch.stack([self.samples[index].image for index in part]).to(self.subject.device)

    def make_explain(self, module: nn.Module) -> Callable[[Tensor, Tensor | Fixed], Tensor]:
        """Capture another model for the same method; return its explain function, which runs in batches."""
        explainer = self.subject.build(module)

        def explain(inputs: Tensor, target: Tensor | Fixed) -> Tensor:
            starts = range(0, len(inputs), self.batches.size)
            parts = [slice(start, start + self.batches.size) for start in starts]
            return torch.cat([explainer(inputs[part], target[part]).relevance for part in parts])

        return explain

    def _grouped(self, measure: Measure) -> list[Row]:
        size = measure.spec.group
        groups = [list(range(start, start + size)) for start in range(0, len(self.images) - size + 1, size)]
        rows: dict[int, Row] = {}
        for number, group in enumerate(groups):
            broken = [index for index in group if index not in self.samples]
            if broken:
                rows[number] = replace(self._failure(measure, group[0], self.unreadable[broken[0]]), group=self._names(group))
        wanted = [number for number in range(len(groups)) if number not in rows]

        def work(numbers: list[int]) -> list[dict[str, Tensor]]:
            return self._measure(measure, [index for number in numbers for index in groups[number]])

        for part, (scores, seconds) in self._timed(wanted, work, size):
            for place, number in enumerate(part):
                row = self._row(measure, groups[number][0], scores, place)
                rows[number] = replace(row, group=self._names(groups[number]), seconds=seconds)
        return [rows[number] for number in sorted(rows)]

    def _names(self, group: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.images[index].id for index in group)

    def _timed(
        self, items: Sequence[int], work: Callable[[list[int]], Any], each: int = 1
    ) -> Iterator[tuple[list[int], tuple[Any, float]]]:
        """Yield each batch with its result and the seconds per item."""
        if not items:
            return
        start = time.perf_counter()
        for part, result in self.batches.run(items, work, each):
            if self.subject.device.type == "cuda":
                torch.cuda.synchronize(self.subject.device)
            now = time.perf_counter()
            yield part, (result, (now - start) / len(part))
            start = time.perf_counter()

    def _row(self, measure: Measure, index: int, scores: list[dict[str, Tensor]] | Failed, place: int) -> Row:
        if isinstance(scores, Failed):
            return self._failure(measure, index, scores.reason)
        values, statistics = scores
        return replace(
            self._blank(measure, index),
            scores={name: float(value[place]) for name, value in values.items() if value.dim() == 1},
            curves={name: value[place].tolist() for name, value in values.items() if value.dim() > 1},
            statistics={name: value[place].reshape(-1).tolist() for name, value in statistics.items()},
        )

    def _failure(self, measure: Measure, index: int, reason: str) -> Row:
        return replace(self._blank(measure, index), status=FAILED, reason=reason)

    def _blank(self, measure: Measure, index: int) -> Row:
        return _blank(self.stamp, measure, self.images[index].id)


def _blank(stamp: Row, measure: Measure, image: str) -> Row:
    text = options_text(measure.choice.options)
    return replace(stamp, image=image, metric=measure.choice.name, metric_options=text)


def failed_rows(stamp: Row, measure: Measure, images: Sequence[str], reason: str) -> list[Row]:
    """Return the failed rows of a block that could not be computed."""
    size = measure.spec.group
    groups = [tuple(images[start : start + size]) for start in range(0, len(images) - size + 1, size)]
    rows = [replace(_blank(stamp, measure, group[0]), status=FAILED, reason=reason) for group in groups]
    return [replace(row, group=group) for row, group in zip(rows, groups, strict=True)] if size > 1 else rows


NEEDS: Mapping[Need, Callable[[Unit, list[int]], Any]] = {
    Need.RELEVANCE: lambda unit, part: unit.stacked("relevance", part),
    Need.ABSORBED: lambda unit, part: unit.stacked("absorbed", part),
    Need.LOGITS: lambda unit, part: unit.stacked("logits", part),
    Need.TARGET: lambda unit, part: unit.stacked("target", part),
    Need.CONSERVED: lambda unit, part: unit.stacked("conserved", part),
    Need.MASK: lambda unit, part: unit.masks(part),
    Need.PARTS: lambda unit, part: unit.parts(part),
    Need.SCENES: lambda unit, part: unit.scenes(part),
    Need.INPUTS: lambda unit, part: unit.inputs(part),
    Need.SEEDS: lambda unit, part: unit.seeds(part),
    Need.MODEL: lambda unit, _: unit.subject.logits,
    Need.MODULE: lambda unit, _: unit.subject.module,
    Need.EXPLAIN: lambda unit, _: unit.subject.explain,
    Need.EXPLAIN_LAYERS: lambda unit, _: unit.subject.explain_layers,
    Need.MAKE_EXPLAIN: lambda unit, _: unit.make_explain,
}
"""The provider of each need: unit, indices of images → keyword argument of ``update``."""
