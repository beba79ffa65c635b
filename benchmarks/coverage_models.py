"""The models of the coverage sweep: which there are, and how each is built with random weights that leave nothing degenerate."""

from collections.abc import Callable, Mapping
from typing import Any

import coverage_libraries
import coverage_towers
import coverage_transformers
import torch
from coverage_case import Case, Subject, randomize, torchvision
from torch import nn

from relprop.targets import Box, Neuron, Pixels

TORCHVISION = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3", "maxvit_t",
    "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnet50",
    "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "vit_b_32",
    "wide_resnet50_2",
)  # fmt: skip
VIDEO = ["mc3_18", "mvit_v2_s", "r2plus1d_18", "r3d_18", "s3d", "swin3d_t"]
FIXED_SIZES = {"inception_v3": 299, "swin_v2_t": 256, "maxvit_t": 224, "vit_b_32": 224}
SEGMENTATION = ["deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50", "fcn_resnet50", "lraspp_mobilenet_v3_large"]
DETECTION: Mapping[str, tuple[str, Any]] = {
    "retinanet_resnet50_fpn": ("cls_logits", Box()),
    "retinanet_resnet50_fpn_v2": ("cls_logits", Box()),
    "fcos_resnet50_fpn": ("cls_logits", Box()),
    "ssd300_vgg16": ("cls_logits", Box()),
    "ssdlite320_mobilenet_v3_large": ("cls_logits", Box()),
    "fasterrcnn_mobilenet_v3_large_320_fpn": ("0.0", Neuron(None, (0, 1, 1))),
    "maskrcnn_resnet50_fpn": ("0.3", Neuron(None, (0, 1, 1))),
}
"""Detectors up to their raw heads: which output, and what is explained of it."""

FEATURES = (
    "coat_lite_tiny", "convnext_atto", "csatv2", "densenet121", "edgenext_xx_small", "efficientnet_b0", "fastvit_t8", "hrnet_w18_small",
    "mambaout_femto", "maxvit_rmlp_pico_rw_256", "mobilenetv3_small_050", "nextvit_small", "pvt_v2_b0", "regnetx_002", "repvit_m0_9",
    "resnet18", "sequencer2d_s", "swin_tiny_patch4_window7_224", "swinv2_cr_tiny_ns_224", "vgg11", "vit_tiny_patch16_224", "xcit_nano_12_p16_224",
)  # fmt: skip
"""timm models as feature extractors."""

SMALL = (
    "atto", "femto", "pico", "nano", "xxs", "xx_small", "x_small", "xs", "tiny", "_t", "mini", "zepto", "50", "b0", "s0", "18",
    "s12", "s1", "small", "_s", "lite0", "b1", "s", "base",
)  # fmt: skip
"""Marks of a small variant, from sure to unsure."""


def subjects() -> list[Subject]:
    """Return every model of the sweep, by library and family."""
    named: dict[str, Any] = {
        "torchvision": TORCHVISION,
        "torchvision-segmentation": SEGMENTATION,
        "torchvision-detection": DETECTION,
        "torchvision-video": VIDEO,
        "timm-features": FEATURES,
        **coverage_transformers.NAMES,
        **coverage_towers.NAMES,
        **coverage_libraries.NAMES,
    }
    found = {library: [Subject(f"{library}:{name}", name) for name in names] for library, names in named.items()}
    found["timm"] = timm_subjects()
    return [subject for library in _BUILDERS for subject in found[library]]


def timm_subjects() -> list[Subject]:
    """Return the smallest variant, as far as names and input sizes tell, of every timm module that registers models."""
    torchvision()
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


def build(name: str) -> Case:
    """Build a model of the sweep and an example batch of two, both in float64, deterministic for a name."""
    torch.manual_seed(0)
    library, _, short = name.partition(":")
    case = _BUILDERS[library](short)
    randomize(case.model)
    return case.double()


def _torchvision(name: str) -> Case:
    size = FIXED_SIZES.get(name, 96)
    return Case(torchvision().models.get_model(name, weights=None), _images(3, size, size))


def _segmentation(name: str) -> Case:
    return Case(torchvision().models.get_model(name, weights=None, weights_backbone=None), _images(3, 64, 64), Pixels(), "out")


def _detection(name: str) -> Case:
    import relprop.zoo

    model = torchvision().models.get_model(name, weights=None, weights_backbone=None, num_classes=4)
    output, target = DETECTION[name]
    size = 300 if name == "ssd300_vgg16" else 64
    return Case(relprop.zoo.raw_head(model.eval()), _images(3, size, size).sigmoid(), target, output)


def _video(name: str) -> Case:
    torchvision()
    from torchvision.models import video

    frames, size = (16, 224) if name in {"mvit_v2_s", "s3d"} else (8, 64) if name.startswith("swin") else (4, 32)
    return Case(getattr(video, name)(weights=None), _images(3, frames, size, size))


def _timm(name: str) -> Case:
    torchvision()
    import timm

    model = timm.create_model(name, pretrained=False)
    if not getattr(model, "num_classes", 0):
        model = timm.create_model(name, pretrained=False, num_classes=10)
    return Case(model, _images(*_timm_shape(model, model.pretrained_cfg)))


def _timm_shape(model: nn.Module, config: Mapping[str, Any]) -> tuple[int, ...]:
    channels, *size = config["input_size"]
    free = not config.get("fixed_input_size") and not any(isinstance(m, nn.MultiheadAttention) for m in model.modules())
    minimum = config.get("min_input_size")
    return (channels, *(minimum[1:] if free and minimum else size))


def _features(name: str) -> Case:
    """Return a feature extractor, asked for the unit of its last map that both samples excite most."""
    torchvision()
    import timm

    model = timm.create_model(name, pretrained=False, features_only=True).eval()
    settings = timm.get_pretrained_cfg(name).to_dict()
    images = _images(*_timm_shape(model, settings))
    randomize(model)  # before the unit is chosen
    with torch.no_grad():
        maps = model(images)
    unit = torch.unravel_index(maps[-1].amin(0).argmax(), maps[-1].shape[1:])
    return Case(model, images, Neuron(None, tuple(map(int, unit))), str(len(maps) - 1))


def _images(*shape: int) -> torch.Tensor:
    return torch.randn(2, *shape)


_BUILDERS: Mapping[str, Callable[[str], Case]] = {
    "torchvision": _torchvision,
    "torchvision-segmentation": _segmentation,
    "torchvision-detection": _detection,
    "torchvision-video": _video,
    "timm": _timm,
    "timm-features": _features,
    **coverage_transformers.BUILDERS,
    **coverage_towers.BUILDERS,
    **coverage_libraries.BUILDERS,
}
