"""Small generated calls of the ops of the table: arguments from the schema, and from settings where a schema says too little."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from relprop.ops.layout import SampleLayout
from relprop.ops.op import Call, Op
from relprop.ops.table import OPS

SHAPES = {0: (3, 4, 6), 1: (2, 4, 6), 2: (2, 4, 6, 6), 3: (2, 4, 4, 6, 6)}
"""Shapes of a tensor argument by the number of spatial dimensions, which the name of an op tells."""
ROWS = torch.tensor([2, 0, 2])
MASK = torch.arange(3 * 4 * 6).reshape(3, 4, 6) % 3 == 0
PLACES = (torch.arange(3 * 4 * 6).reshape(3, 4, 6) * 5) % 4
"""Indices along dimension 1, for every element."""

NOT_CALLED = {
    "aten::sym_size": "gives sizes, no tensor",
    "aten::sym_size.int": "gives a size, no tensor",
    "aten::mm.dtype": "torch has it on CUDA alone",
    "aten::bmm.dtype": "torch has it on CUDA alone",
}
"""Overloads without a generated call, each with the reason."""


def spatial(name: str) -> int:
    """The number of spatial dimensions of an op, 0 where its name tells none."""
    found = re.search(r"(?:pool|pad|conv|conv_transpose|nearest|exact|linear|cubic|sampler_)(\d)d", name)
    return int(found[1]) if found else 0


def _settings() -> dict[str, dict[str, Any]]:
    """Arguments by op: a tuple is the shape of a drawn tensor, anything else the argument itself."""
    norm = {"input": SHAPES[1], "weight": (4,), "bias": (4,)}
    statistics = {"running_mean": torch.arange(4.0).double(), "running_var": torch.arange(1.0, 5.0).double()}
    window = {"kernel_size": [2, 2], "dilation": [1, 1], "padding": [0, 0], "stride": [2, 2]}
    given: dict[str, dict[str, Any]] = {
        "linear": {"input": (2, 3, 4), "weight": (5, 4), "bias": (5,)},
        "bilinear": {"input1": (2, 3), "input2": (2, 4), "weight": (5, 3, 4), "bias": (5,)},
        "matmul": {"self": (2, 3, 4), "other": (2, 4, 5)},
        "mm": {"self": (3, 4), "mat2": (4, 5)},
        "bmm": {"self": (2, 3, 4), "mat2": (2, 4, 5)},
        "prelu": {"self": SHAPES[1], "weight": torch.full((4,), 0.25).double()},
        "threshold": {"threshold": 0, "value": 0},
        "clamp": {"min": -0.5, "max": 1.0},
        "clamp_min": {"min": -0.5},
        "hardtanh": {"min_val": -0.5, "max_val": 1.0},
        "clamp_max": {"max": 1.0},
        "pow": {"exponent": 2},
        "round": {"decimals": 1},
        "where": {"condition": MASK},
        "masked_fill": {"mask": MASK, "value": 0.5},
        "softmax": {"dim": 1},
        "cumsum": {"dim": 1},
        "layer_norm": {"input": (2, 3, 4), "normalized_shape": [4], "weight": (4,), "bias": (4,)},
        "rms_norm": {"input": (2, 3, 4), "normalized_shape": [4], "weight": (4,), "eps": 1e-5},
        "group_norm": {**norm, "num_groups": 2},
        "instance_norm": {**norm, "running_mean": None, "running_var": None, "use_input_stats": True, "eps": 1e-5},
        "batch_norm": {**norm, **statistics, "training": False, "eps": 1e-5},
        "mean": {"dim": [1]},
        "sum": {"dim": [1]},
        "scatter_add": {"dim": 1, "index": PLACES},
        "index_add": {"index": ROWS, "source": (3, 3, 6)},
        "grid_sampler": {"input": SHAPES[2], "grid": torch.linspace(-0.9, 0.9, 48).reshape(2, 3, 4, 2).double()},
        "grid_sampler_3d": {"grid": torch.linspace(-0.9, 0.9, 2 * 2 * 3 * 4 * 3).reshape(2, 2, 3, 4, 3).double()},
        "amax": {"dim": [1]},
        "topk": {"k": 2},
        "kthvalue": {"k": 2},
        "reshape": {"shape": [3, 2, 12]},
        "flatten": {"start_dim": 1},
        "view": {"size": [3, 2, 12]},
        "view_as": {"other": (3, 2, 12)},
        "unflatten": {"dim": 1, "sizes": [2, 2]},
        "squeeze": {"self": (3, 1, 4, 6), "dim": 1},
        "squeeze.dims": {"dim": [1]},
        "unsqueeze": {"dim": 1},
        "permute": {"dims": [1, 2, 0]},
        "transpose": {"dim0": 0, "dim1": -1},
        "t": {"self": (3, 4)},
        "expand": {"self": (3, 1, 6), "size": [3, 4, 6]},
        "expand_as": {"self": (3, 1, 6), "other": (3, 4, 6)},
        "repeat": {"repeats": [1, 2, 2]},
        "tile": {"dims": [1, 2, 2]},
        "repeat_interleave.self_int": {"repeats": 2, "dim": 1},
        "slice": {"dim": 1, "start": 1, "end": 3},
        "select": {"dim": 1, "index": 2},
        "narrow": {"dim": 1, "start": 1, "length": 2},
        "narrow.Tensor": {"start": torch.tensor(1)},
        "index": {"indices": [None, ROWS]},
        "index.Tensor_hacked_twin": {"indices": [ROWS]},
        "index_select": {"dim": 1, "index": ROWS},
        "gather": {"dim": 1, "index": PLACES},
        "roll": {"shifts": [1], "dims": [1]},
        "flip": {"dims": [1]},
        "unfold": {"dimension": 2, "size": 3, "step": 2},
        "im2col": {"self": SHAPES[2], **window},
        "col2im": {"self": (2, 16, 9), "output_size": [6, 6], **window},
        "diagonal": {"dim1": 1, "dim2": 2},
        "pixel_shuffle": {"self": SHAPES[2], "upscale_factor": 2},
        "pixel_unshuffle": {"self": SHAPES[2], "downscale_factor": 2},
        "constant_pad_nd": {"pad": [1, 2], "value": 0.5},
        "split": {"split_size": 2, "split_sizes": [1, 2], "dim": 0},
        "split.sizes": {"split_size": [1, 2]},
        "split_with_sizes": {"split_sizes": [1, 2]},
        "chunk": {"chunks": 2, "dim": 1},
        "tensor_split": {"sections": 2, "indices": [1], "dim": 1, "tensor_indices_or_sections": torch.tensor(2)},
        "slice_scatter": {"src": (3, 2, 6), "dim": 1, "start": 1, "end": 3},
        "select_scatter": {"src": (3, 6), "dim": 1, "index": 2},
        "scatter": {"dim": 1, "index": PLACES, "value": 0.5},
        "scatter.src": {"dim": 1, "index": torch.arange(4).expand(3, 4)[:, :, None].expand(3, 4, 6)},
        "scatter.reduce": {"reduce": "add"},
        "scatter.value_reduce": {"reduce": "add"},
        "index_fill": {"dim": 1, "index": ROWS, "value": 0.5},
        "index_fill.int_Tensor": {"value": ()},
        "masked_fill.Tensor": {"value": ()},
        "index_put": {"indices": [None, torch.tensor([2, 0])], "values": (3, 2, 6)},
        "index_put.hacked_twin": {"indices": [torch.tensor([2, 0])], "values": (2, 4, 6)},
        "relprop::index_put_add": {"indices": [None, torch.tensor([-2, 2, 0])], "values": (3, 3, 6)},
        "one_hot": {"self": PLACES, "num_classes": 5},
        "searchsorted": {"sorted_sequence": torch.arange(4.0).double()},
        "bucketize": {"boundaries": torch.arange(4.0).double()},
        "embedding": {"weight": (5, 3), "indices": ROWS},
        "embedding_bag": {"weight": (5, 3), "indices": ROWS, "offsets": torch.tensor([0, 2])},
        "embedding_bag.padding_idx": {"per_sample_weights": None, "mode": 0, "sparse": False, "padding_idx": 1},
        "full": {"fill_value": 0.5},
        "arange": {"start": 1, "end": 7, "step": 2},
        "prod": {"dim": 1},
        "cumprod": {"dim": 1},
        "logcumsumexp": {"dim": 1},
        "linalg_vector_norm": {"dim": [1]},
        "cdist": {"x1": (2, 3, 4), "x2": (2, 5, 4)},
        "quantile": {"q": torch.tensor([0.25, 0.9]).double(), "dim": 1},
        "quantile.scalar": {"q": 0.3},
        "aminmax": {"dim": 1},
        "scatter_reduce.two": {"dim": 1, "index": PLACES, "reduce": "amax"},
        "masked_scatter": {"mask": MASK},
        "max_unpool2d": {"self": (2, 4, 3, 3), "indices": torch.arange(9).mul(4).reshape(3, 3).expand(2, 4, 3, 3), "output_size": [6, 6]},
        "max_unpool3d": {
            "self": (1, 2, 2, 3, 3), "indices": torch.arange(18).mul(8).reshape(2, 3, 3).expand(1, 2, 2, 3, 3),
            "output_size": [4, 6, 6], "stride": [2, 2, 2], "padding": [0, 0, 0],
        },
        "relprop::fft_r2c": {"self": (2, 6, 3), "dim": 1, "normalization": 1, "onesided": True},
        "relprop::fft_c2c": {"self": (2, 5, 3, 2), "dim": 1, "normalization": 0, "forward": True},
        "relprop::fft_c2r": {"self": (2, 4, 3, 2), "dim": 1, "normalization": 2, "last_dim_size": 6},
        "relprop::complex_product": {"self": (3, 4, 2), "other": (3, 4, 2)},
    }  # fmt: skip
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"):
        given[name] = {"self": PLACES, "other": 3}
        given[f"{name}.Tensor"] = {"other": PLACES.flip(1)}
        given[f"{name}.Scalar_Tensor"] = {"self": 3, "other": PLACES}
    for d in (1, 2, 3):
        given[f"conv{d}d"] = {"weight": (5, 4, *[3] * d), "bias": (5,)}
        given[f"conv_transpose{d}d"] = {"weight": (4, 5, *[3] * d), "bias": (5,)}
        for pool in (f"avg_pool{d}d", f"max_pool{d}d", f"max_pool{d}d_with_indices"):
            given[pool] = {"kernel_size": [2] * d}
        for pool in (f"adaptive_avg_pool{d}d", f"_adaptive_avg_pool{d}d", f"adaptive_max_pool{d}d"):
            given[pool] = {"output_size": [2] * d}
        for pad in (f"reflection_pad{d}d", f"replication_pad{d}d"):
            given[pad] = {"padding": [1, 2] * d}
    same = {
        "clip": "clamp", "_softmax": "softmax", "log_softmax": "softmax", "_log_softmax": "softmax", "broadcast_to": "expand",
        "_native_batch_norm_legit_no_training": "batch_norm", "_unsafe_view": "view", "reshape_as": "view_as", "amin": "amax",
        "grid_sampler_2d": "grid_sampler", "_embedding_bag": "embedding_bag", "_embedding_bag_forward_only": "embedding_bag",
        "full_like": "full", "new_full": "full",
    }  # fmt: skip
    return {**given, **{new: given[old] for new, old in same.items()}}


SETTINGS = _settings()
BY_NAME: dict[str, Any] = {
    "dim": 1, "p": 0.5, "train": False, "training": False, "half_to_float": False, "momentum": 0.1, "cudnn_enabled": False,
    "interpolation_mode": 0, "padding_mode": 0, "align_corners": False, "size": [3, 4], "rounding_mode": "floor",
    "device": torch.device("cpu"), "dtype": torch.float32, "out_dtype": torch.float32, "sizes": [2, 2],
}  # fmt: skip
"""Arguments that mean the same in every op; a schema's default goes first."""
BY_TYPE: dict[str, Any] = {"number": 1.5, "float": 1.5, "int": 2, "bool": False}


