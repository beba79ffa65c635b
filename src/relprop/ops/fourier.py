"""Complex values by their real views ``(…, 2)``: discrete Fourier transforms, linear with fixed weights, and the complex product.

A pass writes graphs in these ops, so that relevance is real everywhere: real and imaginary part are two elements of a value, each with its share.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from relprop.ops.linear import Linear
from relprop.ops.op import Call, Op, Role
from relprop.ops.table import OPS

aten, own = torch.ops.aten, torch.ops.relprop


def _real_to_complex(x: Tensor, dim: int, normalization: int, onesided: bool) -> Tensor:
    if _has_no_values(x):
        count = x.shape[dim] // 2 + 1 if onesided else x.shape[dim]
        return x.new_empty([*x.shape[:dim], count, *x.shape[dim + 1 :], 2])
    return torch.view_as_real(aten._fft_r2c(x, [dim], normalization, onesided))


def _complex_to_complex(x: Tensor, dim: int, normalization: int, forward: bool) -> Tensor:
    if _has_no_values(x):
        return x.new_empty(x.shape)
    return torch.view_as_real(aten._fft_c2c(torch.view_as_complex(x.contiguous()), [dim], normalization, forward))


def _complex_to_real(x: Tensor, dim: int, normalization: int, last_dim_size: int) -> Tensor:
    if _has_no_values(x):
        return x.new_empty([*x.shape[:dim], last_dim_size, *x.shape[dim + 1 : -1]])
    return aten._fft_c2r(torch.view_as_complex(x.contiguous()), [dim], normalization, last_dim_size)


def _has_no_values(x: Tensor) -> bool:
    """Whether only shapes are computed: torch's own transforms lose sizes that are symbols."""
    return x.is_meta or isinstance(x, FakeTensor)


def complex_product(a: Tensor, b: Tensor) -> Tensor:
    """``(a₀ + i a₁)(b₀ + i b₁)`` on real views, with broadcasting."""
    (a0, a1), (b0, b1) = a.unbind(-1), b.unbind(-1)
    return torch.stack([a0 * b0 - a1 * b1, a0 * b1 + a1 * b0], -1)


_LIBRARY = torch.library.Library("relprop", "FRAGMENT")
for _schema, _function in {
    "fft_r2c(Tensor self, int dim, int normalization, bool onesided) -> Tensor": _real_to_complex,
    "fft_c2c(Tensor self, int dim, int normalization, bool forward) -> Tensor": _complex_to_complex,
    "fft_c2r(Tensor self, int dim, int normalization, int last_dim_size) -> Tensor": _complex_to_real,
    "complex_product(Tensor self, Tensor other) -> Tensor": complex_product,
}.items():
    _LIBRARY.define(_schema)
    _LIBRARY.impl(_schema.partition("(")[0], _function, "CompositeImplicitAutograd")


# --- transforms ----------------------------------------------------------------------------------------------------------------------


