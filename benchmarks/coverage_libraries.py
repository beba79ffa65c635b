"""Models of segmentation-models-pytorch, MONAI and torchaudio in the coverage sweep."""

import importlib.util
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from coverage_case import Case, torchvision
from torch import nn

from relprop.targets import Neuron, Output, Pixels

# --- segmentation-models-pytorch -------------------------------------------------------------------------------------------------

SMP: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "unet": ("Unet", {}),
    "unet-scse": ("Unet", {"decoder_attention_type": "scse"}),
    "unetplusplus": ("UnetPlusPlus", {}),
    "manet": ("MAnet", {}),
    "linknet": ("Linknet", {}),
    "fpn": ("FPN", {}),
    "pspnet": ("PSPNet", {}),
    "deeplabv3": ("DeepLabV3", {}),
    "deeplabv3plus": ("DeepLabV3Plus", {}),
    "pan": ("PAN", {}),
    "upernet": ("UPerNet", {}),
    "segformer": ("Segformer", {"encoder_name": "mit_b0"}),
    "dpt": ("DPT", {"encoder_name": "tu-vit_tiny_patch16_224"}),
    "unet-efficientnet": ("Unet", {"encoder_name": "efficientnet-b0"}),
    "unet-mobileone": ("Unet", {"encoder_name": "mobileone_s0"}),
    "unet-timm": ("Unet", {"encoder_name": "tu-convnext_atto"}),
}
"""The class of an architecture, and its settings: a ResNet-18 encoder where none is named."""


def _smp(name: str) -> Case:
    torchvision()
    import segmentation_models_pytorch as smp

    made, settings = SMP[name]
    size = {"DPT": 224, "PAN": 128}.get(made, 64)
    model = getattr(smp, made)(**({"encoder_name": "resnet18"} | dict(settings)), encoder_weights=None, classes=3)
    return Case(model, torch.randn(2, 3, size, size), Pixels())


# --- MONAI -----------------------------------------------------------------------------------------------------------------------

