"""Raw heads of torchvision's detectors: the logits of all boxes, before boxes are chosen and suppressed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from relprop.errors import ModelError
from relprop.zoo.torchvision_ops import import_torchvision


class RawHead(nn.Module):
    """A detector without what chooses among its boxes; see :func:`raw_head`."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, mean: Tensor, std: Tensor, coding: tuple[Any, Any]) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self._anchors, self._coder = coding
        self.register_buffer("mean", mean.reshape(-1, 1, 1))
        self.register_buffer("std", std.reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Any:  # noqa: ANN401 - as the detector's head returns it
        """Return what the head returns of images ``(B, 3, H, W)`` in [0, 1]."""
        return self.head(self._features(images))

    def _features(self, images: Tensor) -> list[Tensor]:
        features: Any = self.backbone((images - self.mean) / self.std)
        return list(features.values()) if isinstance(features, Mapping) else [features]

    def boxes(self, images: Tensor) -> Tensor:
        """Return the raw boxes ``(B, boxes, 4)``: left, top, right and bottom in pixels of the images, which they may leave.

        Raises:
            ModelError: The head is one of region proposals.
        """
        if self._anchors is None or self._coder is None:
            raise ModelError("This head proposes regions and says no boxes of classes; take RetinaNet, FCOS, SSD or DETR.")
        features = self._features(images)
        sides: Tensor = self.head(features)["bbox_regression"]
        lists = import_torchvision().models.detection.image_list
        held = lists.ImageList(images, [(images.shape[2], images.shape[3])] * len(images))
        anchors: Tensor = self._anchors(held, features)[0]
        decode = getattr(self._coder, "decode_single", self._coder.decode)
        return torch.stack([decode(one, anchors) for one in sides])


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
    coding = getattr(parts, "anchor_generator", None), getattr(parts, "box_coder", None)
    return RawHead(parts.backbone, head, mean, std, coding).train(model.training)


def raw_boxes(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return where the raw boxes of a detector lie, ``(B, boxes, 4)``: left, top, right and bottom in pixels of its input.

    Args:
        model: A :func:`raw_head`, or a model that returns its boxes beside their logits: as ``boxes``, or as ``pred_boxes``, which hold center,
            width and height in shares of the image, as DETR and its relatives do.
        inputs: ``(B, C, H, W)``.

    Raises:
        ModelError: The model says no boxes.
    """
    with torch.no_grad():
        if isinstance(model, RawHead):
            return model.boxes(inputs)
        returned: Any = model(inputs)
    held = {name: returned.get(name) if isinstance(returned, Mapping) else getattr(returned, name, None) for name in _BOXES}
    for name, read in _BOXES.items():
        found = held[name]
        if isinstance(found, Tensor) and found.dim() == 3 and found.shape[2] == 4:
            return read(found, inputs)
    raise ModelError(
        "The model does not say where its raw boxes lie; let it return them beside their logits as 'boxes', (batch, boxes, 4): left, top, "
        "right and bottom in pixels of its input."
    )


def _of_shares(boxes: Tensor, inputs: Tensor) -> Tensor:
    height, width = inputs.shape[2:]
    (x, y), (w, h) = boxes[..., :2].unbind(-1), boxes[..., 2:].unbind(-1)
    return torch.stack([(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height], -1)


_BOXES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"boxes": lambda boxes, _: boxes, "pred_boxes": _of_shares}
"""By the name of an output, what makes corners in pixels of its boxes."""


def match_box(boxes: Tensor, logits: Tensor, wanted: Tensor | Sequence[float], *, least: float = 0.5) -> int | None:
    """Return the raw box by which a detector would find an object: of those that overlap it well the one with the largest logit.

    Args:
        boxes: ``(boxes, 4)``, as :func:`raw_boxes` returns them of one image.
        logits: ``(boxes,)``, of the object's class.
        wanted: The object's box.
        least: The intersection over union from which a box counts as found, as detections are judged; where none reaches it, the box of the
            largest is taken.

    Returns:
        The number of the box, for :class:`relprop.targets.Box`; None where no box touches the object.
    """
    wanted = torch.as_tensor(wanted).to(boxes)
    sides = (torch.minimum(boxes[:, 2:], wanted[2:]) - torch.maximum(boxes[:, :2], wanted[:2])).clamp(min=0)
    common = sides.prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1) + (wanted[2:] - wanted[:2]).prod()
    overlap = common / (areas - common)
    if not bool(overlap.gt(0).any()):
        return None
    found = overlap >= least
    return int(logits.to(overlap).masked_fill(~found, -torch.inf).argmax() if bool(found.any()) else overlap.argmax())
