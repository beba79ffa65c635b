"""Averages of any method over shifted, flipped and noisy copies of the input; maps are shifted and flipped back first."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, Never

import torch
from torch import Tensor

from relprop import draws
from relprop.errors import InputError, OptionError
from relprop.explanation import Answer
from relprop.graph.model import CapturedModel
from relprop.inputs import Inputs, Request
from relprop.meaning import Meaning
from relprop.methods.options import at_least
from relprop.methods.protocol import AnyMethod, MethodPlan
from relprop.options import check_options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Move = Callable[[Tensor, int], Tensor]
"""Moves pixels, in so many of the last dimensions."""


@dataclass(frozen=True)
class Averaging:
    """Which copies of the input are averaged over; the input itself is one of them, unless there is noise.

    Attributes:
        shifts: Copies that are shifted, besides the one that is not.
        reach: The largest shift along a side, in pixels; pixels that leave at one border enter at the other. Signals are shifted in time,
            and the frames of a video or the slices of a volume all alike.
        flips: Whether every copy is mirrored from left to right too; not for signals, which would run backwards.
        noise: Standard deviation of the noise, as a share of a sample's range of values; zero for none.
        samples: Noisy copies of every shifted or mirrored one.
        seed: Seed of shifts and noise, which are the same for every sample.
    """

    shifts: int = 0
    reach: int = 8
    flips: bool = False
    noise: float = 0.0
    samples: int = 16
    seed: int = 0

    @property
    def moves_pixels(self) -> bool:
        """Whether copies are shifted or mirrored, so that only inputs with positions can be averaged."""
        return bool(self.shifts) or self.flips

    def moves(self) -> list[tuple[Move, Move]]:
        """The moves of pixels, and those that take them back."""
        source = draws.generator(self.seed)
        drawn = [draws.integers(-self.reach, self.reach + 1, (2,), source).tolist() for _ in range(self.shifts)]
        found: list[tuple[Move, Move]] = []
        for down, right in [(0, 0), *drawn]:
            there, back = partial(_shifted, by=(down, right)), partial(_shifted, by=(-down, -right))
            found.append((there, back))
            if self.flips:
                found.append((partial(_mirrored_after, move=there), partial(_mirrored_before, move=back)))
        return found

    def __str__(self) -> str:
        """Say what is averaged over."""
        parts = [f"{self.shifts} shifts of up to {self.reach} pixels"] if self.shifts else []
        parts += ["mirror images"] if self.flips else []
        parts += [f"{self.samples} draws of noise of {self.noise:g} times the range of values"] if self.noise else []
        return " and ".join(parts)


def _shifted(values: Tensor, dims: int, by: tuple[int, int]) -> Tensor:
    moved = by[-dims:]
    return values.roll(moved, tuple(range(-dims, 0))) if any(moved) else values


def _mirrored_after(values: Tensor, dims: int, move: Move) -> Tensor:
    return move(values, dims).flip(-1)


def _mirrored_before(values: Tensor, dims: int, move: Move) -> Tensor:
    return move(values.flip(-1), dims)


def make_averaging(given: object) -> Averaging:
    """Read the option ``average``: a dict of the fields of :class:`Averaging`, such as ``{"shifts": 4}``.

    Raises:
        OptionError: It is no such dict, or asks for no copies.
    """
    if not isinstance(given, Mapping):
        raise OptionError(f'Option average must be a table, such as {{"shifts": 4}}, not {given!r}.')
    options = {str(key): value for key, value in given.items()}
    check_options("average", inspect.signature(Averaging).parameters, options)
    made = Averaging(**options)
    at_least(0, shifts=made.shifts, noise=made.noise, seed=made.seed)
    at_least(1, reach=made.reach, samples=made.samples)
    if not (made.moves_pixels or made.noise):
        raise OptionError("Option average asks for nothing to average over; give shifts, flips or noise.")
    return made


@dataclass(frozen=True)
class Averaged:
    """Any method, averaged over copies of the input; every copy is explained for the same target.

    Attributes:
        method: The method.
        average: The copies.
    """

    method: AnyMethod
    average: Averaging

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method.name

    @property
    def precision(self) -> torch.dtype | None:
        """The method's precision."""
        return self.method.precision

    @property
    def meaning(self) -> Meaning:
        """What the method's values say."""
        return self.method.meaning

    def plan(self, captured: CapturedModel) -> "AveragedPlan":
        """Plan the method; errors are those of the method."""
        return AveragedPlan(self.method.plan(captured), self.average)

    def explain(self, plan: "AveragedPlan", request: Request) -> Answer:
        """Explain every copy and average what comes back, relevance and absorbed relevance alike.

        Raises:
            OptionError: Relevance at modules was asked for, and pixels move.
            InputError: Pixels move, and there is no image.
        """
        if request.layers and self.average.moves_pixels:
            raise OptionError("An average over shifts or flips gives relevance to inputs only; leave layers out.")
        question = request.ask(plan.model(request.given))
        if question.asked.places and self.average.moves_pixels:
            raise OptionError(
                f"An average over shifts or flips moves what is explained, {question.asked.words[0]}; average over noise alone."
            )
        asked = replace(request, question=question)
        found = [
            self._moved_back(self.method.explain(plan.inner, replace(asked, given=copy)), request.given, back)
            for copy, back in _copies(request.given, self.average)
        ]
        return replace(_mean(found), question=question)

    def _moved_back(self, answer: Answer, given: Inputs, back: Move) -> Answer:
        if not self.average.moves_pixels:
            return answer
        least = _least(given)
        dims = [0 if name in given.shared else _moving(value, least) for name, value in given.tensors]
        parts = [back(part, count) if count else part for part, count in zip(answer.relevance, dims, strict=True)]
        return replace(answer, relevance=parts)

    def trace(self, plan: "AveragedPlan", request: Request) -> Never:  # noqa: ARG002 - as every method has it
        """Refuse a trace.

        Raises:
            OptionError: Always.
        """
        raise OptionError("An average has no single trace; leave average out to trace the method on the input itself.")


