"""Load weights from a file: safetensors or a PyTorch state dict, never unpickled; a mismatch is one clear error."""

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from relprop.errors import ModelError
from relprop.files import as_path
from relprop.zoo.misfit import misfit, unusable

State = dict[str, Tensor]

# Training scripts store the state dict of a checkpoint under these keys; the averaged (EMA) weights are those that they evaluate.
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
WRAPPERS = ("state_dict", "model_state_dict", "model", "weights", "params", "net", "module")
_DEPTH = 4
# These prefixes come from DataParallel, torch.compile and Lightning.
PREFIXES = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True)
class Weights:
    """A state dict on the CPU, the file that it is from, and what was chosen in it."""

    state: State
    path: Path
    notes: tuple[str, ...] = ()


def read_state(path: str | Path) -> State:
    """Return the state dict of :func:`read_weights`; errors are those of it."""
    return read_weights(path).state


def read_weights(path: str | Path) -> Weights:
    """Read a state dict onto the CPU, and unwrap it from the common checkpoint formats.

    Raises:
        ModelError: The file is missing, has an unknown format, holds more than tensors, or tensors without usable values.
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
        found = Weights(_read_safetensors(path), path)
    elif start[:2] == b"PK" or start[:1] == b"\x80":
        found = _unwrap(_read_torch(path), path)
    else:
        raise ModelError(f"The weights file {path} is neither safetensors nor a PyTorch state dict.")
    problem = unusable(found.state)
    if problem:
        raise ModelError(f"The weights file {path} cannot be used: {problem}.")
    return found


def load_weights(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a state dict into a model; ``num_batches_tracked`` of BatchNorm may be missing.

    Raises:
        ModelError: Keys are missing or unexpected, shapes or kinds of numbers differ, or parameters are infinite; the message names the
            first ones.
    """
    own = model.state_dict()
    state = _without_prefix(state, own)
    problem = misfit(state, own, frozenset(name for name, _ in model.named_parameters(remove_duplicate=False)))
    if problem:
        raise ModelError(f"The weights in {source} do not fit the model: {problem}.")
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
    except (SafetensorError, OSError, ValueError, OverflowError, RuntimeError, TypeError) as error:
        raise ModelError(f"The safetensors file {path} is corrupt or truncated ({error}).") from error


def _read_torch(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds; _unwrap checks it
    if _is_torchscript(path):
        raise ModelError(
            f"The weights file {path} is a TorchScript archive, a program and not weights; "
            "save the state_dict() of the model that it was made from, or of torch.jit.load."
        )
    try:
        # training scripts keep their arguments in checkpoints; a Namespace only holds values
        with (
            path.open("rb") as file,
            torch.serialization.safe_globals([argparse.Namespace]),
        ):  # from a path, torch goes by the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"The weights file {path} holds Python objects, not only tensors, and such files are never unpickled; "
            "save the model's state_dict() instead."
        ) from error
    except Exception as error:  # broken archives raise almost anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"The weights file {path} is corrupt or no PyTorch state dict ({reason[0]}).") from error


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # names that are no text, odd versions
        return False
    return any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names)


def _unwrap(content: Any, path: Path) -> Weights:  # noqa: ANN401
    averaged, plain = (_found(content, keys, _DEPTH) for keys in ((*AVERAGED, *WRAPPERS), WRAPPERS))
    if averaged is None:
        raise ModelError(f"The weights file {path} holds no state dict: names with tensors were expected.")
    if plain is None or plain is averaged:
        return Weights(dict(averaged), path)
    note = f"{path.name} holds averaged (EMA) weights beside the plain ones; the averaged ones are taken"
    return Weights(dict(averaged), path, (note,))


def _found(content: Any, keys: tuple[str, ...], depth: int) -> Mapping[str, Tensor] | None:  # noqa: ANN401
    """Return the first state dict under one of the keys, no deeper than ``depth``; a checkpoint may hold itself."""
    if not isinstance(content, Mapping) or not depth:
        return None
    mapping = cast("Mapping[Any, Any]", content)
    if mapping and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in mapping.items()):
        return cast("Mapping[str, Tensor]", mapping)
    inner = (_found(mapping[key], keys, depth - 1) for key in keys if key in mapping)
    return next((state for state in inner if state is not None), None)


def _without_prefix(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Strip a common prefix off the keys if none of them is a key of the model."""
    for prefix in PREFIXES:
        if state and not state.keys() & own.keys() and all(key.startswith(prefix) for key in state):
            return _without_prefix({key.removeprefix(prefix): value for key, value in state.items()}, own)
    return state
