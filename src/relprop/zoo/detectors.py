"""Raw heads of torchvision's detectors: the logits of all boxes, before boxes are chosen and suppressed."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from relprop.errors import ModelError


class RawHead(nn.Module):
    """A detector without what chooses among its boxes; see :func:`raw_head`."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.register_buffer("mean", mean.reshape(-1, 1, 1))
        self.register_buffer("std", std.reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Any:  # noqa: ANN401 - as the detector's head returns it
        """Return what the head returns of images ``(B, 3, H, W)`` in [0, 1]."""
        features: Any = self.backbone((images - self.mean) / self.std)
        return self.head(list(features.values()) if isinstance(features, Mapping) else [features])


def raw_head(model: nn.Module) -> nn.Module:
    """Return a detector of torchvision up to its raw head, which can be captured: which boxes it keeps depends on their values.

    The module takes images ``(B, 3, H, W)`` in [0, 1], normalizes them as the detector does, and does not resize them. It shares its weights.
    RetinaNet, FCOS and SSD return a dict with ``"cls_logits"`` ``(B, boxes, classes)`` and ``"bbox_regression"`` ``(B, boxes, 4)``; Faster
    and Mask R-CNN the logits of their region proposals, by level ``"0.0"``, ``"0.1"``, … ``(B, anchors, H, W)``.

    Args:
        model: The detector.

    Raises:
        ModelError: It is no detector of torchvision.
    """
    parts = cast("Any", model)
    head = getattr(parts, "head", None) or getattr(getattr(parts, "rpn", None), "head", None)
    if head is None or not hasattr(model, "backbone") or not hasattr(getattr(parts, "transform", None), "image_mean"):
        raise ModelError(f"A raw head is that of a detector of torchvision, and {type(model).__name__} is none.")
    like = next(model.parameters())
    mean, std = (torch.as_tensor(values).to(like) for values in (parts.transform.image_mean, parts.transform.image_std))
    return RawHead(parts.backbone, head, mean, std).train(model.training)
