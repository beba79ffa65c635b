"""Work on batches that halve themselves: where the memory does not suffice, and to find the item that fails."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")


class NoMemory(Exception):  # noqa: N818 - names a state, and never reaches a user
    """The memory does not even suffice for the smallest batch."""


@dataclass(frozen=True)
class Failed:
    """Why the work on some items failed, in one sentence."""

    reason: str


class Batches:
    """The number of images that run at once, and who is told when it shrinks.

    Args:
        size: Images.
        tell: Called with a sentence at every halving.
    """

    def __init__(self, size: int, tell: Callable[[str], None]) -> None:
        self.size = size
        self.tell = tell

    def run(self, items: Sequence[int], work: Callable[[list[int]], T], each: int = 1) -> Iterator[tuple[list[int], T | Failed]]:
        """Do the work on all items, in batches, in order; yield each batch with its result, or with why it failed.

        A batch that fails is halved until the failing item stands alone.

        Args:
            items: What to work on.
            work: Some of the items → a result.
            each: How many images an item is; 0 for work that takes all items at once and itself keeps to ``size``.

        Raises:
            NoMemory: The memory does not suffice for one item.
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
        """Return the result, or why there is none; None where the memory does not suffice."""
        try:
            return work(part)
        except Exception as error:
            if not is_out_of_memory(error):
                return Failed(sentence(error))
        # outside of the handler, which holds on to the tensors of the failed batch
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
    """Whether an error says that the memory, of the device or of the machine, does not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


def sentence(error: BaseException) -> str:
    """Return what went wrong in one line."""
    lines = str(error).strip().splitlines()
    if lines and type(error).__module__.startswith("relprop"):
        return " ".join(lines)
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