@dataclass(frozen=True)
class Case:
    """An overload of an op of the table."""

    name: str
    function: Any

    @property
    def op(self) -> Op:
        return OPS.get(f"{self.function._schema.name}.{self.function._overloadname}") or OPS[self.name]

    def __str__(self):
        overload = self.function._overloadname
        return self.function._schema.name + (f".{overload}" if overload else "")

    def arguments(self, seed: int = 0, change=lambda name, value: value) -> dict[str, Any]:
        """Arguments by schema name, in float64; ``change`` maps the floating ones, tensors and numbers of ``op.data``."""
        generator = torch.Generator().manual_seed(seed)
        given = {}
        for argument in self.function._schema.arguments:
            value = self._value(argument, generator)
            given[argument.name] = self._changed(argument.name, value, change)
        return given

    def _changed(self, name: str, value: Any, change) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], Tensor):
            return [self._changed(name, v, change) for v in value]
        floating = isinstance(value, Tensor) and value.is_floating_point()
        number = isinstance(value, float) and name in self.op.data
        return change(name, value) if floating or number else value

    def _value(self, argument, generator: torch.Generator) -> Any:
        short = self.name.removeprefix("aten::")
        kind, name = str(argument.type), argument.name
        settings = {**SETTINGS.get(short, {}), **SETTINGS.get(str(self).removeprefix("aten::"), {})}
        is_tensor = "Tensor" in kind
        if name in settings and (is_tensor or not isinstance(settings[name], Tensor | tuple)):
            value = settings[name]
        elif kind == "List[Tensor]":
            value = [SHAPES[0], SHAPES[0]]
        elif "vec" in self.function._overloadname and name in {"output_size", "scale_factors"}:
            value = [9] * spatial(short) if name == "output_size" else None
        elif name == "output_size" and not argument.has_default_value():
            value = [9] * spatial(short)
        elif argument.has_default_value():
            value = argument.default_value
        elif is_tensor:
            value = SHAPES[spatial(short)]
        else:
            value = BY_NAME.get(name, BY_TYPE.get(kind))
        if is_tensor and isinstance(value, float | int):
            return torch.full(SHAPES[0], float(value), dtype=torch.float64)
        return _drawn(value, generator) if is_tensor else value

    def run(self, arguments: dict[str, Any]) -> Any:
        """The output of a call."""
        schema = {a.name: a for a in self.function._schema.arguments}
        positional = [v for name, v in arguments.items() if not schema[name].kwarg_only]
        return self.function(*positional, **{name: v for name, v in arguments.items() if schema[name].kwarg_only})

    def call(self, arguments: dict[str, Any], data: str | None = None) -> Call:
        """The call as the backward pass sees it."""
        operands = tuple(n for n in self.op.data if isinstance(arguments.get(n), Tensor | list))
        layouts = {name: SampleLayout(None) for name in arguments}
        data = data or operands[0]
        output = self.run(arguments)
        nothing = frozenset[str]()
        return Call(self.op, self.function, arguments, output, nothing, operands, data, SampleLayout(None), layouts, 1)


