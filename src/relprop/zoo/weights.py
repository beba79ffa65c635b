"""Load weights from a file: safetensors or a PyTorch state dict, never unpickled; a mismatch is one clear error."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from relprop.errors import ModelError
from relprop.files import as_path

State = dict[str, Tensor]

# Training scripts store the state dict of a checkpoint under these keys.
WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "weights", "params", "net")
# These prefixes come from DataParallel, torch.compile and Lightning.
PREFIXES = ("module.", "_orig_mod.", "model.")


def read_state(path: str | Path) -> State:
    """Read a state dict onto the CPU, and unwrap it from the common checkpoint formats.

    Raises:
        ModelError: The file is missing, has an unknown format, or holds more than tensors.
    """
    path = as_path(path, "The path of weights")
    if not path.is_file():
        raise ModelError(f"There is no weights file {path}.")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise ModelError(f"The weights file {path} cannot be read: {error.strerror}.") from None
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return _unwrap(_read_torch(path), path)
    raise ModelError(f"The weights file {path} is neither safetensors nor a PyTorch state dict.")


def load_weights(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a state dict into a model; ``num_batches_tracked`` of BatchNorm may be missing.

    Raises:
        ModelError: Keys are missing or unexpected, or shapes differ; the message names the first ones.
    """
    own = model.state_dict()
    state = _without_prefix(state, own)
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    differ = [
        f"{key} ({tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the model)"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [_listing("missing", missing), _listing("unexpected", unexpected), _listing("of another shape", differ)]
    if any(problems):
        raise ModelError(f"The weights in {source} do not fit the model: {'; '.join(filter(None, problems))}.")
    model.load_state_dict(dict(state), strict=False)


def number_of_classes(state: Mapping[str, Tensor], model: nn.Module, default: int) -> int:
    """Return the state's number of classes, inferred from shapes that differ from those of a model of ``default`` classes."""
    own = model.state_dict()
    state = _without_prefix(state, own)
    lengths = {
        state[key].shape[0]
        for key, value in own.items()
        if key in state and value.shape[:1] == (default,) and state[key].dim() == value.dim()
        if state[key].shape[0] != default and state[key].shape[1:] == value.shape[1:]
    }
    return lengths.pop() if len(lengths) == 1 else default


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"The safetensors file {path} is corrupt or truncated ({error}).") from error


def _read_torch(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds; _unwrap checks it
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"The weights file {path} holds Python objects, not only tensors, and such files are never unpickled; "
            "save the model's state_dict() instead."
        ) from error
    except Exception as error:  # broken archives raise almost anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"The weights file {path} is corrupt or no PyTorch state dict ({reason[0]}).") from error


def _unwrap(content: Any, path: Path) -> State:  # noqa: ANN401
    if isinstance(content, Mapping):
        mapping = cast("Mapping[Any, Any]", content)
        inner = next((mapping[key] for key in WRAPPERS if isinstance(mapping.get(key), Mapping)), None)
        if inner is not None:
            return _unwrap(inner, path)
        if mapping and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in mapping.items()):
            return dict(cast("Mapping[str, Tensor]", mapping))
    raise ModelError(f"The weights file {path} holds no state dict: names with tensors were expected.")


def _without_prefix(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Strip a common prefix off the keys if none of them is a key of the model."""
    for prefix in PREFIXES:
        if state and not state.keys() & own.keys() and all(key.startswith(prefix) for key in state):
            return _without_prefix({key.removeprefix(prefix): value for key, value in state.items()}, own)
    return state


def _listing(what: str, keys: list[str], shown: int = 3) -> str:
    more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return f"{what} {', '.join(keys[:shown])}{more}" if keys else ""
