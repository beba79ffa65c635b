"""Tensors of a recorded forward pass: their node in the graph, and the memory that views share."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx


class View(NamedTuple):
    """One step from a tensor to a view of it: ``op(tensor, *args, **kwargs)``."""

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def of(self, tensor: Tensor) -> Tensor:
        """Return the view of a tensor."""
        return self.op(tensor, *self.args, **self.kwargs)


@dataclass
class Memory:
    """Memory that a tensor and its views share.

    Attributes:
        node: The whole as of the last write.
        value: The same as a tensor: a real constant, or one on the meta device.
        version: How often it was written to.
    """

    node: fx.Node
    value: Tensor
    version: int = 0


@dataclass
class Entry:
    """What the recorder knows of one tensor.

    Attributes:
        node: Its node in the graph, as of ``version``.
        value: A real constant, or a tensor on the meta device where it depends on the input.
        memory: The memory that it reads.
        path: The views that lead from the whole memory to it.
        device: The device that the model sees.
        version: The version of the memory as of which ``node`` and ``value`` are.
    """

    node: fx.Node
    value: Tensor
    memory: Memory
    path: tuple[View, ...]
    device: torch.device
    version: int

    @property
    def symbolic(self) -> bool:
        """Whether it has no values, as what depends on the input."""
        return self.value.is_meta


class Traced(Tensor):
    """A tensor that the model sees in place of one that depends on its input: a shape, a dtype and a device, without values."""

    entry: Entry

    @classmethod
    def of(cls, entry: Entry) -> "Traced":
        """Return the tensor of an entry without values."""
        value = entry.value
        made = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, value.shape, value.stride(), value.storage_offset(), dtype=value.dtype, device=entry.device
        )
        made.entry = entry
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportPrivateUsage, reportAssignmentType]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Refuse an op outside the recording; inside, the recorder comes first."""
        raise RuntimeError(f"{func} was called on a tensor that a capture left behind; it holds no values.")

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return shape and dtype."""
        return f"Traced(shape={tuple(self.shape)}, dtype={self.dtype})"
