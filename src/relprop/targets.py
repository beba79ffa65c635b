"""Targets: which output is explained, as relevance at the output."""

from typing import Any

import torch
from torch import Tensor

from relprop.errors import ModelError, TargetError


def resolve_target(target: object, logits: Tensor) -> Tensor:
    """Return the class indices to explain, ``(B,)`` or ``(B, K)``.

    Args:
        target: None for the predicted class, an int for all samples, ``(B,)``, or ``(B, K)`` for K maps per sample.
        logits: The model's output, ``(B, C)``.

    Raises:
        TargetError: The output is not ``(B, C)``, or the target is out of range or of the wrong shape.
    """
    if logits.dim() != 2:
        raise TargetError(
            f"The output has shape {tuple(logits.shape)}, not (batch, classes); pass seed=, a tensor of that shape, instead of target."
        )
    batch, classes = logits.shape
    if target is None:
        return logits.argmax(1)
    indices = _as_indices(target)
    if indices.dim() == 0:
        indices = indices.expand(batch)
    indices = indices.to(logits.device)
    if indices.dim() > 2 or indices.shape[0] != batch or indices.numel() == 0:
        raise TargetError(
            f"The target has shape {tuple(indices.shape)}; for {batch} samples it must be an int, ({batch},) or ({batch}, K)."
        )
    outside = indices[(indices < 0) | (indices >= classes)]
    if len(outside):
        raise TargetError(f"Target {int(outside[0])} is out of range; the model has classes 0 to {classes - 1}.")
    return indices


def _as_indices(target: Any) -> Tensor:  # noqa: ANN401 - whatever the user passed
    try:
        indices = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError):
        raise TargetError(f"The target must be an int or integers of shape (batch,) or (batch, K), not {target!r}.") from None
    if indices.numel() == 0:
        raise TargetError("The target names no class; pass None for the predicted one.")
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise TargetError(f"The target must be integers, not {indices.dtype}.")
    return indices.long()


def finite_logits(logits: Tensor) -> Tensor:
    """Return the logits as they are.

    Raises:
        ModelError: They are not finite.
    """
    if not bool(torch.isfinite(logits).all()):
        raise ModelError("The model returns NaN or infinite logits for these inputs; nothing can be explained.")
    return logits


def check_seed(seed: Tensor, logits: Tensor) -> Tensor:
    """Return ``seed`` on the output's device and dtype; it has the output's shape, or K of them in dimension 1.

    Raises:
        TargetError: It is no tensor of real numbers, has another shape, or holds NaN or infinite values.
    """
    if not isinstance(seed, Tensor) or seed.is_complex():  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        kind = f"a tensor of {seed.dtype}" if isinstance(seed, Tensor) else type(seed).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TargetError(f"The seed must be a tensor of real numbers, not {kind}.")
    shape = tuple(logits.shape)
    stacked = seed.dim() == logits.dim() + 1 and (seed.shape[0], *seed.shape[2:]) == shape
    if tuple(seed.shape) != shape and not stacked:
        raise TargetError(f"The seed has shape {tuple(seed.shape)}; it must be shaped like the output, {shape}.")
    if not bool(torch.isfinite(seed).all()):
        raise TargetError("The seed holds NaN or infinite values.")
    return seed.to(logits)
