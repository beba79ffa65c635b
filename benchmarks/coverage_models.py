"""The models of the coverage sweep: which there are, and how each is built with random weights that leave nothing degenerate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TORCHVISION = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3", "maxvit_t",
    "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnet50",
    "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "vit_b_32",
    "wide_resnet50_2",
)  # fmt: skip
VIDEO = ["mc3_18", "mvit_v2_s", "r2plus1d_18", "r3d_18", "s3d", "swin3d_t"]
FIXED_SIZES = {"inception_v3": 299, "swin_v2_t": 256, "maxvit_t": 224, "vit_b_32": 224}

SMALL = (
    "atto", "femto", "pico", "nano", "xxs", "xx_small", "x_small", "xs", "tiny", "_t", "mini", "zepto", "50", "b0", "s0", "18",
    "s12", "s1", "small", "_s", "lite0", "b1", "s", "base",
)  # fmt: skip
"""Marks of a small variant, from sure to unsure."""

_VISION = {
    "image_size": 64,
    "patch_size": 16,
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
}
_SWIN = {"image_size": 128, "patch_size": 4, "embed_dim": 24, "depths": [2, 2, 2], "num_heads": [1, 2, 4]}
_TOWER = {"vision_config": _VISION, "text_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}}
HUGGING_FACE: Mapping[str, Mapping[str, Any]] = {
    "beit": _VISION | {"use_relative_position_bias": True},
    "bit": {"depths": [1, 1, 1, 1]},
    "clip": _TOWER,
    "convnext": {"depths": [1, 1, 2, 1]},
    "convnextv2": {"depths": [1, 1, 2, 1]},
    "cvt": {},
    "data2vec-vision": _VISION,
    "deit": _VISION,
    "dinov2": _VISION,
    "dinov2_with_registers": _VISION,
    "donut-swin": _SWIN,
    "efficientnet": {"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 128, "hidden_dim": 1280},
    "focalnet": {"image_size": 128},
    "hgnet_v2": {},
    "hiera": {},
    "ijepa": _VISION,
    "levit": {},
    "metaclip_2": _TOWER,
    "mobilenet_v1": {},
    "mobilenet_v2": {},
    "mobilevit": {"image_size": 128},
    "mobilevitv2": {"image_size": 128},
    "poolformer": {},
    "pp_lcnet": {},
    "pvt": {"image_size": 64},
    "pvt_v2": {"image_size": 64},
    "regnet": {"depths": [1, 1, 2, 1]},
    "resnet": {"depths": [1, 2, 2, 1]},
    "segformer": {},
    "siglip": _TOWER,
    "swiftformer": {},
    "swin": _SWIN | {"window_size": 4},
    "swinv2": _SWIN | {"window_size": 4},
    "textnet": {},
    "vit": _VISION,
    "vit_msn": _VISION,
}
"""Model types with the parts of their configuration that make a small model."""


@dataclass(frozen=True)
class Subject:
    """A model of the sweep: ``name`` as in ``timm:resnet18``, and the family that it stands for."""

    name: str
    family: str


def subjects() -> list[Subject]:
    """Return every model of the sweep, by library and family."""
    vision = [Subject(f"torchvision:{name}", name) for name in TORCHVISION]
    video = [Subject(f"torchvision-video:{name}", name) for name in VIDEO]
    hugging_face = [Subject(f"hf:{kind}", kind) for kind in HUGGING_FACE]
    return [*vision, *video, *timm_subjects(), *hugging_face]


def timm_subjects() -> list[Subject]:
    """Return the smallest variant, as far as names and input sizes tell, of every timm module that registers models."""
    _torchvision()
    import timm

    def size(name: str) -> tuple[int, int, int]:
        marks = [i for i, mark in enumerate(SMALL) if mark in name]
        settings = timm.get_pretrained_cfg(name)
        return (min(marks, default=len(SMALL)), settings.input_size[-1] if settings else 0, len(name))

    found = []
    for family in timm.list_modules():
        names = [n for n in timm.list_models(module=family) if not n.startswith("test_")]
        if names:
            found.append(Subject(f"timm:{min(names, key=size)}", family))
    return found


def build(name: str) -> tuple[nn.Module, Tensor]:
    """Build a model of the sweep and an example batch of two, both in float64, deterministic for a name."""
    torch.manual_seed(0)
    library, _, short = name.partition(":")
    model, shape = _BUILDERS[library](short)
    randomize(model)
    return model.double().eval(), torch.randn(2, *shape, dtype=torch.float64)


def _torchvision() -> Any:  # noqa: ANN401 - a module
    from relprop.zoo.torchvision_ops import import_torchvision

    return import_torchvision()


def _build_torchvision(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    size = FIXED_SIZES.get(name, 96)
    return _torchvision().models.get_model(name, weights=None), (3, size, size)


def _build_video(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    _torchvision()
    from torchvision.models import video

    frames, size = (16, 224) if name in {"mvit_v2_s", "s3d"} else (8, 64) if name.startswith("swin") else (4, 32)
    return getattr(video, name)(weights=None), (3, frames, size, size)


def _build_timm(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    _torchvision()
    import timm

    model = timm.create_model(name, pretrained=False)
    if not getattr(model, "num_classes", 0):
        model = timm.create_model(name, pretrained=False, num_classes=10)
    config = model.pretrained_cfg
    channels, *size = config["input_size"]
    free = not config.get("fixed_input_size") and not any(isinstance(m, nn.MultiheadAttention) for m in model.modules())
    minimum = config.get("min_input_size")
    return model, (channels, *(minimum[1:] if free and minimum else size))


def _build_hugging_face(kind: str) -> tuple[nn.Module, tuple[int, ...]]:
    _torchvision()
    from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, AutoConfig

    config = AutoConfig.for_model(kind, **HUGGING_FACE[kind], num_labels=10)
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", None) or 64
    size = size if isinstance(size, int) else size[0]
    classes = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)]
    model = classes[0] if isinstance(classes, tuple) else classes
    return model(config), (getattr(vision, "num_channels", 3), size, size)


_BUILDERS: Mapping[str, Callable[[str], tuple[nn.Module, tuple[int, ...]]]] = {
    "torchvision": _build_torchvision,
    "torchvision-video": _build_video,
    "timm": _build_timm,
    "hf": _build_hugging_face,
}


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Replace whatever a fresh model holds constant (norm weights and statistics, layer scales, empty heads) by random values."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.numel() > 1 and parameter.min() == parameter.max():
            around_one = bool(parameter.flatten()[0] > 0.5)
            parameter.uniform_(0.5, 1.5) if around_one else parameter.normal_(0, 0.1)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
