"""Along which dimensions an op mixes: whether it keeps the samples of a batch apart."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor

from relprop.ops.op import Arguments

Mixes = Callable[[Arguments, Tensor], Collection[int] | None]
"""``(arguments, x) -> dims``: the dimensions of ``x`` along which an output depends on more than one entry; None where that is unknown."""


def _all_but_first(_: Arguments, x: Tensor) -> Collection[int]:
    return range(1, x.dim())


def _last(count: int) -> Mixes:
    return lambda _, x: range(x.dim() - count, x.dim())


def _given(*names: str) -> Mixes:
    """The dimensions that an argument names; all where it names none."""

    def dims(arguments: Arguments, x: Tensor) -> Collection[int] | None:
        value: Any = next((arguments[name] for name in names if arguments.get(name) is not None), None)
        if value is None or value == []:
            return range(x.dim())
        chosen = [value] if isinstance(value, int) else value
        return [d % x.dim() for d in chosen] if all(isinstance(d, int) for d in chosen) else None

    return dims


def _of_norm(arguments: Arguments, x: Tensor) -> Collection[int]:
    return range(x.dim() - len(arguments["normalized_shape"]), x.dim())


def _of_batch_norm(arguments: Arguments, x: Tensor) -> Collection[int]:
    batch_statistics = arguments.get("training") or arguments.get("running_mean") is None
    return [d for d in range(x.dim()) if d != 1] if batch_statistics else []


def _of_padding(arguments: Arguments, x: Tensor) -> Collection[int]:
    """The dimensions that are padded, from the last backwards, each by a pair of numbers."""
    pad = arguments["pad" if "pad" in arguments else "padding"]
    return [x.dim() - 1 - i for i, ends in enumerate(zip(pad[::2], pad[1::2], strict=True)) if any(ends)]


def _of_two(arguments: Arguments, x: Tensor) -> Collection[int]:
    first, second = (arguments[name] % x.dim() for name in ("dim1", "dim2"))
    return [first, second]


def _nothing(_: Arguments, __: Tensor) -> Collection[int]:
    return ()


_ALONG_DIM = """softmax _softmax log_softmax _log_softmax cumsum cumprod logcumsumexp cummax cummin sort topk kthvalue mean sum prod
    amax amin argmax argmin all any norm linalg_vector_norm var std logsumexp max min median nanmedian aminmax quantile select slice narrow
    unbind split split_with_sizes chunk tensor_split index_select slice_scatter select_scatter index_fill unfold flip roll count_nonzero glu
    squeeze gather scatter scatter_add scatter_reduce"""
_ON_IMAGES = """upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d _upsample_bilinear2d_aa
    _upsample_bicubic2d_aa grid_sampler grid_sampler_2d grid_sampler_3d group_norm instance_norm im2col col2im prelu max_unpool2d max_unpool3d
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"""
_POOLS = """avg_pool2d max_pool2d max_pool2d_with_indices adaptive_avg_pool2d adaptive_max_pool2d _adaptive_avg_pool2d pixel_shuffle
    pixel_unshuffle avg_pool3d max_pool3d max_pool3d_with_indices adaptive_avg_pool3d adaptive_max_pool3d _adaptive_avg_pool3d"""
_POOLS_OF_ONE_DIMENSION = "avg_pool1d max_pool1d max_pool1d_with_indices adaptive_avg_pool1d adaptive_max_pool1d linear"
_PADS = [f"{kind}_pad{dims}d" for kind in ("reflection", "replication") for dims in (1, 2, 3)]

_ELEMENTWISE = ["masked_fill", "where", "maximum", "minimum", "fmax", "fmin"]

MIXES: Mapping[str, Mixes] = {
    **dict.fromkeys(_ON_IMAGES.split(), _all_but_first),
    **dict.fromkeys(_POOLS_OF_ONE_DIMENSION.split(), _last(1)),
    **dict.fromkeys(_POOLS.split(), _last(3)),
    **dict.fromkeys(("layer_norm", "rms_norm"), _of_norm),
    **dict.fromkeys(("batch_norm", "_native_batch_norm_legit_no_training"), _of_batch_norm),
    **dict.fromkeys(_ALONG_DIM.split(), _given("dim", "dims", "dimension", "axis")),
    **dict.fromkeys([*_PADS, "constant_pad_nd"], _of_padding),
    **dict.fromkeys(
        [
            "embedding",
            "expand",
            "expand_as",
            "one_hot",
            "zeros_like",
            "clone",
            "contiguous",
            "masked_fill",
            "where",
            "maximum",
            "minimum",
        ],
        _nothing,
    ),
    "diagonal": _of_two,
    "cdist": _last(1),
}
"""By op of the ATen namespace; ops with ``slices`` or that reshape need none."""
