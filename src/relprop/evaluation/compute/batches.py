"""Run work in batches, which are halved when memory runs out and to isolate a failing item."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")


class NoMemory(Exception):  # noqa: N818 - names a state, and never reaches a user
    """Even the smallest batch does not fit into memory."""


@dataclass(frozen=True)
class Failed:
    """The failure of a batch, with the reason in one sentence."""

    reason: str


class Batches:
    """The batch size, which shrinks when memory runs out.

    Args:
        size: Number of images per batch.
        tell: Called with a message at every halving.
    """

    def __init__(self, size: int, tell: Callable[[str], None]) -> None:
        self.size = size
        self.tell = tell

    def run(self, items: Sequence[int], work: Callable[[list[int]], T], each: int = 1) -> Iterator[tuple[list[int], T | Failed]]:
        """Run the work on all items in order, in batches; yield each batch with its result or its failure.

        A failing batch is halved until the failing item is alone.

        Args:
            items: Indices of the items.
            work: The items of a batch → a result.
            each: Number of images per item; 0 for work that takes all items at once and itself keeps to ``size``.

        Raises:
            NoMemory: A single item does not fit into memory.
        """
        waiting = deque(self._split(list(items), each))
        while waiting:
            part = waiting.popleft()
            result = self._attempt(part, work)
            if result is None:
                self._shrink(len(part) * each if each else self.size, each)
                rest = [*part, *(item for later in waiting for item in later)]
                waiting = deque(self._split(rest, each))
            elif isinstance(result, Failed) and len(part) > 1:
                middle = (len(part) + 1) // 2
                waiting.extendleft((part[middle:], part[:middle]))
            else:
                yield part, result

    def _attempt(self, part: list[int], work: Callable[[list[int]], T]) -> T | Failed | None:
        """Return the result or the failure; None when memory ran out."""
        try:
            return work(part)
        except Exception as error:
            if not is_out_of_memory(error):
                return Failed(sentence(error))
        # outside the handler, whose exception keeps the tensors of the failed batch alive
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _shrink(self, tried: int, each: int) -> None:
        if tried <= max(1, each):
            raise NoMemory
        self.size = max(1, min(self.size, tried) // 2)
        self.tell(f"The memory does not suffice for {tried} images at once; going on with {self.size}.")

    def _split(self, items: list[int], each: int) -> list[list[int]]:
        size = max(1, self.size // each) if each else len(items)
        return [items[start : start + size] for start in range(0, len(items), size)]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports that the device or the machine ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


def sentence(error: BaseException) -> str:
    """Return an error as one line: the message, after the error's type unless it is an error of relprop."""
    lines = str(error).strip().splitlines()
    if lines and type(error).__module__.startswith("relprop"):
        return " ".join(lines)
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