def _roots(size: int, normalization: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """``cos`` and ``sin`` of ``2πm/n``, scaled, with true zeros; every weight of a transform is one of them, up to its sign."""
    angle = torch.arange(size, dtype=torch.float64) * (2 * math.pi / size)
    scale = (1.0, size**-0.5, 1 / size)[normalization]
    found = (torch.where(values.abs() < 1e-15 * size, 0.0, values * scale) for values in (angle.cos(), angle.sin()))
    cos, sin = (values.to(like) for values in found)
    return cos, sin


def _phases(rows: int, columns: int, size: int, like: Tensor) -> Tensor:
    """``jk mod n``, which root is the weight of input ``j`` in output ``k``."""
    row, column = (torch.arange(count, device=like.device) for count in (rows, columns))
    return (row[:, None] * column) % size


def _dense(values: Tensor, matrix: Tensor, dim: int, *, given: bool, made: bool) -> Tensor:
    """Multiply dimension ``dim`` by ``matrix``, of real views (``given``) together with their parts, into real views (``made``) likewise."""
    moved = values.movedim(dim, -2).flatten(-2) if given else values.movedim(dim, -1)
    product = moved @ matrix
    return product.unflatten(-1, (-1, 2)).movedim(-2, dim) if made else product.movedim(-1, dim)


@dataclass(frozen=True)
class _Transform:
    """A transform along one dimension, by FFT, or by the matrix of its weights where a rule takes other weights: their size, their squares.

    Attributes:
        weight: The different weights.
        matrix: Lays them out as ``(inputs, outputs)``.
        fast: The transform itself.
        back: Its transpose.
        given: Whether the input is a real view.
        made: Whether the output is one.
    """

    weight: Tensor
    matrix: Callable[[Tensor], Tensor]
    fast: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    given: bool
    made: bool

    def linear(self, dim: int) -> tuple[Linear, None]:
        """As an op that is linear in its operand."""

        def forward(x: Tensor, weight: Tensor | None) -> Tensor:
            if weight is self.weight:
                return self.fast(x)
            return _dense(x, self.matrix(weight), dim, given=self.given, made=self.made)  # pyright: ignore[reportArgumentType]

        def transpose(c: Tensor, weight: Tensor | None) -> Tensor:
            if weight is self.weight:
                return self.back(c)
            return _dense(c, self.matrix(weight).mT, dim, given=self.made, made=self.given)  # pyright: ignore[reportArgumentType]

        return Linear(self.weight, forward, transpose), None


def _linear_r2c(call: Call) -> tuple[Linear, None]:
    x, dim, normalization, onesided = (call[name] for name in ("self", "dim", "normalization", "onesided"))
    size, count = x.shape[dim], call.output.shape[dim]
    cos, sin = _roots(size, normalization, x)
    phases = _phases(size, count, size, x)

    def matrix(weight: Tensor) -> Tensor:
        return weight[:, phases].movedim(0, -1).flatten(1)

    def back(c: Tensor) -> Tensor:
        whole = torch.constant_pad_nd(c, [0, 0] * (c.dim() - dim - 1) + [0, size - count])
        return _complex_to_complex(whole, dim, normalization, forward=False)[..., 0].clone()

    fast = partial(_real_to_complex, dim=dim, normalization=normalization, onesided=onesided)
    return _Transform(torch.stack([cos, -sin]), matrix, fast, back, given=False, made=True).linear(dim)


def _linear_c2c(call: Call) -> tuple[Linear, None]:
    x, dim, normalization, forward = (call[name] for name in ("self", "dim", "normalization", "forward"))
    size = x.shape[dim]
    cos, sin = _roots(size, normalization, x)
    sin = sin if forward else -sin
    phases = _phases(size, size, size, x)

    def matrix(weight: Tensor) -> Tensor:
        return weight[..., phases].permute(2, 1, 3, 0).flatten(2).flatten(0, 1)

    fast, back = (
        partial(_complex_to_complex, dim=dim, normalization=normalization, forward=way) for way in (forward, not forward)
    )
    weight = torch.stack([torch.stack([cos, sin]), torch.stack([-sin, cos])])  # by part of the output, then of the input
    return _Transform(weight, matrix, fast, back, given=True, made=True).linear(dim)


def _linear_c2r(call: Call) -> tuple[Linear, None]:
    """Every frequency but zero and half of the sampling rate stands for two, itself and its conjugate."""
    x, dim, normalization, size = (call[name] for name in ("self", "dim", "normalization", "last_dim_size"))
    count = x.shape[dim]
    cos, sin = _roots(size, normalization, x)
    phases, frequency = _phases(count, size, size, x), torch.arange(count, device=x.device)
    twice = ((frequency > 0) & (2 * frequency != size)).long()

    def matrix(weight: Tensor) -> Tensor:
        return weight[twice[:, None], :, phases].mT.flatten(0, 1)

    def back(c: Tensor) -> Tensor:
        once = _real_to_complex(c, dim, normalization, onesided=True)
        return once * (1 + twice).to(c.dtype).reshape([-1] + [1] * (once.dim() - dim - 1))

    fast, once = partial(_complex_to_real, dim=dim, normalization=normalization, last_dim_size=size), torch.stack([cos, -sin])
    return _Transform(torch.stack([once, 2 * once]), matrix, fast, back, given=True, made=False).linear(dim)


# --- products ------------------------------------------------------------------------------------------------------------------------


def _linear_product(call: Call) -> tuple[Linear, None]:
    """Linear in either factor: the other one makes a matrix of 2 × 2."""
    x = call.x
    re, im = call["other" if call.data == "self" else "self"].unbind(-1)
    weight = torch.stack([torch.stack([re, -im], -1), torch.stack([im, re], -1)], -2)

    def forward(x: Tensor, weight: Tensor | None) -> Tensor:
        return (weight * x.unsqueeze(-2)).sum(-1)  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]

    def transpose(c: Tensor, weight: Tensor | None) -> Tensor:
        return (weight * c.unsqueeze(-1)).sum(-2).sum_to_size(x.shape)  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]

    return Linear(weight, forward, transpose), None


for _name, _linear in {"fft_r2c": _linear_r2c, "fft_c2c": _linear_c2c, "fft_c2r": _linear_c2r}.items():
    OPS[f"relprop::{_name}"] = Op(Role.POOL, linear=_linear)
_FACTORS = ("self", "other")
OPS["relprop::complex_product"] = Op(Role.DENSE, linear=_linear_product, data=_FACTORS, needs=_FACTORS, pairwise=True)