_LEVELS = {"channels": (8, 16, 32), "strides": (2, 2)}
_VOLUME = {"in_channels": 1, "out_channels": 3}
_CLASSES = {"spatial_dims": 3, "in_channels": 1, "num_classes": 4}
_SEGMENTED = Pixels()
MONAI: Mapping[str, tuple[str, Mapping[str, Any], tuple[int, ...], Any, str | None]] = {
    "ahnet": ("AHNet", _VOLUME | {"layers": (1, 1, 1, 1), "psp_block_num": 0, "spatial_dims": 2}, (1, 64, 64), _SEGMENTED, None),
    "attentionunet": ("AttentionUnet", _VOLUME | _LEVELS | {"spatial_dims": 3}, (1, 16, 16, 16), _SEGMENTED, None),
    "autoencoder": (
        "AutoEncoder", _VOLUME | {"channels": (8, 16), "strides": (2, 2), "spatial_dims": 3}, (1, 16, 16, 16),
        Neuron(None, (0, 8, 8, 8)), None,
    ),
    "basicunet": ("BasicUNet", _VOLUME | {"features": (8, 8, 8, 16, 16, 8)}, (1, 32, 32, 32), _SEGMENTED, None),
    "basicunetplusplus": ("BasicUNetPlusPlus", _VOLUME | {"features": (8, 8, 8, 16, 16, 8)}, (1, 32, 32, 32), _SEGMENTED, "0"),
    "classifier": ("Classifier", {"in_shape": (1, 16, 16, 16), "classes": 4} | _LEVELS, (1, 16, 16, 16), None, None),
    "daf3d": ("DAF3D", _VOLUME, (1, 32, 32, 32), _SEGMENTED, None),
    "densenet121-3d": ("DenseNet121", {"spatial_dims": 3, "in_channels": 1, "out_channels": 4}, (1, 32, 32, 32), None, None),
    "densenet121-1d": ("DenseNet121", {"spatial_dims": 1, "in_channels": 2, "out_channels": 4}, (2, 128), None, None),
    "dynunet": (
        "DynUNet",
        _VOLUME | {"spatial_dims": 3, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [8, 16, 16],
                   "res_block": True},
        (1, 16, 16, 16), _SEGMENTED, None,
    ),
    "efficientnet-b0-3d": ("EfficientNetBN", _CLASSES | {"model_name": "efficientnet-b0", "pretrained": False}, (1, 32, 32, 32), None, None),
    "flexibleunet": (
        "FlexibleUNet",
        {"in_channels": 1, "out_channels": 3, "backbone": "efficientnet-b0", "decoder_channels": (32, 16, 16, 8, 8)},
        (1, 64, 64), _SEGMENTED, None,
    ),
    "highresnet": ("HighResNet", _VOLUME, (1, 16, 16, 16), _SEGMENTED, None),
    "mednext": (
        "MedNeXt", _VOLUME | {"init_filters": 8, "kernel_size": 3, "blocks_down": (1, 1), "blocks_up": (1, 1), "blocks_bottleneck": 1},
        (1, 16, 16, 16), _SEGMENTED, None,
    ),
    "quicknat": ("Quicknat", {"num_classes": 3, "num_filters": 8}, (1, 64, 64), _SEGMENTED, None),
    "regressor": ("Regressor", {"in_shape": (1, 16, 16, 16), "out_shape": (1,)} | _LEVELS, (1, 16, 16, 16), Output(), None),
    "resnet18-3d": ("resnet18", {"spatial_dims": 3, "n_input_channels": 1, "num_classes": 4}, (1, 32, 32, 32), None, None),
    "segresnet": ("SegResNet", _VOLUME, (1, 16, 16, 16), _SEGMENTED, None),
    "segresnetds": ("SegResNetDS", _VOLUME | {"init_filters": 8}, (1, 32, 32, 32), _SEGMENTED, None),
    "senet-3d": (
        "SENet",
        _CLASSES | {"block": "se_resnet_bottleneck", "layers": (1, 1, 1, 1), "groups": 1, "reduction": 16, "inplanes": 16},
        (1, 32, 32, 32), None, None,
    ),
    "swinunetr": (
        "SwinUNETR",
        _VOLUME | {"feature_size": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 4), "window_size": 4, "spatial_dims": 2},
        (1, 64, 64), _SEGMENTED, None,
    ),
    "unet": ("UNet", _VOLUME | _LEVELS | {"spatial_dims": 3, "num_res_units": 2}, (1, 16, 16, 16), _SEGMENTED, None),
    "unetr": (
        "UNETR", _VOLUME | {"img_size": 32, "feature_size": 8, "hidden_size": 48, "mlp_dim": 96, "num_heads": 4}, (1, 32, 32, 32), _SEGMENTED, None,
    ),
    "vit-3d": (
        "ViT",
        {"in_channels": 1, "img_size": (32, 32, 32), "patch_size": (8, 8, 8), "hidden_size": 48, "mlp_dim": 96, "num_layers": 2, "num_heads": 4,
         "classification": True, "num_classes": 4},
        (1, 32, 32, 32), None, "0",
    ),
    "vnet": ("VNet", _VOLUME, (1, 32, 32, 32), _SEGMENTED, None),
}  # fmt: skip
"""The class of a network, its settings, the shape of one input, what is explained, of which output."""


def _monai(name: str) -> Case:
    torchvision()
    from monai.networks import nets

    made, settings, shape, target, output = MONAI[name]
    return Case(getattr(nets, made)(**settings), torch.randn(2, *shape), target, output)


# --- torchaudio ------------------------------------------------------------------------------------------------------------------


def torchaudio_models() -> Any:  # noqa: ANN401 - a module
    """Import ``torchaudio.models`` alone: the compiled ops of torchaudio load only beside the torch that they were built for."""
    if sys.modules.get("torchaudio") is None:
        sys.modules.pop("torchaudio", None)
        spec = importlib.util.find_spec("torchaudio")
        if spec is None:
            raise ModuleNotFoundError("torchaudio is not installed")
        package = types.ModuleType("torchaudio")
        package.__path__ = list(spec.submodule_search_locations or ())
        package.__spec__ = spec
        sys.modules["torchaudio"] = package
    return importlib.import_module("torchaudio.models")


