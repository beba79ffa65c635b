"""Watch the user's model: what of it has changed since it was captured."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from relprop.errors import ModelError

_SAMPLED = 512


@dataclass(frozen=True, eq=False)
class _Weight:
    """A parameter or buffer as it was: which dict holds it under which name, the version of its values, and some of them.

    Torch counts no version where ``.data`` is written to, or a tensor of inference mode.
    """

    holder: Mapping[str, Any]
    name: str
    path: str
    tensor: Tensor
    version: int
    address: int
    values: Tensor

    @classmethod
    def of(cls, holder: Mapping[str, Any], name: str, path: str, tensor: Tensor) -> Self:
        return cls(holder, name, path, tensor, _version(tensor), tensor.data_ptr(), _some_values(tensor).clone())

    def changed(self) -> bool:
        """Whether it has other values now.

        Raises:
            ModelError: It is gone, or has another shape, dtype or device.
        """
        now = self.holder.get(self.name)
        same = now is self.tensor and _version(self.tensor) == self.version and self.tensor.data_ptr() == self.address
        if same and torch.equal(_some_values(self.tensor), self.values):
            return False
        if not isinstance(now, Tensor):
            raise ModelError(f"The model's {self.path!r} was taken away after it was captured; capture the model anew.")
        for what in ("shape", "dtype", "device"):
            before, after = getattr(self.tensor, what), getattr(now, what)
            if before != after:
                raise ModelError(
                    f"The model's {self.path!r} has the {what} {_printed(after)}, and had {_printed(before)} when it was captured; "
                    "capture the model anew."
                )
        return True


@dataclass(frozen=True)
class Watch:
    """The weights and the modules of a model when it was captured."""

    weights: tuple[_Weight, ...]
    modules: tuple[tuple[str, Mapping[str, Any], tuple[tuple[str, Any], ...]], ...]

    @classmethod
    def of(cls, model: nn.Module) -> Self:
        """Note the weights and the modules of a model."""
        weights, modules = list[_Weight](), list[tuple[str, Mapping[str, Any], tuple[tuple[str, Any], ...]]]()
        for path, module in model.named_modules():
            state = vars(module)
            if not isinstance(state.get("_modules"), dict):  # TorchScript
                continue
            modules.append((path, state["_modules"], tuple(state["_modules"].items())))
            for holder in (state["_parameters"], state["_buffers"]):
                named = [(name, tensor) for name, tensor in holder.items() if tensor is not None and not is_lazy(tensor)]
                weights += [_Weight.of(holder, name, f"{path}.{name}".removeprefix("."), tensor) for name, tensor in named]
        return cls(tuple(weights), tuple(modules))

    def without(self, names: Collection[str]) -> Self:
        """Return the same without some weights, by name."""
        return replace(self, weights=tuple(weight for weight in self.weights if weight.path not in names))

    def changed(self) -> bool:
        """Whether any weight has other values now; the cost is some microseconds per weight.

        Raises:
            ModelError: The structure, or the shape, dtype or device of a weight has changed.
        """
        for path, holder, children in self.modules:
            if len(holder) != len(children) or any(holder.get(name) is not child for name, child in children):
                where = f"module {path!r}" if path else "the model"
                raise ModelError(f"The modules of {where} have changed since it was captured; capture the model anew.")
        found = [
            weight.changed() for weight in self.weights
        ]  # all of them, so that an error is found before anything is captured anew
        return any(found)


def _some_values(tensor: Tensor) -> Tensor:
    """Return a view of up to about ``_SAMPLED`` values, evenly spread in memory."""
    plain = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    if not plain.numel() or plain.layout != torch.strided or plain.is_meta:
        return plain.new_empty(0)
    span = 1 + sum((n - 1) * step for n, step in zip(plain.shape, plain.stride(), strict=True))
    step = max(1, span // _SAMPLED)
    return plain.as_strided((-(-span // step),), (step,))


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _printed(value: Any) -> str:  # noqa: ANN401
    return str(tuple(value)) if isinstance(value, tuple) else str(value)
