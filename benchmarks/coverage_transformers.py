"""Classifiers of transformers in the coverage sweep: tiny configurations of models of images, text and audio."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from coverage_case import Case, torchvision
from torch import nn

from relprop.targets import Box, Neuron

VIT = {
    "image_size": 64,
    "patch_size": 16,
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
}
SWIN = {"image_size": 128, "patch_size": 4, "embed_dim": 24, "depths": [2, 2, 2], "num_heads": [1, 2, 4]}
_TOWER = {"vision_config": VIT, "text_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}}
VISION: Mapping[str, Mapping[str, Any]] = {
    "beit": VIT | {"use_relative_position_bias": True},
    "bit": {"depths": [1, 1, 1, 1]},
    "clip": _TOWER,
    "convnext": {"depths": [1, 1, 2, 1]},
    "convnextv2": {"depths": [1, 1, 2, 1]},
    "cvt": {},
    "data2vec-vision": VIT,
    "deit": VIT,
    "dinov2": VIT,
    "dinov2_with_registers": VIT,
    "donut-swin": SWIN,
    "efficientnet": {"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 128, "hidden_dim": 1280},
    "focalnet": {"image_size": 128},
    "hgnet_v2": {},
    "hiera": {},
    "ijepa": VIT,
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
    "swin": SWIN | {"window_size": 4},
    "swinv2": SWIN | {"window_size": 4},
    "textnet": {},
    "vit": VIT,
    "vit_msn": VIT,
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
    "audio-spectrogram-transformer": (VIT | {"num_mel_bins": 32, "max_length": 64}, (64, 32)),
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

NAMES: Mapping[str, Mapping[str, Any]] = {
    "hf": VISION,
    "hf-text": TEXT,
    "hf-audio": AUDIO,
}

TOKENS = torch.tensor([[5, 17, 3, 42, 8, 90, 33, 21, 64, 7, 55, 3], [9, 71, 30, 14, 66, 3, 5, 28, 44, 80, 12, 3]])
_ALL = torch.ones_like(TOKENS)


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
        last = Neuron(None, (TOKENS.shape[1] - 1, 5))
        return of_tokens(hf.AutoModelForCausalLM.from_config(config), {"input_ids": TOKENS}, last, "logits")
    config = hf.AutoConfig.for_model(kind, **settings, num_labels=4)
    if kind in {"t5", "umt5"}:
        marks = hf.AutoModelForTokenClassification.from_config(config)
        return of_tokens(marks, {"input_ids": TOKENS, "attention_mask": _ALL}, Box(), None)
    model = hf.AutoModelForSequenceClassification.from_config(config)
    return of_tokens(model, {"input_ids": TOKENS, "attention_mask": _ALL}, None, "logits")


def of_tokens(model: nn.Module, inputs: Any, target: Any, output: str | None) -> Case:  # noqa: ANN401
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


BUILDERS: Mapping[str, Callable[[str], Case]] = {
    "hf": _vision,
    "hf-text": _text,
    "hf-audio": _audio,
}
