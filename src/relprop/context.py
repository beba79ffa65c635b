"""The context in which relprop works: ordinary tensors, no autocast, no gradients, whatever the caller's context is."""

import copy
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_AUTOCAST_DEVICES = ("cpu", "cuda", "xpu", "mps", "hpu", "mtia", "maia", "ipu", "xla")


@contextmanager
def own_context() -> Generator[None, None, None]:
    """Leave inference mode, autocast and gradients; the caller's context, which belongs to its thread, comes back at the end."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for kind in _AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def ordinary(value: Any) -> Any:  # noqa: ANN401 - a tensor, or anything else
    """Return a copy of a tensor that was made in inference mode, which autograd refuses; anything else as it is."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def ordinary_model(model: nn.Module) -> nn.Module:
    """Return a copy of a model that holds tensors made in inference mode; any other model itself."""
    made = [tensor for tensor in (*model.parameters(), *model.buffers()) if not is_lazy(tensor) and tensor.is_inference()]
    if not made:
        return model
    memo: dict[int, Any] = {id(t): _copied(t) for t in made}
    return copy.deepcopy(model, memo)


def _copied(tensor: Tensor) -> Tensor:
    values = tensor.detach().clone()
    return nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values
