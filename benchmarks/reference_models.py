"""The reference models of the benchmarks, real weights from a folder.

    RELPROP_WEIGHTS=FOLDER relprop evaluate --model benchmarks/reference_models.py:resnet50 …

The folder holds a ``load.py`` that offers ``load(name) -> (model, preprocess, labels)``.
"""

import importlib.util
import os
from pathlib import Path

from torch import nn

from relprop.errors import ModelError
from relprop.zoo import Preprocessing
from relprop.zoo.torchvision_ops import import_torchvision

VARIABLE = "RELPROP_WEIGHTS"
_CAFFE = {"scale": 1.0, "mean": (104.0, 117.0, 123.0), "std": (1.0, 1.0, 1.0), "channels": "BGR"}
PREPROCESSING = {  # what the folder's ``preprocess`` does
    "resnet50": Preprocessing(scale=1.0, mean=(123.68, 116.78, 103.94), std=(1.0, 1.0, 1.0)),
    "vgg16_voc5": Preprocessing(),
    "deit_tiny": Preprocessing(interpolation="bicubic"),
    "googlenet_bvlc": Preprocessing(**_CAFFE),
    "squeezenet1_1": Preprocessing(**_CAFFE),
}

Loaded = tuple[nn.Module, Preprocessing, list[str] | None]


def load_reference(name: str, folder: Path) -> Loaded:
    """Load one of ``PREPROCESSING`` in evaluation mode, with its preprocessing and, where they are not ImageNet's, its class names."""
    path = folder / "load.py"
    if not path.is_file():
        raise ModelError(f"There is no {path}; set {VARIABLE} to the folder of the reference weights.")
    import_torchvision()
    spec = importlib.util.spec_from_file_location("weights_folder", path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model, _, labels = module.load(name)
    return model.eval(), PREPROCESSING[name], labels


def _from_environment(name: str) -> Loaded:
    if not os.environ.get(VARIABLE):
        raise ModelError(f"Set the environment variable {VARIABLE} to the folder of the reference weights.")
    return load_reference(name, Path(os.environ[VARIABLE]))


def resnet50() -> Loaded:
    """ResNet-50 v1.5, 1000 classes."""
    return _from_environment("resnet50")


def vgg16_voc5() -> Loaded:
    """VGG-16 with a head for five animals of Pascal VOC."""
    return _from_environment("vgg16_voc5")


def googlenet_bvlc() -> Loaded:
    """GoogLeNet of BVLC, 1000 classes."""
    return _from_environment("googlenet_bvlc")


def deit_tiny() -> Loaded:
    """DeiT-tiny, 1000 classes."""
    return _from_environment("deit_tiny")


def squeezenet1_1() -> Loaded:
    """SqueezeNet 1.1, 1000 classes."""
    return _from_environment("squeezenet1_1")
