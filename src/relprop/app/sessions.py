"""What one browser window is looking at; forgotten when it is closed."""

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

from PIL import Image
from torch import Tensor

from relprop.app.photos import Upload
from relprop.explanation import Explanation

_EXPLANATIONS, _SESSIONS = 48, 64
"""The most explanations that a session keeps, and the most sessions; the least recently used go first."""

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Prepared:
    """A photo as one model sees it.

    Attributes:
        cropped: The part that it sees.
        inputs: Its input ``(1, C, H, W)``.
        logits: Its answer ``(C,)``.
        probabilities: Likewise.
    """

    cropped: Image.Image
    inputs: Tensor
    logits: Tensor
    probabilities: Tensor

    @property
    def ranked(self) -> list[int]:
        """The classes, most probable first."""
        return self.logits.argsort(descending=True).tolist()


@dataclass
class Session:
    """One window's photo with what was computed for it.

    Attributes:
        upload: The photo; None before the first.
        thumbnail: It, small; None likewise.
        notes: Remarks on it.
        prepared: By model, the photo as it sees it.
        explanations: By model, method, classes and layer.
    """

    upload: Upload | None = None
    thumbnail: Image.Image | None = None
    notes: tuple[str, ...] = ()
    prepared: dict[str, Prepared] = field(default_factory=dict[str, Prepared])
    explanations: OrderedDict[tuple[object, ...], Explanation] = field(
        default_factory=OrderedDict[tuple[object, ...], Explanation]
    )

    def begin(self, upload: Upload, thumbnail: Image.Image, notes: tuple[str, ...]) -> None:
        """Take a new photo and forget all about the last."""
        self.upload, self.thumbnail, self.notes = upload, thumbnail, notes
        self.prepared.clear()
        self.explanations.clear()

    def keep(self, key: tuple[object, ...], explanation: Explanation) -> None:
        """Keep an explanation in the place of the one that was not looked at for longest."""
        _put(self.explanations, key, explanation, _EXPLANATIONS)


@dataclass
class Sessions:
    """All open windows by the random key that each has."""

    _open: OrderedDict[str, Session] = field(default_factory=OrderedDict[str, Session])
    _lock: Lock = field(default_factory=Lock)

    def __len__(self) -> int:
        return len(self._open)

    def of(self, key: str) -> Session:
        """Return the session of a window, a new one at its first call."""
        with self._lock:
            session = self._open.get(key) or Session()
            _put(self._open, key, session, _SESSIONS)
            return session

    def forget(self, key: str) -> None:
        """Drop the photo of a closed window and all that was computed for it."""
        with self._lock:
            self._open.pop(key, None)


def _put(kept: OrderedDict[Key, Value], key: Key, value: Value, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