_WAV2VEC2 = {
    "extractor_mode": "group_norm", "extractor_conv_layer_config": [(32, 10, 5), (32, 8, 4), (32, 4, 2)], "extractor_conv_bias": False,
    "encoder_embed_dim": 48, "encoder_projection_dropout": 0.0, "encoder_pos_conv_kernel": 16, "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2, "encoder_num_heads": 4, "encoder_attention_dropout": 0.0, "encoder_ff_interm_features": 96,
    "encoder_ff_interm_dropout": 0.0, "encoder_dropout": 0.0, "encoder_layer_norm_first": False, "encoder_layer_drop": 0.0, "aux_num_out": 6,
}  # fmt: skip
_FRAME = Neuron(None, (3, 2))
_SPECTRUM = {"input": torch.randn(2, 24, 16), "lengths": torch.tensor([24, 24])}
TORCHAUDIO: Mapping[str, tuple[str, Mapping[str, Any], Any, Any, str | None]] = {
    "conformer": (
        "Conformer",
        {"input_dim": 16, "num_heads": 4, "ffn_dim": 32, "num_layers": 2, "depthwise_conv_kernel_size": 7},
        _SPECTRUM, _FRAME, "0",
    ),
    "conv_tasnet": (
        "ConvTasNet",
        {"enc_num_feats": 32, "msk_num_feats": 16, "msk_num_hidden_feats": 32, "msk_num_layers": 3, "msk_num_stacks": 2},
        (1, 400), Neuron(None, (0, 100)), None,
    ),
    "deepspeech": ("DeepSpeech", {"n_feature": 16, "n_hidden": 24, "n_class": 6}, (1, 20, 16), _FRAME, None),
    "emformer": (
        "Emformer",
        {"input_dim": 16, "num_heads": 4, "ffn_dim": 32, "num_layers": 2, "segment_length": 4, "left_context_length": 4},
        _SPECTRUM, _FRAME, "0",
    ),
    "hdemucs": (
        "HDemucs",
        {"sources": ["drums", "vocals"], "channels": 8, "nfft": 1024, "depth": 5, "audio_channels": 1},
        (1, 4096), Neuron(None, (0, 0, 1000)), None,
    ),
    "hubert": ("wav2vec2_model", _WAV2VEC2 | {"extractor_mode": "layer_norm", "encoder_layer_norm_first": True}, (1600,), _FRAME, "0"),
    "squim_objective": (
        "squim_objective_model",
        {"feat_dim": 32, "win_len": 16, "d_model": 32, "nhead": 4, "hidden_dim": 16, "num_blocks": 2, "rnn_type": "LSTM", "chunk_size": 7},
        (400,), Output(), "0",
    ),
    "wav2letter": ("Wav2Letter", {"num_classes": 6, "input_type": "mfcc", "num_features": 16}, (16, 64), Neuron(None, (2, 3)), None),
    "wav2vec2": ("wav2vec2_model", _WAV2VEC2, (1600,), _FRAME, "0"),
    "wavernn": (
        "WaveRNN",
        {"upsample_scales": [2, 2, 2], "n_classes": 8, "hop_length": 8, "n_res_block": 2, "n_rnn": 16, "n_fc": 16, "n_freq": 8, "n_hidden": 16,
         "n_output": 16},
        {"waveform": torch.randn(2, 1, 24), "specgram": torch.randn(2, 1, 8, 7)}, Neuron(None, (0, 3, 2)), None,
    ),
    "wavlm": ("wavlm_model", _WAV2VEC2 | {"encoder_num_buckets": 32, "encoder_max_distance": 64}, (1600,), _FRAME, "0"),
}  # fmt: skip
"""The function that makes a model, its settings, the inputs or the shape of one, what is explained, of which output."""


def _torchaudio(name: str) -> Case:
    made, settings, inputs, target, output = TORCHAUDIO[name]
    model: nn.Module = getattr(torchaudio_models(), made)(**settings)
    head = {"deepspeech": "out", "wav2letter": "acoustic_model"}.get(name)
    return Case(model, torch.randn(2, *inputs) if isinstance(inputs, tuple) else inputs, target, output, head=head)


NAMES: Mapping[str, Mapping[str, Any]] = {"smp": SMP, "monai": MONAI, "torchaudio": TORCHAUDIO}
BUILDERS: Mapping[str, Callable[[str], Case]] = {"smp": _smp, "monai": _monai, "torchaudio": _torchaudio}
