"""Import torchvision even if its compiled ops do not match the build of torch."""

import importlib
import sys
from types import ModuleType

import torch

from relprop.errors import ModelError

_libraries: list[torch.library.Library] = []  # keeps the declared ops alive: an op dies with its library


def import_torchvision() -> ModuleType:
    """Import torchvision; if its compiled ops do not load, declare the two ops that its import needs, and import again.

    A wheel's compiled ops load only beside the torch build they were made for. No classifier uses them, but the import fails
    at ``torchvision::nms``. Declaring the schemas changes nothing else; it is done only after the plain import has failed.

    Raises:
        ModelError: The package torchvision is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        raise ModelError('This model needs torchvision, which is not installed: pip install "relprop[vision]".') from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for op in ("nms", "qnms"):
        library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
    return importlib.import_module("torchvision")
