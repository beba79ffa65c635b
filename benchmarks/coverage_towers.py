"""Models of transformers that are no plain classifiers in the coverage sweep: towers, segmentation, depth, detection; and of videos."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from coverage_case import Case, torchvision
from coverage_transformers import SWIN, TOKENS, VIT, of_tokens

from relprop.targets import Box, Neuron, Pixels, Similarity

_TEXT_TOWER = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 16, "projection_dim": 24, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, "projection_size": 24,
}  # fmt: skip
_IMAGE_TOWER = VIT | {"projection_dim": 24}
TOWERS: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "align-text": ("AlignTextModel", _TEXT_TOWER, "pooler_output"),
    "align-vision": (
        "AlignVisionModel",
        {"image_size": 64, "width_coefficient": 1.0, "depth_coefficient": 0.3, "hidden_dim": 1280},
        "pooler_output",
    ),
    "altclip-vision": ("AltCLIPVisionModel", _IMAGE_TOWER, "pooler_output"),
    "blip-text": ("BlipTextModel", _TEXT_TOWER | {"is_decoder": False}, "pooler_output"),
    "blip-vision": ("BlipVisionModel", _IMAGE_TOWER, "pooler_output"),
    "chinese-clip-text": ("ChineseCLIPTextModel", _TEXT_TOWER, "pooler_output"),
    "chinese-clip-vision": ("ChineseCLIPVisionModel", _IMAGE_TOWER, "pooler_output"),
    "clap-audio": (
        "ClapAudioModelWithProjection",
        {"spec_size": 64, "num_mel_bins": 32, "patch_size": 4, "patch_stride": [4, 4], "window_size": 4, "depths": [1, 1], "hidden_size": 48,
         "num_attention_heads": [2, 4], "patch_embeds_hidden_size": 24, "projection_dim": 24, "num_hidden_layers": 2},
        "audio_embeds",
    ),
    "clap-text": ("ClapTextModelWithProjection", _TEXT_TOWER | {"max_position_embeddings": 32}, "text_embeds"),
    "clip-text": ("CLIPTextModelWithProjection", _TEXT_TOWER, "text_embeds"),
    "clip-vision": ("CLIPVisionModelWithProjection", _IMAGE_TOWER, "image_embeds"),
    "metaclip_2-text": ("MetaClip2TextModelWithProjection", _TEXT_TOWER, "text_embeds"),
    "metaclip_2-vision": ("MetaClip2VisionModelWithProjection", _IMAGE_TOWER, "image_embeds"),
    "siglip-text": ("SiglipTextModel", _TEXT_TOWER, "pooler_output"),
    "siglip-vision": ("SiglipVisionModel", _IMAGE_TOWER, "pooler_output"),
    "siglip2-text": ("Siglip2TextModel", _TEXT_TOWER, "pooler_output"),
    "x_clip-vision": ("XCLIPVisionModel", _IMAGE_TOWER | {"num_frames": 1, "mit_hidden_size": 32}, "pooler_output"),
}  # fmt: skip
"""Towers of models of several kinds of input: the class, its configuration, and the embedding."""

_DETR = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64, "num_queries": 6, "num_labels": 4,
}  # fmt: skip
_RESNET = {"model_type": "resnet", "depths": [1, 1, 1, 1], "embedding_size": 16, "hidden_sizes": [16, 32, 48, 64]}
_STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
_SWIN_STAGES = (
    SWIN | {"model_type": "swin", "window_size": 4, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "image_size": 64} | _STAGES
)
_MASKS = {"num_queries": 6, "num_labels": 4}
DENSE: Mapping[str, tuple[str, Mapping[str, Any], int, Any, str | None]] = {
    "beit-segmentation": (
        "BeitForSemanticSegmentation",
        VIT | {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4], "num_labels": 4, "pool_scales": [1, 2], "add_fpn": True},
        64, Pixels(), None,
    ),
    "dpt-segmentation": (
        "DPTForSemanticSegmentation",
        VIT | {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [16, 16, 24, 24], "fusion_hidden_size": 16,
                   "num_labels": 4, "readout_type": "project"},
        64, Pixels(), None,
    ),
    "mobilevit-segmentation": ("MobileViTForSemanticSegmentation", {"image_size": 64, "num_labels": 4}, 64, Pixels(), None),
    "segformer-segmentation": ("SegformerForSemanticSegmentation", {"num_labels": 4}, 64, Pixels(), None),
    "upernet-segmentation": (
        "UperNetForSemanticSegmentation",
        {"backbone_config": _RESNET | _STAGES, "hidden_size": 24, "pool_scales": [1, 2], "auxiliary_in_channels": 48,
         "auxiliary_channels": 16, "num_labels": 4},
        64, Pixels(), None,
    ),
    "depth_anything-depth": (
        "DepthAnythingForDepthEstimation",
        {"backbone_config": {"model_type": "dinov2", **VIT, "patch_size": 8, "num_hidden_layers": 4, "apply_layernorm": True,
                             "reshape_hidden_states": False, **_STAGES},
         "reassemble_hidden_size": 96, "neck_hidden_sizes": [16, 16, 24, 24], "fusion_hidden_size": 16, "head_hidden_size": 8, "patch_size": 8},
        64, Neuron(None, (20, 20)), "predicted_depth",
    ),
    "glpn-depth": (
        "GLPNForDepthEstimation",
        {"hidden_sizes": [16, 16, 24, 32], "num_attention_heads": [1, 1, 2, 2], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16},
        64, Neuron(None, (20, 20)), "predicted_depth",
    ),
    "mask2former-queries": (
        "Mask2FormerForUniversalSegmentation",
        {"backbone_config": _SWIN_STAGES, "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2,
         "num_attention_heads": 4, "dim_feedforward": 64, "encoder_feedforward_dim": 64, **_MASKS},
        64, Box(), "class_queries_logits",
    ),
    "maskformer-queries": (
        "MaskFormerForInstanceSegmentation",
        {"backbone_config": _SWIN_STAGES, "decoder_config": {"model_type": "detr", **_DETR}, "fpn_feature_size": 32, "mask_feature_size": 32,
         **_MASKS},
        64, Box(), "class_queries_logits",
    ),
    "conditional_detr": (
        "ConditionalDetrForObjectDetection", _DETR | {"backbone_config": _RESNET | {"out_features": ["stage4"]}}, 64, Box(), None,
    ),
    "dab-detr": (
        "DabDetrForObjectDetection",
        _DETR | {"backbone_config": _RESNET | {"out_features": ["stage4"]}, "hidden_size": 32}, 64, Box(), None,
    ),
    "deformable_detr": (
        "DeformableDetrForObjectDetection",
        _DETR | {"backbone_config": _RESNET | {"out_features": ["stage2", "stage3", "stage4"]}, "num_feature_levels": 3}, 64, Box(), None,
    ),
    "detr": ("DetrForObjectDetection", _DETR | {"backbone_config": _RESNET | {"out_features": ["stage4"]}}, 64, Box(), None),
    "rt_detr": (
        "RTDetrForObjectDetection",
        _DETR | {"backbone_config": {"model_type": "rt_detr_resnet", "depths": [1, 1, 1, 1], "embedding_size": 16,
                                     "hidden_sizes": [16, 32, 48, 64], "layer_type": "basic", "out_features": ["stage2", "stage3", "stage4"]},
                 "encoder_in_channels": [32, 48, 64], "encoder_hidden_dim": 32, "decoder_in_channels": [32, 32, 32], "num_denoising": 0},
        64, Box(), "logits",
    ),
    "yolos": ("YolosForObjectDetection", VIT | {"num_detection_tokens": 6, "image_size": [64, 64], "num_labels": 4}, 64, Box(), None),
}  # fmt: skip
"""Segmentation, depth and detection: the class, its configuration, the image size, what is explained, of which output."""

VIDEO: Mapping[str, tuple[str, Mapping[str, Any], int]] = {
    "timesformer": ("TimesformerForVideoClassification", VIT | {"num_frames": 4, "num_labels": 5}, 4),
    "videomae": ("VideoMAEForVideoClassification", VIT | {"num_frames": 4, "tubelet_size": 2, "num_labels": 5}, 4),
    "vivit": ("VivitForVideoClassification", VIT | {"num_frames": 4, "tubelet_size": [2, 16, 16], "num_labels": 5}, 4),
}
"""Classifiers of videos: the class, its configuration, the number of frames."""

NAMES: Mapping[str, Mapping[str, Any]] = {"hf-video": VIDEO, "hf-tower": TOWERS, "hf-dense": DENSE}


def _tower(kind: str) -> Case:
    torchvision()
    import transformers as hf

    name, settings, output = TOWERS[kind]
    made: Any = getattr(hf, name)
    model = made(made.config_class(**settings))
    if "text" in kind:
        with torch.no_grad():
            found = model(input_ids=TOKENS)
        return of_tokens(model, {"input_ids": TOKENS}, _toward(found[output]), output)
    inputs = torch.randn(2, 1, 64, 32) if kind == "clap-audio" else torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = model(inputs)
    return Case(model, inputs, _toward(found[output]), output)


def _toward(embedding: torch.Tensor) -> Similarity:
    return Similarity(torch.randn(embedding.shape[-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def _dense(kind: str) -> Case:
    torchvision()
    import transformers as hf

    name, settings, size, target, output = DENSE[kind]
    made: Any = getattr(hf, name)
    model = made(made.config_class(**settings))
    return Case(model, torch.randn(2, 3, size, size), target, output, single=kind == "dab-detr")


def _video(kind: str) -> Case:
    torchvision()
    import transformers as hf

    name, settings, frames = VIDEO[kind]
    made: Any = getattr(hf, name)
    return Case(made(made.config_class(**settings)), torch.randn(2, frames, 3, 64, 64))


BUILDERS: Mapping[str, Callable[[str], Case]] = {"hf-video": _video, "hf-tower": _tower, "hf-dense": _dense}
