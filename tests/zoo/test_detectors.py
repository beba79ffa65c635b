"""Raw boxes of torchvision's detectors, against the boxes that the detectors themselves return."""

import pytest
import torch

from relprop.errors import ModelError
from relprop.zoo import import_torchvision, raw_boxes, raw_head

SIZES = {"ssdlite320_mobilenet_v3_large": 320, "retinanet_resnet50_fpn": 64, "fcos_resnet50_fpn": 64}


def detector(name):
    torch.manual_seed(0)
    return import_torchvision().models.detection.__dict__[name](weights=None, weights_backbone=None, num_classes=4).eval()


@pytest.mark.parametrize("name", SIZES)
def test_raw_boxes_are_those_of_the_detector(name, monkeypatch):
    size, model = SIZES[name], detector(name)
    images = torch.rand(2, 3, size, size)
    raw = raw_boxes(raw_head(model), images)
    with torch.no_grad():
        assert raw.shape == (*raw_head(model)(images)["cls_logits"].shape[:2], 4)
    model.transform.min_size, model.transform.max_size, model.transform.fixed_size = (size,), size, None
    model.score_thresh, model.topk_candidates = 0.0, 40
    boxes = import_torchvision().ops.boxes  # without suppression, whose compiled op may be missing
    monkeypatch.setattr(boxes, "batched_nms", lambda _, scores, *__: scores.argsort(descending=True))
    with torch.no_grad():
        found = model(list(images))
    for place, one in enumerate(found):
        assert len(one["boxes"]) >= 40
        distances = torch.cdist(one["boxes"], raw[place].clamp(0, size), p=torch.inf)
        assert float(distances.min(1).values.max()) < 1e-3


def test_region_proposals_are_no_boxes_of_classes():
    head = raw_head(detector("fasterrcnn_mobilenet_v3_large_320_fpn"))
    with pytest.raises(ModelError, match="proposes regions and says no boxes of classes"):
        raw_boxes(head, torch.rand(1, 3, 64, 64))
