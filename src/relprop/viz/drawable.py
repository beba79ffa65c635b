"""What a picture needs of an explanation."""

from typing import Any, Protocol

from torch import Tensor


class Drawable(Protocol):
    """Heat maps of a batch with the outputs that they explain; a :class:`relprop.Explanation` is one."""

    @property
    def logits(self) -> Tensor:
        """The model's output, ``(B, C)``."""
        ...

    @property
    def probabilities(self) -> Tensor:
        """The probabilities of the classes, ``(B, C)``."""
        ...

    @property
    def absorbed(self) -> Tensor:
        """The absorbed relevance, ``(B,)`` or ``(B, K)``: one number per map."""
        ...

    @property
    def target(self) -> Tensor | None:
        """The explained classes, ``(B,)`` or ``(B, K)``."""
        ...

    @property
    def inputs(self) -> Any:  # noqa: ANN401 - a tensor, or a structure of them
        """What was explained."""
        ...

    @property
    def method(self) -> str:
        """The name of the method."""
        ...

    def heatmap(self) -> Tensor:
        """Return the relevance summed over channels, ``(B, H, W)`` or ``(B, K, H, W)``."""
        ...
