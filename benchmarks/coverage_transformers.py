"""The models of transformers in the coverage sweep: tiny configurations of vision, text, audio, towers, segmentation and detection."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from coverage_case import Case, torchvision
from torch import nn

from relprop.targets import Box, Neuron, Output, Pixels, Similarity

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
VISION: Mapping[str, Mapping[str, Any]] = {
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

_TEXT = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
_GROUPED = _TEXT | {"num_key_value_heads": 2, "head_dim": 12}
_T5 = {"vocab_size": 96, "d_model": 48, "d_kv": 12, "d_ff": 96, "num_layers": 2, "num_heads": 4, "pad_token_id": 0}
_BART = {
    "vocab_size": 96, "d_model": 48, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "max_position_embeddings": 64, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3,
    "decoder_start_token_id": 3,
}  # fmt: skip
TEXT: Mapping[str, Mapping[str, Any]] = {
    "albert": _TEXT | {"embedding_size": 24},
    "bart": _BART,
    "bert": _TEXT,
    "big_bird": _TEXT | {"attention_type": "original_full"},
    "biogpt": _TEXT,
    "bloom": _TEXT,
    "camembert": _TEXT,
    "convbert": _TEXT | {"embedding_size": 48},
    "data2vec-text": _TEXT,
    "deberta": _TEXT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": _TEXT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16},
    "distilbert": _TEXT,
    "electra": _TEXT | {"embedding_size": 24},
    "ernie": _TEXT,
    "esm": _TEXT | {"mask_token_id": 4, "position_embedding_type": "rotary"},
    "falcon": _TEXT | {"new_decoder_architecture": False},
    "fnet": _TEXT | {"tpu_short_seq_length": 12},
    "funnel": {"vocab_size": 96, "d_model": 48, "n_head": 4, "d_head": 12, "d_inner": 96, "block_sizes": [1, 1], "pad_token_id": 1},
    "gemma": _GROUPED,
    "gemma2": _GROUPED | {"layer_types": ["sliding_attention", "full_attention"]},
    "glm": _GROUPED,
    "gpt2": _TEXT,
    "gpt_neo": _TEXT | {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "gpt_neox": _TEXT,
    "gptj": _TEXT | {"rotary_dim": 4},
    "llama": _GROUPED,
    "longformer": _TEXT | {"attention_window": 8},
    "megatron-bert": _TEXT,
    "mistral": _GROUPED,
    "mixtral": _GROUPED | {"num_local_experts": 2, "experts_implementation": "eager"},
    "mobilebert": _TEXT | {"embedding_size": 24, "intra_bottleneck_size": 24, "true_hidden_size": 24},
    "modernbert": _TEXT | {"cls_token_id": 2, "sep_token_id": 3, "global_attn_every_n_layers": 2},
    "mpnet": _TEXT,
    "mpt": {"vocab_size": 96, "d_model": 48, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "pad_token_id": 1},
    "nystromformer": _TEXT | {"num_landmarks": 4, "segment_means_seq_len": 12},
    "olmo": _GROUPED,
    "olmo2": _GROUPED,
    "openai-gpt": _TEXT,
    "opt": _TEXT | {"ffn_dim": 96, "word_embed_proj_dim": 48},
    "phi": _TEXT,
    "phi3": _TEXT | {"num_key_value_heads": 2},
    "qwen2": _TEXT | {"num_key_value_heads": 2},
    "qwen3": _GROUPED,
    "rembert": _TEXT | {"input_embedding_size": 24, "output_embedding_size": 24},
    "roberta": _TEXT,
    "roformer": _TEXT,
    "squeezebert": _TEXT | {"embedding_size": 48},
    "stablelm": _GROUPED | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}},
    "starcoder2": _GROUPED,
    "t5": _T5,
    "umt5": _T5,
    "xlm": {"vocab_size": 96, "emb_dim": 48, "n_layers": 2, "n_heads": 4, "pad_token_id": 2},
    "xlm-roberta": _TEXT,
    "xlnet": {"vocab_size": 96, "d_model": 48, "n_layer": 2, "n_head": 4, "d_inner": 96, "pad_token_id": 1},
    "mamba": {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2, "state_size": 8, "pad_token_id": 1},
    "mamba2": {
        "vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2, "state_size": 8, "num_heads": 12, "head_dim": 8, "n_groups": 4,
        "chunk_size": 8, "pad_token_id": 1,
    },
    "rwkv": {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2, "attention_hidden_size": 48, "intermediate_size": 96},
}  # fmt: skip
"""Text models: classifiers of sequences; T5 marks tokens, and state-space models predict the next token."""

_SPEECH = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "conv_dim": (32, 32, 32),
    "conv_stride": (5, 4, 2), "conv_kernel": (10, 8, 4), "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 32, "num_labels": 5,
}  # fmt: skip
AUDIO: Mapping[str, tuple[Mapping[str, Any], tuple[int, ...]]] = {
    "audio-spectrogram-transformer": (_VISION | {"num_mel_bins": 32, "max_length": 64}, (64, 32)),
    "data2vec-audio": (_SPEECH | {"conv_pos_kernel_size": 19}, (1600,)),
    "hubert": (_SPEECH, (1600,)),
    "sew": (_SPEECH | {"squeeze_factor": 2}, (1600,)),
    "sew-d": (_SPEECH | {"squeeze_factor": 2, "position_buckets": 16}, (1600,)),
    "unispeech": (_SPEECH, (1600,)),
    "unispeech-sat": (_SPEECH, (1600,)),
    "wav2vec2": (_SPEECH, (1600,)),
    "wav2vec2-bert": (_SPEECH | {"feature_projection_input_dim": 32}, (40, 32)),
    "wav2vec2-conformer": (_SPEECH, (1600,)),
    "wavlm": (_SPEECH, (1600,)),
    "whisper": (
        {"num_mel_bins": 16, "d_model": 48, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 96, "max_source_positions": 40,
         "decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 96, "classifier_proj_size": 32},
        (16, 80),
    ),
}  # fmt: skip
"""Classifiers of audio, with the shape of one waveform or spectrogram."""

_TEXT_TOWER = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 16, "projection_dim": 24, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, "projection_size": 24,
}  # fmt: skip
_IMAGE_TOWER = _VISION | {"projection_dim": 24}
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
_SWIN_STAGES = _SWIN | {"model_type": "swin", "window_size": 4, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "image_size": 64} | _STAGES
_MASKS = {"num_queries": 6, "num_labels": 4}
DENSE: Mapping[str, tuple[str, Mapping[str, Any], int, Any, str | None]] = {
    "beit-segmentation": (
        "BeitForSemanticSegmentation",
        _VISION | {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4], "num_labels": 4, "pool_scales": [1, 2], "add_fpn": True},
        64, Pixels(), None,
    ),
    "dpt-segmentation": (
        "DPTForSemanticSegmentation",
        _VISION | {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [16, 16, 24, 24], "fusion_hidden_size": 16,
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
        {"backbone_config": {"model_type": "dinov2", **_VISION, "patch_size": 8, "num_hidden_layers": 4, "apply_layernorm": True,
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
    "yolos": ("YolosForObjectDetection", _VISION | {"num_detection_tokens": 6, "image_size": [64, 64], "num_labels": 4}, 64, Box(), None),
}  # fmt: skip
"""Segmentation, depth and detection: the class, its configuration, the image size, what is explained, of which output."""

VIDEO: Mapping[str, tuple[str, Mapping[str, Any], int]] = {
    "timesformer": ("TimesformerForVideoClassification", _VISION | {"num_frames": 4, "num_labels": 5}, 4),
    "videomae": ("VideoMAEForVideoClassification", _VISION | {"num_frames": 4, "tubelet_size": 2, "num_labels": 5}, 4),
    "vivit": ("VivitForVideoClassification", _VISION | {"num_frames": 4, "tubelet_size": [2, 16, 16], "num_labels": 5}, 4),
}
"""Classifiers of videos: the class, its configuration, the number of frames."""

NAMES: Mapping[str, Mapping[str, Any]] = {
    "hf": VISION,
    "hf-video": VIDEO,
    "hf-text": TEXT,
    "hf-audio": AUDIO,
    "hf-tower": TOWERS,
    "hf-dense": DENSE,
}

_TOKENS = torch.tensor([[5, 17, 3, 42, 8, 90, 33, 21, 64, 7, 55, 3], [9, 71, 30, 14, 66, 3, 5, 28, 44, 80, 12, 3]])
_ALL = torch.ones_like(_TOKENS)


def _vision(kind: str) -> Case:
    torchvision()
    from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, AutoConfig

    config = AutoConfig.for_model(kind, **VISION[kind], num_labels=10)
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", None) or 64
    size = size if isinstance(size, int) else size[0]
    classes = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)]
    model = classes[0] if isinstance(classes, tuple) else classes
    return Case(model(config), torch.randn(2, getattr(vision, "num_channels", 3), size, size, dtype=torch.float64))


def _text(kind: str) -> Case:
    torchvision()
    import transformers as hf

    settings = TEXT[kind]
    if kind in {"mamba", "mamba2", "rwkv"}:
        config = hf.AutoConfig.for_model(kind, **settings)
        last = Neuron(None, (_TOKENS.shape[1] - 1, 5))
        return _of_tokens(hf.AutoModelForCausalLM.from_config(config), {"input_ids": _TOKENS}, last, "logits")
    config = hf.AutoConfig.for_model(kind, **settings, num_labels=4)
    if kind in {"t5", "umt5"}:
        marks = hf.AutoModelForTokenClassification.from_config(config)
        return _of_tokens(marks, {"input_ids": _TOKENS, "attention_mask": _ALL}, Box(), None)
    model = hf.AutoModelForSequenceClassification.from_config(config)
    return _of_tokens(model, {"input_ids": _TOKENS, "attention_mask": _ALL}, None, "logits")


def _of_tokens(model: nn.Module, inputs: Any, target: Any, output: str | None) -> Case:  # noqa: ANN401
    """Return the case of a model of token numbers, with the path of the module that looks them up."""
    words: Any = model.get_input_embeddings()
    path = next(name for name, module in model.named_modules() if module is words)
    return Case(model, inputs, target, output, lookup=path)


def _audio(kind: str) -> Case:
    torchvision()
    import transformers as hf

    settings, shape = AUDIO[kind]
    config = hf.AutoConfig.for_model(kind, **settings)
    return Case(hf.AutoModelForAudioClassification.from_config(config), torch.randn(2, *shape))


def _tower(kind: str) -> Case:
    torchvision()
    import transformers as hf

    name, settings, output = TOWERS[kind]
    made: Any = getattr(hf, name)
    model = made(made.config_class(**settings))
    if "text" in kind:
        with torch.no_grad():
            found = model(input_ids=_TOKENS)
        return _of_tokens(model, {"input_ids": _TOKENS}, _toward(found[output]), output)
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


BUILDERS: Mapping[str, Callable[[str], Case]] = {
    "hf": _vision,
    "hf-video": _video,
    "hf-text": _text,
    "hf-audio": _audio,
    "hf-tower": _tower,
    "hf-dense": _dense,
}
