"""The table of ops, by family: forward, backward and facts of an op side by side."""

from relprop.ops import affine, attention, elementwise, fourier, maxima, norm, places, pooling, reductions, resizing, shape
from relprop.ops.op import Call, Op, Role
from relprop.ops.table import OPS, register_op

__all__ = [
    "OPS", "Call", "Op", "Role", "affine", "attention", "elementwise", "fourier", "maxima", "norm", "places", "pooling",
    "reductions", "register_op", "resizing", "shape",
]  # fmt: skip
