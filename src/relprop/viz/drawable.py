"""What a picture needs of an explanation."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from relprop.errors import InputError
from relprop.meaning import Meaning


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
        """The explained classes, ``(B,)`` or ``(B, K)``; None where something else is explained."""
        ...

    @property
    def value(self) -> Tensor | None:
        """The explained numbers, ``(B,)`` or ``(B, K)``."""
        ...

    @property
    def words(self) -> Sequence[str]:
        """What is explained, in words, one text per sample."""
        ...

    @property
    def inputs(self) -> Any:  # noqa: ANN401 - a tensor, or a structure of them
        """What was explained."""
        ...

    @property
    def layers(self) -> Mapping[str, Tensor]:
        """Relevance at the outputs of modules, by path."""
        ...

    @property
    def method(self) -> str:
        """The name of the method."""
        ...

    @property
    def meaning(self) -> Meaning:
        """What the two signs of its relevance say."""
        ...

    def heatmap(self) -> Tensor:
        """Return the relevance summed over channels, ``(B, H, W)`` or ``(B, K, H, W)``."""
        ...


def maps_of(explanation: Drawable) -> Tensor:
    """Return the heat maps ``(B, K, H, W)`` on the CPU.

    Raises:
        InputError: They are no pictures, or hold NaN or infinite values.
    """
    return maps_over(explanation, 2, "Only explanations of images can be drawn")


def maps_over(explanation: Drawable, dims: int, wanted: str) -> Tensor:
    """Return the heat maps ``(B, K, …)`` of ``dims`` dimensions each on the CPU; ``wanted`` begins what is said of others.

    Raises:
        InputError: They have other dimensions, or hold NaN or infinite values.
    """
    maps = explanation.heatmap().detach().float().cpu()
    if maps.dim() != dims + explanation.absorbed.dim():
        raise InputError(f"{wanted}; these maps have shape {tuple(maps.shape)}.")
    if not bool(maps.isfinite().all()):
        raise InputError(f"The maps of method {explanation.method!r} hold NaN or infinite values and cannot be drawn.")
    return maps.unsqueeze(1) if explanation.absorbed.dim() == 1 else maps
