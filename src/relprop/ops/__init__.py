"""The table of ops: per family, how an op computes and how relevance goes back, side by side."""

from relprop.ops import affine, elementwise, norm, pooling, shape
from relprop.ops.op import Call, Op, Role
from relprop.ops.table import OPS, register_op

__all__ = ["OPS", "Call", "Op", "Role", "affine", "elementwise", "norm", "pooling", "register_op", "shape"]
