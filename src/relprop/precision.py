"""The precision that explanations are computed in: at least that of the method, whatever the model's own."""

import torch
from torch import Tensor

from relprop.graph.model import CapturedModel
from relprop.graph.nodes import is_floating, value_of
from relprop.inputs import Inputs


def at_least(captured: CapturedModel, least: torch.dtype | None) -> CapturedModel:
    """Return the model with every floating value of a lower precision raised to ``least``, casts of the model included.

    None leaves the model as it is; float64 becomes float32 on devices that lack it.
    """
    if least is None:
        return captured
    if any(tensor.device.type == "mps" for tensor in captured.module.buffers()):
        least = torch.float32
    wanted = least

    def raised(tensor: Tensor) -> Tensor:
        return tensor.to(torch.promote_types(tensor.dtype, wanted)) if tensor.is_floating_point() else tensor

    return captured.map(raised) if any(_lower(dtype, wanted) for dtype in _dtypes(captured)) else captured


def as_computed(given: Inputs, captured: CapturedModel) -> Inputs:
    """Return the inputs in the precision of the model that is computed with."""
    names = {name: example.dtype for name, example in captured.example.tensors}
    dtypes = {tensor.dtype: names[name] for name, tensor in given.tensors}
    return given.map(lambda tensor: tensor.to(dtypes[tensor.dtype]))


def _dtypes(captured: CapturedModel) -> set[torch.dtype]:
    nodes = [node for node in captured.module.graph.nodes if is_floating(node)]
    values = [value_of(node) for node in nodes]
    return {(v[0] if isinstance(v, list | tuple) else v).dtype for v in values}


def _lower(dtype: torch.dtype, least: torch.dtype) -> bool:
    return dtype.is_floating_point and torch.promote_types(dtype, least) != dtype
