"""Sums of values that are moved to the same place: linear, with fixed weights.

What they are added to is zero: ``passes.simplify`` takes it out of the call, so that it is a summand as in any other sum.
"""

import torch
from torch import Tensor

from relprop.ops.linear import Linear
from relprop.ops.op import Call, Op, Role
from relprop.ops.shape import positions
from relprop.ops.table import OPS, add_ops

aten = torch.ops.aten


def _index_put_add(self: Tensor, indices: list[Tensor | None], values: Tensor) -> Tensor:
    return aten.index_put(self, indices, values, True)


_LIBRARY = torch.library.Library("relprop", "FRAGMENT")
_LIBRARY.define("index_put_add(Tensor self, Tensor?[] indices, Tensor values) -> Tensor")
_LIBRARY.impl("index_put_add", _index_put_add, "CompositeImplicitAutograd")


def _zeros(call: Call) -> Tensor:
    return torch.zeros((), dtype=call.x.dtype, device=call.x.device).expand(call["self"].shape)


def _scattered(call: Call) -> tuple[Linear, None]:
    zeros, dim, index, source = _zeros(call), call["dim"], call["index"], call["src"]
    ends = [end for size, used in zip(source.shape, index.shape, strict=True) for end in (size - used, 0)][::-1]

    def forward(x: Tensor, _: Tensor | None) -> Tensor:
        return zeros.scatter_add(dim, index, x)

    def transpose(c: Tensor, _: Tensor | None) -> Tensor:
        return aten.constant_pad_nd(c.gather(dim, index), ends)

    return Linear(None, forward, transpose, nonnegative=True), None


def _added(call: Call) -> tuple[Linear, None]:
    zeros, dim, index = _zeros(call), call["dim"], call["index"]

    def forward(x: Tensor, weight: Tensor | None) -> Tensor:
        return zeros.index_add(dim, index, x * weight)  # pyright: ignore[reportOperatorIssue]

    def transpose(c: Tensor, weight: Tensor | None) -> Tensor:
        return c.index_select(dim, index) * weight  # pyright: ignore[reportOperatorIssue]

    return Linear(torch.full((), call["alpha"], dtype=call.x.dtype, device=call.x.device), forward, transpose), None


def _put(call: Call) -> tuple[Linear, None]:
    zeros, indices, places, shape = _zeros(call), list(call["indices"]), positions(call), call["values"].shape

    def forward(x: Tensor, _: Tensor | None) -> Tensor:
        return aten.index_put(zeros, indices, x, True)

    def transpose(c: Tensor, _: Tensor | None) -> Tensor:
        return c[places].sum_to_size(shape)

    return Linear(None, forward, transpose, nonnegative=True), None


add_ops(["scatter_add"], Op(Role.POOL, linear=_scattered, data=("src",), needs=("index",), nonnegative="inherits"))
add_ops(["index_add"], Op(Role.POOL, linear=_added, data=("source",), needs=("index",)))
OPS["relprop::index_put_add"] = Op(Role.POOL, linear=_put, data=("values",), needs=("indices",), nonnegative="inherits")
