"""Normalisations and softmax: statistics count as constants."""

from relprop.ops.op import Op, Role
from relprop.ops.table import add_ops

add_ops(
    ["layer_norm", "group_norm", "instance_norm", "batch_norm", "rms_norm", "_native_batch_norm_legit_no_training"],
    Op(Role.NORM, data=("input",), needs=("input", "weight", "bias", "running_mean", "running_var")),
)
add_ops(["softmax", "_softmax"], Op(Role.SOFTMAX, needs=("self", "output"), keeps_sign="always"))
add_ops(["log_softmax", "_log_softmax"], Op(Role.SOFTMAX, needs=("self", "output")))
