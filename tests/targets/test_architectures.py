"""Targets on the architectures that they are for, with random weights: the value is the model's own, relevance conserves, gradients agree."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import relprop
from relprop.errors import ModelError, RelpropError
from relprop.targets import Box, Neuron, Pixels, Similarity
from relprop.zoo import import_torchvision, raw_head
from tests.real_models import randomized

SIZE = 64
X = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TEXT = torch.linspace(-1, 1, 16, dtype=torch.float64)
_SWIN = {"image_size": SIZE, "embed_dim": 8, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 4}
_STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
_SMALL = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
_DETR = {**_SMALL, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_queries": 5, "num_labels": 3}
_VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16}


@dataclass(frozen=True)
class Case:
    """A model, a target, and the same number from the model's own result."""

    build: Callable[[], nn.Module]
    target: Any
    score: Callable[[Any], Tensor]
    options: dict[str, Any] = field(default_factory=dict)


def _segmentation(name: str) -> Callable[[], nn.Module]:
    return lambda: import_torchvision().models.segmentation.__dict__[name](weights=None, weights_backbone=None, num_classes=5)


def _detector(name: str, **options: object) -> nn.Module:
    models = import_torchvision().models.detection
    return models.__dict__[name](weights=None, weights_backbone=None, num_classes=4, **options)


def _head(name: str) -> Callable[[], nn.Module]:
    return lambda: raw_head(_detector(name))


def _transformers(kind: str, settings: Callable[[Any], dict[str, Any]]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import_torchvision()
        library = pytest.importorskip("transformers")
        model = getattr(library, kind)
        return model(model.config_class(**settings(library)))

    return build


def _detr_backbone(library: Any) -> dict[str, Any]:
    resnet = library.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=["stage2"])
    return {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "backbone_config": resnet}


def _maskformer(library: Any) -> dict[str, Any]:
    decoder = library.DetrConfig(**_DETR, **_detr_backbone(library))
    sizes = {"fpn_feature_size": 32, "mask_feature_size": 32, "num_labels": 3}
    return {"backbone_config": library.SwinConfig(**_SWIN, **_STAGES), "decoder_config": decoder, **sizes}


def _mask2former(library: Any) -> dict[str, Any]:
    sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 32, "dim_feedforward": 32}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 5, "num_labels": 3}
    return {"backbone_config": library.SwinConfig(**_SWIN, **_STAGES), **sizes, **layers}


