"""Shape, dtype and layout of results on the meta device are those of real runs, for every op; torch's compiler is not loaded for them."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from relprop.ops.op import op_name
from relprop.ops.shapes import SHAPES, on_meta
from relprop.ops.table import OPS
from tests.ops.calls import overloads

aten = torch.ops.aten
MADE_CONTIGUOUS = {"aten::pow.Scalar", "aten::masked_fill.Scalar"}
"""Elementwise ops that do not keep the order of their operand's dimensions in memory."""
FORMATS = {
    "contiguous": lambda v: v,
    "channels last": lambda v: v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v,  # volumes differ by op
    "transposed": lambda v: v.transpose(0, -1).contiguous().transpose(0, -1) if v.dim() > 1 else v,
    "float": lambda v: v.float() if v.is_floating_point() else v,
}


def described(value, *, strides):
    return [(v.shape, v.dtype, v.stride() if strides else ()) for v in tree_leaves(value) if isinstance(v, Tensor)]


def ours(function):
    return function in SHAPES or torch.Tag.pointwise in function.tags


def on_meta_of(function, args, kwargs):
    args, kwargs = tree_map(lambda v: v.to("meta") if isinstance(v, Tensor) else v, (args, kwargs))
    return on_meta(function, args, kwargs)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("case", [c for name in OPS for c in overloads(name) if ours(c.function)], ids=str)
def test_results_have_the_shape_dtype_and_strides_of_real_ones(case, layout):
    schema = {a.name: a for a in case.function._schema.arguments}
    arguments = case.arguments(change=lambda _, v: FORMATS[layout](v) if isinstance(v, Tensor) else v)
    try:
        expected = case.run(arguments)
    except RuntimeError as error:
        pytest.skip(f"torch: {error}")
    args = [v for name, v in arguments.items() if not schema[name].kwarg_only]
    kwargs = {name: v for name, v in arguments.items() if schema[name].kwarg_only}
    strides = layout != "transposed" or (case.function not in SHAPES and str(case) not in MADE_CONTIGUOUS)
    assert described(on_meta_of(case.function, args, kwargs), strides=strides) == described(expected, strides=strides)


X = torch.arange(2 * 4 * 6 * 6).reshape(2, 4, 6, 6).double()
OTHERS = {
    "pad": (aten.pad.default, (X, [1, 2, -1, 0]), {}),
    "pad by reflection": (aten.pad.default, (X, [1, 2, 3, 0], "reflect"), {}),
    "roll": (aten.roll.default, (X, [1], [2]), {}),
    "instance norm": (aten.instance_norm.default, (X, None, None, None, None, True, 0.1, 1e-5, False), {}),
    "promotion": (aten.add.Tensor, (X.int(), 1.5), {}),
    "a number of no dimension": (aten.mul.Tensor, (X.float(), torch.tensor(2.0).double()), {}),
    "broadcast": (aten.add.Tensor, (X[:, :1], X[0, 0]), {}),
    "both broadcast": (aten.mul.Tensor, (X[:, :1, :1], X[:1, :, :, :1]), {}),
    "comparison": (aten.gt.Tensor, (X, X.flip(0)), {}),
    "where": (aten.where.self, (X > 1, X.float(), X[0]), {}),
    "division of integers": (aten.div.Tensor, (X.int(), 3), {}),
    "a view with gaps": (aten.relu.default, (X[:, ::2, :, 1:],), {}),
    "an expanded view": (aten.relu.default, (X[:, :1].expand(2, 3, 6, 6),), {}),
    "contiguous": (aten.clone.default, (X.mT,), {"memory_format": torch.contiguous_format}),
    "vector and matrix": (aten.matmul.default, (X[0, 0, 0], X[0]), {}),
    "matrix and vector": (aten.matmul.default, (X, X[0, 0, 0]), {}),
    "vectors": (aten.matmul.default, (X[0, 0, 0], X[0, 0, 0]), {}),
    "broadcast matrices": (aten.matmul.default, (X[:, :1], X[0]), {}),
    "joined, an empty one among them": (aten.cat.default, ([torch.empty(0).double(), X, X], -1), {}),
    "joined of other sizes": (aten.cat.default, ([X, X[..., :2]], -1), {}),
    "joined of two dtypes": (aten.cat.default, ([X.float(), X], 1), {}),
    "pooled, with indices": (aten.adaptive_max_pool2d.default, (X, [2, 3]), {}),
    "pooled without a batch": (aten.max_pool2d.default, (X[0], [2, 2]), {}),
    "transposed convolution": (
        aten.conv_transpose2d.input,
        (X, torch.ones(4, 3, 3, 3).double(), None, [2, 2], [1, 1], [1, 0], 2, [2, 1]),
        {},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_forms_that_no_generated_call_has(name):
    function, args, kwargs = OTHERS[name]
    expected = function(*args, **kwargs)
    found = on_meta_of(function, args, kwargs)
    assert described(found, strides=name != "an expanded view") == described(expected, strides=name != "an expanded view")


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (aten.add.Tensor, (X, X[:, :3])),
        (aten.matmul.default, (X, X[:, :, :5])),
        (aten.cat.default, ([X, X[:, :2, :3]], 1)),
        (aten.pad.default, (X, [-9, 0])),
        (aten.conv_transpose2d.input, (X, torch.ones(3, 3, 3, 3).double())),
    ],
    ids=lambda v: op_name(v) if not isinstance(v, tuple) else "",
)
def test_operands_that_do_not_fit_are_refused_as_torch_refuses_them(function, args):
    with pytest.raises(RuntimeError):
        function(*args)
    with pytest.raises(RuntimeError):
        on_meta_of(function, args, {})


SCRIPT = """
import sys, torch, relprop
from torch import nn
conv = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.SiLU())
head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16), nn.LayerNorm(16))
encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
model = nn.Sequential(conv, head, nn.Unflatten(1, (1, 16)), encoder, nn.Flatten(), nn.Linear(16, 5)).eval()
for method in ("rap", "lrp-epsilon", "attnlrp", "gradient"):
    relprop.explain(model, torch.randn(1, 3, 32, 32), method=method)
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_a_first_map_loads_neither_torchs_compiler_nor_sympy():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