@dataclass(frozen=True)
class AveragedPlan:
    """The plan of a method that is averaged; prints the method's own.

    Attributes:
        inner: The method's plan.
        average: The copies.
    """

    inner: MethodPlan
    average: Averaging

    @property
    def model(self) -> CapturedModel:
        """The captured model after the method's passes."""
        return self.inner.model

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user."""
        return (*self.inner.notes, f"The map is the mean over {self.average}.")

    @property
    def layers(self) -> Mapping[str, Any]:
        """The values at which relevance can be returned: none where pixels move."""
        return {} if self.average.moves_pixels else self.inner.layers

    def __str__(self) -> str:
        """Return the method's table of ops, and what is averaged over."""
        return f"{self.inner}\nNote: {self.notes[-1]}"

    def _repr_html_(self) -> str:
        return f"{self.inner._repr_html_()}<p>{escape(f'Note: {self.notes[-1]}')}</p>"  # pyright: ignore[reportPrivateUsage] - Jupyter's name

    def plot(self) -> "Figure":
        """Draw the method's own plan."""
        return self.inner.plot()


def _moving(value: Tensor, least: int) -> int:
    """How many of a value's last dimensions are moved: two of images and videos, one of signals, none of others."""
    return min(value.dim() - 2, 2) if value.is_floating_point() and value.dim() >= least else 0


def _least(given: Inputs) -> int:
    """The number of dimensions from which on inputs are moved: signals are, where there are no images.

    Raises:
        InputError: No input has positions.
    """
    most = max(v.dim() if v.is_floating_point() and name not in given.shared else 0 for name, v in given.tensors)
    if most < 3:
        raise InputError("An average over shifts or flips needs an image or a signal (batch, channels, …) among the inputs.")
    return min(most, 4)


def _copies(given: Inputs, average: Averaging) -> Iterator[tuple[Inputs, Move]]:
    """Yield the copies of a batch, and the move that takes each one's map back."""
    least = _least(given) if average.moves_pixels else 0
    if average.flips and least == 3:
        raise InputError(
            "An average over flips mirrors images, and a mirrored signal runs backwards; average over shifts or noise."
        )
    source = draws.generator(average.seed)
    for there, back in average.moves():
        moved = given.map_batched(lambda value, move=there: _moved(value, move, least)) if average.moves_pixels else given
        if not average.noise:
            yield moved, back
            continue
        for _ in range(average.samples):
            yield moved.map_batched(lambda value: _noisy(value, average.noise, source)), back


def _moved(value: Tensor, move: Move, least: int) -> Tensor:
    dims = _moving(value, least)
    return move(value, dims) if dims else value


def _noisy(values: Tensor, noise: float, source: torch.Generator) -> Tensor:
    """Add the same draw to every sample, times the noise and the sample's range of values."""
    if not values.is_floating_point():
        return values
    flat = values.flatten(1)
    deviation = noise * (flat.amax(1) - flat.amin(1))
    drawn = draws.normal(tuple(values.shape[1:]), source).to(values)
    return values + deviation.reshape(-1, *[1] * (values.dim() - 1)) * drawn


def _mean(answers: Sequence[Answer]) -> Answer:
    first, count = answers[0], len(answers)

    def mean(values: Sequence[Tensor]) -> Tensor:
        total = values[0].to(torch.promote_types(values[0].dtype, torch.float32), copy=True)
        for value in values[1:]:
            total += value
        return (total / count).to(values[0].dtype)

    def optional(values: Sequence[Tensor | None]) -> Tensor | None:
        given = [v for v in values if v is not None]
        return mean(given) if given else None

    return replace(
        first,
        relevance=[mean(parts) for parts in zip(*(a.relevance for a in answers), strict=True)],
        absorbed=mean([a.absorbed for a in answers]),
        layers={path: mean([a.layers[path] for a in answers]) for path in first.layers},
        completeness_error=optional([a.completeness_error for a in answers]),
        conserved=optional([a.conserved for a in answers]),
        magnitude=optional([a.magnitude for a in answers]),
        notes=tuple(dict.fromkeys(note for a in answers for note in a.notes)),
    )
