"""The model's inputs: one tensor, several, or keyword arguments, in one value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from relprop.errors import InputError


@dataclass(frozen=True)
class Inputs:
    """Positional and keyword arguments of one call of the model; anything that is not a tensor is passed on as it is."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def tensors(self) -> list[tuple[str, Tensor]]:
        """The tensor arguments by name, as messages call them, positional ones first."""
        positional = [(f"input {i}", v) for i, v in enumerate(self.args)]
        return [(k, v) for k, v in [*positional, *self.kwargs.items()] if isinstance(v, Tensor)]

    @property
    def flat(self) -> list[Any]:
        """Positional arguments, then the values of keyword arguments."""
        return [*self.args, *self.kwargs.values()]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Inputs":
        """Apply ``function`` to every tensor."""
        args = tuple(function(v) if isinstance(v, Tensor) else v for v in self.args)
        return Inputs(args, {k: function(v) if isinstance(v, Tensor) else v for k, v in self.kwargs.items()})

    def resized(self, size: int) -> "Inputs":
        """Repeat or cut the batch to ``size`` samples."""
        batch = batch_size(self)

        def resize(value: Tensor) -> Tensor:
            if value.dim() == 0 or value.shape[0] != batch:
                return value
            return value.repeat(-(-size // batch), *[1] * (value.dim() - 1))[:size]

        return self.map(resize)

    def sample(self, index: int) -> "Inputs":
        """Return one sample as a batch of one."""
        batch = batch_size(self)
        return self.map(lambda v: v[index : index + 1] if v.dim() and v.shape[0] == batch else v)

    def restore(self, values: list[Tensor]) -> Any:  # noqa: ANN401 - the structure that the user gave
        """Put one tensor per tensor argument back into the structure of the arguments."""
        rest = iter(values)
        args = tuple(next(rest) if isinstance(v, Tensor) else v for v in self.args)
        kwargs = {k: next(rest) if isinstance(v, Tensor) else v for k, v in self.kwargs.items()}
        if kwargs:
            return {k: v for k, v in kwargs.items() if isinstance(v, Tensor)} if not args else (*args, kwargs)
        return args[0] if len(args) == 1 else args


def as_inputs(inputs: object) -> Inputs:
    """Read what the user passed: a tensor, a tuple or list of arguments, or a dict of keyword arguments.

    Raises:
        InputError: There is no tensor in it, a tensor is empty, sparse, without values, has no batch dimension, or holds NaN or infinite values.
    """
    if isinstance(inputs, Inputs):
        result = inputs
    elif isinstance(inputs, Tensor):
        result = Inputs((inputs,))
    elif isinstance(inputs, Mapping):
        result = Inputs((), {str(k): v for k, v in inputs.items()})
    elif isinstance(inputs, tuple | list):
        result = Inputs(tuple(inputs))
    else:
        raise InputError(
            f"Inputs must be a tensor, a tuple of arguments or a dict of keyword arguments, not {type(inputs).__name__}."
        )
    _check(result)
    return result


def _check(inputs: Inputs) -> None:
    if not inputs.tensors:
        raise InputError("The inputs hold no tensor; pass at least one tensor with a batch dimension.")
    for name, tensor in inputs.tensors:
        if tensor.is_meta or tensor.layout != torch.strided:
            wrong = (
                "is on the meta device and holds no values"
                if tensor.is_meta
                else f"is {tensor.layout}; pass it through to_dense()"
            )
            raise InputError(f"The tensor {name!r} {wrong}.")
        if tensor.numel() == 0:
            raise InputError(f"The tensor {name!r} is empty (shape {tuple(tensor.shape)}); pass at least one sample.")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"The tensor {name!r} holds NaN or infinite values; clean the input first.")
    if inputs.tensors[0][1].dim() == 0:
        raise InputError(f"The tensor {inputs.tensors[0][0]!r} has no batch dimension; pass it as (batch, …).")


def batch_size(inputs: Inputs) -> int:
    """The size of the first tensor's first dimension."""
    return inputs.tensors[0][1].shape[0]
