"""What keeps weights from fitting a model: names, shapes, kinds of numbers, and values, each said with where it is."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def unusable(state: State) -> str | None:
    """Return what makes a state dict unusable for any model, or None: tensors without plain values, or with NaN among them."""
    for key, tensor in state.items():
        if tensor.is_quantized:
            return f"{key} is quantized; save the state dict of the model before it was quantized"
        if tensor.layout != torch.strided:
            return f"{key} is sparse ({tensor.layout}); save it after to_dense()"
        if tensor.is_meta:
            return f"{key} is on the meta device and holds no values"
        if (tensor.is_floating_point() or tensor.is_complex()) and bool(_checkable(tensor).isnan().any()):
            return f"{key} holds NaN, as after a training that diverged"
    return None


def misfit(state: State, own: State, parameters: frozenset[str]) -> str | None:
    """Return what does not fit, or None.

    Args:
        state: The weights.
        own: The model's own state dict; ``num_batches_tracked`` of BatchNorm may be missing in the weights.
        parameters: The names in ``own`` that are parameters: only buffers may hold infinite values.
    """
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    common = [key for key in own if key in state]
    differ = [
        f"{key} ({tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the model)"
        for key in common
        if state[key].shape != own[key].shape
    ]
    infinite = [key for key in common if key in parameters and _infinite(state[key])]
    problems = (
        _listing("missing", missing),
        _listing("unexpected", unexpected),
        _listing("of another shape", differ),
        other_kinds(state, own),
        _listing("with infinite values", infinite),
        _prefix(missing, unexpected),
    )
    return "; ".join(filter(None, problems)) or None


def other_kinds(state: State, own: State) -> str:
    """Name the weights that are integers where the model has floating-point numbers, and the like; empty if there are none."""
    common = (key for key in own if key in state and not _same_kind(state[key], own[key]))
    return _listing("of another kind of number", [f"{key} ({state[key].dtype} for {own[key].dtype})" for key in common])


def _same_kind(tensor: Tensor, own: Tensor) -> bool:
    """Whether both are floating, both complex, or both integers or booleans; integers for floats are quantized without their scales."""
    return (tensor.is_floating_point(), tensor.is_complex()) == (own.is_floating_point(), own.is_complex())


def _infinite(tensor: Tensor) -> bool:
    return (tensor.is_floating_point() or tensor.is_complex()) and not bool(_checkable(tensor).isfinite().all())


def _checkable(tensor: Tensor) -> Tensor:
    """Return the values in a dtype that torch can check; 8-bit floats are widened."""
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor


def _prefix(missing: list[str], unexpected: list[str]) -> str:
    """Name the prefix that explains at least half of the names that do not fit, such as ``backbone.``."""
    for longer, shorter, where in ((unexpected, missing, "in the file"), (missing, unexpected, "in the model")):
        wanted = set(shorter)
        for prefix in _first_parts(longer):
            count = sum(key.removeprefix(prefix) in wanted for key in longer if key.startswith(prefix))
            if 2 * count >= max(1, min(len(missing), len(unexpected))):
                return f"the names {where} begin with {prefix!r}, without which {count} of them fit"
    return ""


def _first_parts(keys: list[str]) -> Iterator[str]:
    yield from dict.fromkeys(f"{key.split('.', maxsplit=1)[0]}." for key in keys if "." in key)


def _listing(what: str, keys: list[str], shown: int = 3) -> str:
    more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return f"{what} {', '.join(keys[:shown])}{more}" if keys else ""
