"""Explanations of a data loader, one batch after the other: no batch is kept, whatever the number of them."""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from relprop.errors import InputError, RelpropError, TargetError
from relprop.explanation import Explanation
from relprop.inputs import Inputs

LABELS = "labels"
"""The target that stands for the labels which a data loader gives beside the inputs."""
_KEYS = ("labels", "label")
"""The entries of a dict that are labels, unless the model takes them."""

Explain = Callable[[Any, object], Explanation]
"""Explains inputs for a target."""


def explain_each(
    batches: Iterable[object], target: object, explain: Explain, example: Inputs, *, to: torch.device | str | None, progress: bool
) -> Iterator[Explanation]:
    """Yield the explanation of each batch; nothing of a batch is held once the next is asked for.

    Args:
        batches: Inputs, or pairs of inputs and labels, or dicts with an entry ``labels`` or ``label``.
        target: Of every batch; ``"labels"`` for the labels of the batch, which are left out otherwise.
        explain: Explains one batch.
        example: The inputs of the captured model, which tell labels from inputs.
        to: Where the explanations are moved; None leaves them where they are.
        progress: Show a bar on stderr, if that is a terminal.

    Raises:
        InputError: The batches cannot be gone through. What goes wrong in a batch is raised with its number.
    """
    if not isinstance(batches, Iterable) or isinstance(batches, str | Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise InputError(f"Batches come from a data loader or a list of them, not from a {type(batches).__name__}.")
    if isinstance(batches, Tensor):
        raise InputError("Batches come from a data loader or a list of them, not from one tensor; call the explainer on it.")
    return _explanations(batches, target, explain, example, to, progress)


def _explanations(
    batches: Iterable[object], target: object, explain: Explain, example: Inputs, to: torch.device | str | None, progress: bool
) -> Iterator[Explanation]:
    total = len(batches) if isinstance(batches, Sized) else None
    rest, number = iter(batches), 0
    with _bar(total, shown=progress) as advance:
        while True:
            number += 1
            with _named(number):
                batch = next(rest, rest)  # the iterator itself marks its end
                if batch is rest:
                    return
                inputs, labels = split_labels(batch, example)
                found = [explain(inputs, _target(target, labels))]
            del batch, inputs, labels
            advance()
            yield found.pop() if to is None else found.pop().to(to)


def split_labels(batch: object, example: Inputs) -> tuple[Any, Any]:
    """Return the inputs of a batch and its labels, None without them.

    Labels are the entry after the model's arguments, as in ``(images, labels)``, and of a dict the entry ``labels`` or ``label``, unless the
    model takes one of this name.
    """
    if isinstance(batch, Mapping):
        table = dict(cast("Mapping[Any, Any]", batch))
        keys = [key for key in _KEYS if key in table and key not in _names(example)]
        return {key: value for key, value in table.items() if key not in keys}, table[keys[0]] if keys else None
    if isinstance(batch, tuple | list):
        parts = tuple(cast("tuple[Any, ...]", batch))
        arguments = len(example.args) or 1  # of keyword arguments there is one dict
        if len(parts) == arguments + 1:
            return parts[0] if arguments == 1 else parts[:-1], parts[-1]
        if len(parts) == arguments == 1:
            return parts[0], None
    return batch, None


def on_device(inputs: Any, device: torch.device | None) -> Any:  # noqa: ANN401 - the structure that the user gave
    """Return inputs with their tensors on a device."""

    def moved(part: Any) -> Any:  # noqa: ANN401 - a tensor, or another value
        return part.to(device) if isinstance(part, Tensor) else part

    return inputs if device is None else tree_map(moved, inputs)


def _names(example: Inputs) -> Collection[object]:
    """The keys that the model takes: keyword arguments, and those of a dict that is its argument."""
    return {
        *example.kwargs,
        *(key for part in example.args if isinstance(part, Mapping) for key in cast("Mapping[Any, Any]", part)),
    }


def _target(target: object, labels: Any) -> object:  # noqa: ANN401
    if not (isinstance(target, str) and target == LABELS):
        return target
    if labels is None:
        raise TargetError(
            "It has no labels, which the target 'labels' asks for; let the data loader return (inputs, labels), or a dict with an entry 'labels'."
        )
    return labels


@contextmanager
def _named(number: int) -> Generator[None, None, None]:
    """Name the batch in the message of what goes wrong in it."""
    try:
        yield
    except RelpropError as error:
        raise type(error)(f"Batch {number}: {error}") from error
    except Exception as error:
        error.add_note(f"This happened in batch {number}.")
        raise


@contextmanager
def _bar(total: int | None, *, shown: bool) -> Generator[Callable[[], None], None, None]:
    """Give a function that advances a bar of batches on stderr, which vanishes when done; there is none outside of terminals."""
    if not shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("batches"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Explaining", total=total)
        yield lambda: bar.advance(task)