def _segformer(_: Any) -> dict[str, Any]:
    sizes = {"hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 1, 2, 2], "depths": [1] * 4}
    return {**sizes, "decoder_hidden_size": 16, "num_labels": 5}


def _timm(name: str, **options: object) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import_torchvision()
        return pytest.importorskip("timm").create_model(name, pretrained=False, **options)

    return build


def _predicted(logits: Tensor) -> Tensor:
    """The mean logit of the class that is predicted at most pixels, there; the places are constants."""
    won = logits.detach().argmax(1)
    best = [int(row.bincount().argmax()) for row in won.flatten(1)]
    return torch.stack([maps[index][where == index].mean() for maps, where, index in zip(logits, won, best, strict=True)])


def _where_positive(logits: Tensor) -> Tensor:
    """The mean logit of the second map, where it is positive."""
    return torch.stack([maps[1][maps[1] > 0].mean() for maps in logits])


def _boxed(name: str) -> Case:
    return Case(_head(name), Box(3, 2), lambda y: y["cls_logits"][:, 3, 2], {"output": "cls_logits"})


def _masks(build: Callable[[], nn.Module]) -> Case:
    options = {"output": "masks_queries_logits", "activation": "sigmoid"}
    return Case(build, Pixels(1), lambda y: _where_positive(y.masks_queries_logits), options)


def _queries(build: Callable[[], nn.Module]) -> Case:
    options = {"output": "class_queries_logits"}
    return Case(build, Box(2, 1), lambda y: y.class_queries_logits[:, 2, 1], options)


def _cosine(y: Tensor) -> Tensor:
    return F.cosine_similarity(y, TEXT[None])


_MASKFORMER = _transformers("MaskFormerForInstanceSegmentation", _maskformer)
_MASK2FORMER = _transformers("Mask2FormerForUniversalSegmentation", _mask2former)
_CLIP = _transformers("CLIPVisionModelWithProjection", lambda _: {**_VISION, "image_size": SIZE, "projection_dim": 16})
_SIGLIP = _transformers("SiglipVisionModel", lambda _: {**_VISION, "image_size": SIZE})

CASES = {
    "deeplabv3": Case(_segmentation("deeplabv3_mobilenet_v3_large"), Pixels(), lambda y: _predicted(y["out"])),
    "lraspp": Case(_segmentation("lraspp_mobilenet_v3_large"), Pixels(2, point=(3, 4)), lambda y: y["out"][:, 2, 3, 4]),
    "fcn": Case(
        _segmentation("fcn_resnet50"), Pixels(2, box=(10, 8, 20, 30)), lambda y: y["out"][:, 2, 8:30, 10:20].mean((1, 2))
    ),
    "segformer": Case(_transformers("SegformerForSemanticSegmentation", _segformer), Pixels(), lambda y: _predicted(y.logits)),
    "maskformer, masks": _masks(_MASKFORMER),
    "maskformer, queries": _queries(_MASKFORMER),
    "mask2former, masks": _masks(_MASK2FORMER),
    "mask2former, queries": _queries(_MASK2FORMER),
    "retinanet": _boxed("retinanet_resnet50_fpn"),
    "fcos": _boxed("fcos_resnet50_fpn"),
    "ssd": _boxed("ssdlite320_mobilenet_v3_large"),
    "region proposals": Case(
        _head("fasterrcnn_mobilenet_v3_large_fpn"), Neuron(None, (2, 0, 1)), lambda y: y[0][0][:, 2, 0, 1], {"output": "0.0"}
    ),
    "detr": Case(
        _transformers("DetrForObjectDetection", lambda library: {**_DETR, **_detr_backbone(library)}),
        Box(2, 1),
        lambda y: y.logits[:, 2, 1],
    ),
    "clip": Case(_CLIP, Similarity(TEXT), lambda y: _cosine(y.image_embeds), {"output": "image_embeds"}),
    "siglip": Case(_SIGLIP, Similarity(TEXT), lambda y: _cosine(y.pooler_output), {"output": "pooler_output"}),
    "timm embedding": Case(_timm("resnet10t", num_classes=0), Similarity(torch.ones(512), measure="dot"), lambda y: y.sum(1)),
    "timm features": Case(
        _timm("resnet10t", features_only=True), Neuron(None, 3), lambda y: y[3][:, 3].mean((1, 2)), {"output": 3}
    ),
}


def make(case: Case) -> nn.Module:
    torch.manual_seed(0)
    return randomized(case.build().eval()).double()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_value_conservation_and_gradient(case):
    model = make(case)
    captured = relprop.capture(model, X, **case.options)
    x = X.clone().requires_grad_()
    wanted = case.score(model(x))
    for method in ("rap", "lrp-epsilon"):
        found = captured.explainer(method)(X, case.target)
        torch.testing.assert_close(found.value, wanted.detach())
        scale = float(found.relevance.abs().flatten(1).sum(1).max()) + float(found.absorbed.abs().max())
        reached = found.relevance.flatten(1).sum(1) + found.absorbed
        torch.testing.assert_close(reached, found.value, rtol=1e-6, atol=1e-9 * max(scale, 1))
        assert bool(found.relevance.any())
    (gradient,) = torch.autograd.grad(wanted.sum(), x)
    found = captured.explainer("gradient")(X, case.target)
    torch.testing.assert_close(found.relevance, gradient, rtol=1e-5, atol=1e-8 * float(gradient.abs().max()))


def test_a_raw_head_is_that_of_the_detector():
    detector = randomized(_detector("retinanet_resnet50_fpn", min_size=SIZE, max_size=SIZE).eval()).double()
    images, _ = detector.transform(list(X))
    wanted = detector.head(list(detector.backbone(images.tensors).values()))
    found = raw_head(detector)(X)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)
    with pytest.raises(ModelError, match="A raw head is that of a detector of torchvision, and Linear is none"):
        raw_head(nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "fcos_resnet50_fpn", "ssdlite320_mobilenet_v3_large"])
def test_a_whole_detector_is_refused_with_the_module_to_pass(name):
    with pytest.raises(RelpropError, match=r"capture relprop.zoo.raw_head\(model\), which returns the logits of all boxes"):
        relprop.capture(_detector(name).eval(), X.float())
