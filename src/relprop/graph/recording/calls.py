"""Calls of ops on other tensors than the model's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from relprop.graph.nodes import as_meta
from relprop.ops.op import op_name
from relprop.ops.recorded import OF_UNKNOWN_SIZE
from relprop.ops.shapes import on_meta


def mapped(value: Any, function: Callable[[Tensor], Any]) -> Any:  # noqa: ANN401 - arguments of an op
    """Apply a function to the tensors in the arguments or results of an op."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, list):
        return [mapped(item, function) for item in value]
    if isinstance(value, tuple):
        return tuple(mapped(item, function) for item in value)
    if isinstance(value, dict):
        return {name: mapped(item, function) for name, item in value.items()}
    return value


def run_on(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], values: Mapping[int, Any]) -> Any:  # noqa: ANN401
    """Run an op on other tensors in the place of its own, by identity."""
    given, by_name = mapped((args, kwargs), lambda tensor: values[id(tensor)])
    return func(*given, **by_name)


def holds_tensors(result: Any) -> bool:  # noqa: ANN401
    """Whether an op returned tensors."""
    items: Sequence[Any] = result if isinstance(result, list | tuple) else [result]
    return any(isinstance(item, Tensor) for item in items)


def share_memory(a: Tensor, b: Tensor) -> bool:
    """Whether one of two tensors is a view of the other, or both of a third."""
    return torch._C._is_alias_of(a, b)  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]


def device_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.device | None:
    """The device that an op is told to put its result on."""
    return next((v for v in (*args, *kwargs.values()) if isinstance(v, torch.device)), None)


def run_without_values(func: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """Run an op on the meta device; one that has no kernel there, on zeros."""
    try:
        return on_meta(func, args, kwargs)
    except NotImplementedError:
        if op_name(func) in OF_UNKNOWN_SIZE or torch.Tag.dynamic_output_shape in func.tags:
            raise
        zeros, named = mapped((args, kwargs), lambda tensor: torch.zeros(tensor.shape, dtype=tensor.dtype))
        return mapped(func(*zeros, **named), as_meta)
