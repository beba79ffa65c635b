"""The models that the app offers: loaded and captured once, with an explainer per method, for all sessions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from threading import RLock

import torch
from PIL import Image
from torch import Tensor

from relprop.explainer import Captured, Explainer
from relprop.zoo import LoadedModel


@dataclass
class Served:
    """A model by its name, loaded when it is first asked for.

    Attributes:
        name: As it was typed on the command line.
        load: Loads it onto its device.
        device: The device.
        adapted: Whether its preprocessing is the user's and not its own.
    """

    name: str
    load: Callable[[], LoadedModel]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    adapted: bool = False
    _explainers: dict[str, Explainer] = field(default_factory=dict[str, Explainer])
    _lock: RLock = field(default_factory=RLock)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The loaded model; errors are those of :func:`relprop.zoo.load`."""
        return self.load()

    @cached_property
    def captured(self) -> Captured:
        """The captured model.

        Raises:
            InputError: There are class names, of another number than the model's classes.
        """
        return self.loaded.capture(self.device)

    def explainer(self, method: str) -> Explainer:
        """Return the explainer by a method, made once."""
        with self._lock:
            if method not in self._explainers:
                self._explainers[method] = self.captured.explainer(method)
            return self._explainers[method]

    def prepare(self, image: Image.Image) -> tuple[Image.Image, Tensor]:
        """Return the part of a photo that the model sees, and the model's input ``(1, C, H, W)``."""
        return self.loaded.prepare(image, self.device)

    def warm_up(self, method: str) -> None:
        """Explain a blank image, so that the first photo need not wait for the capture."""
        self.explainer(method)(self.loaded.preprocessing.zeros(self.device))
