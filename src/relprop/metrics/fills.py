"""Fills for removed pixels: a fixed picture (zero, mean, blur, noise) or an imputation from the remaining pixels (ROAD)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from relprop.errors import InputError, OptionError, suggestion
from relprop.metrics.seeds import normal, uniform

Fill = Callable[[Tensor], Tensor]
"""Boolean ``(B, H, W)`` of removed pixels → ``(B, C, H, W)`` inputs in which they are replaced."""


def blurred(inputs: Tensor, sigma: float = 10.0) -> Tensor:
    """Blur the inputs with a Gaussian of ``sigma`` pixels, edges replicated; ``(B, C, …)`` → the same shape."""
    reach = min(int(3 * sigma + 0.5), *(side - 1 for side in inputs.shape[2:]))
    offsets = torch.arange(-reach, reach + 1, device=inputs.device, dtype=inputs.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum())[None, None]
    for dim in range(inputs.dim() - 1, 1, -1):
        moved = inputs.movedim(dim, -1)
        lines = F.pad(moved.reshape(-1, 1, moved.shape[-1]), (reach, reach), mode="replicate")
        inputs = F.conv1d(lines, kernel).reshape(moved.shape).movedim(-1, dim)
    return inputs


def _places(inputs: Tensor) -> tuple[int, ...]:
    """The dimensions of the positions of ``(B, C, …)``."""
    return tuple(range(2, inputs.dim()))


def _zero(inputs: Tensor, sources: Sequence[torch.Generator]) -> Tensor:  # noqa: ARG001
    return torch.zeros_like(inputs)


def _mean(inputs: Tensor, sources: Sequence[torch.Generator]) -> Tensor:  # noqa: ARG001
    return inputs.mean(_places(inputs), keepdim=True).expand_as(inputs)


def _blur(inputs: Tensor, sources: Sequence[torch.Generator]) -> Tensor:  # noqa: ARG001
    return blurred(inputs)


def _noise(inputs: Tensor, sources: Sequence[torch.Generator]) -> Tensor:
    low, high = inputs.amin(_places(inputs), keepdim=True), inputs.amax(_places(inputs), keepdim=True)
    return low + (high - low) * uniform(sources, inputs)


PICTURES: dict[str, Callable[[Tensor, Sequence[torch.Generator]], Tensor]] = {
    "zero": _zero,
    "mean": _mean,
    "blur": _blur,
    "noise": _noise,
}
"""Fills independent of which pixels are removed: ``zero`` is the value 0 after preprocessing, ``mean`` each image's mean
color, ``blur`` its Gaussian blur, ``noise`` uniform over each channel's range."""

FILLS = (*PICTURES, "road")


def make_fill(name: str, inputs: Tensor, sources: Sequence[torch.Generator]) -> Fill:
    """Return the fill of these inputs.

    Args:
        name: ``zero``, ``mean``, ``blur``, ``noise`` or ``road``.
        inputs: ``(B, C, H, W)``; of signals and volumes likewise, except for ``road``.
        sources: One generator per image; noise is drawn once, so a pixel gets the same noise at every step.

    Raises:
        OptionError: An unknown fill.
        InputError: Imputation of other inputs than images.
    """
    if name in PICTURES:
        picture = PICTURES[name](inputs, sources)
        return lambda removed: torch.where(removed[:, None], picture, inputs)
    if name != "road":
        raise OptionError(f"There is no fill {name!r}; there are {', '.join(FILLS)}.{suggestion(name, FILLS)}")
    if inputs.dim() != 4:
        raise InputError(
            f"The fill 'road' imputes the pixels of images (B, C, H, W), and the inputs have shape {tuple(inputs.shape)}; take "
            f"{', '.join(PICTURES)}."
        )
    noise = 0.01 * normal(sources, inputs)
    return lambda removed: torch.where(removed[:, None], impute(inputs, removed) + noise, inputs)


_NEIGHBORS = ((1 / 12, 1 / 6, 1 / 12), (1 / 6, 0.0, 1 / 6), (1 / 12, 1 / 6, 1 / 12))


def impute(inputs: Tensor, removed: Tensor, *, tolerance: float = 1e-5, limit: int = 2000) -> Tensor:
    """Replace each removed pixel by the weighted mean of its eight neighbors, removed ones included (ROAD's linear imputation).

    Direct neighbors weigh 1/6, diagonal ones 1/12, neighbors beyond the edge are left out. The linear system is symmetric and positive
    semidefinite, so conjugate gradients solve it for all images at once, starting from the mean color of each image's remaining pixels
    (of the whole image, if none remain).

    Args:
        inputs: ``(B, C, H, W)``.
        removed: Boolean ``(B, H, W)``.
        tolerance: Largest residual norm relative to the initial one; an image that has reached it is not updated further.
        limit: Largest number of iterations.

    Source: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022, section 4.1.
    """
    kernel = inputs.new_tensor(_NEIGHBORS).expand(inputs.shape[1], 1, 3, 3)

    def around(values: Tensor) -> Tensor:
        return F.conv2d(values, kernel, padding=1, groups=inputs.shape[1])

    gone = removed[:, None].to(inputs.dtype)
    weight = around(torch.ones_like(inputs))
    left = 1 - gone
    start = (inputs * left).sum((2, 3), keepdim=True) / left.sum((2, 3), keepdim=True).clamp(min=1)
    start = torch.where(left.any(3, keepdim=True).any(2, keepdim=True), start, inputs.mean((2, 3), keepdim=True))
    values = gone * start

    def system(filled: Tensor) -> Tensor:
        return gone * (weight * filled - around(filled))

    residual = gone * around(left * inputs) - system(values)
    direction, power = residual, _dot(residual, residual)
    floor = (100 * torch.finfo(inputs.dtype).eps) ** 2 * _dot(inputs, inputs)
    goal = torch.maximum(tolerance**2 * power, floor)
    for _ in range(limit):
        active = power > goal
        if not active.any():
            break
        image = system(direction)
        step = active * _safe_ratio(power, _dot(direction, image))
        values, residual = values + step * direction, residual - step * image
        power, before = _dot(residual, residual), power
        direction = residual + _safe_ratio(power, before) * direction
    return torch.where(removed[:, None], values, inputs)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum((2, 3), keepdim=True)


def _safe_ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below.where(below > 0, 1), 0)