def _drawn(value: Any, generator: torch.Generator) -> Any:
    if isinstance(value, tuple):
        return 2 * torch.randn(value, generator=generator, dtype=torch.float64)
    if isinstance(value, list):
        return [_drawn(v, generator) for v in value]
    return value.clone() if isinstance(value, Tensor) else value


def _serves(function: Any) -> bool:
    """Whether an overload takes and returns tensors as traced models call them, without names of dimensions and ``out=``."""
    schema = function._schema
    gives = [str(r.type) for r in schema.returns]
    unwritten = not any(a.is_out for a in schema.arguments)
    unnamed = not any("names" in a.name or ("dim" in a.name and "str" in str(a.type)) for a in schema.arguments)
    seeded_by_default = not any(a.name == "generator" and not a.has_default_value() for a in schema.arguments)
    return bool(gives) and unwritten and unnamed and seeded_by_default and all(g in {"Tensor", "List[Tensor]"} for g in gives)


def overloads(name: str) -> list[Case]:
    """The overloads that an entry of the table covers."""
    namespace, _, rest = name.partition("::")
    short, _, overload = rest.partition(".")
    packet = getattr(getattr(torch.ops, namespace), short)
    names = [overload] if overload else packet.overloads()
    cases = [Case(name, getattr(packet, o)) for o in names]
    own = [c for c in cases if overload or str(c) not in OPS or str(c) == name]
    return [c for c in own if _serves(c.function) and str(c) not in NOT_CALLED]
