"""Definitions of composite ops by simpler ones that have an entry, where torch's own definition serves badly or is missing."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decompositions
from torch.nn.functional import linear

from relprop.ops.fourier import own
from relprop.ops.op import op_name
from relprop.ops.strided import as_strided, find_steps

aten = torch.ops.aten
Definition = Callable[..., Any]


# --- recurrent cells ---------------------------------------------------------------------------------------------------------------


def _lstm_cell(
    x: Tensor, hx: Sequence[Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``c' = σ(f) c + σ(i) tanh(g)``, ``h' = σ(o) tanh(c')``."""
    h, c = hx
    i, f, g, o = (linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)).chunk(4, -1)
    new = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * new.tanh(), new


def _gru_step(of_x: Tensor, h: Tensor, of_h: Tensor) -> Tensor:
    """``n = tanh(n_x + σ(r) n_h)``, ``h' = (1 − σ(z)) n + σ(z) h``."""
    (reset_x, update_x, new_x), (reset_h, update_h, new_h) = of_x.chunk(3, -1), of_h.chunk(3, -1)
    reset, update = (reset_x + reset_h).sigmoid(), (update_x + update_h).sigmoid()
    new = (new_x + reset * new_h).tanh()
    return (1 - update) * new + update * h


def _gru_cell(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None) -> Tensor:
    return _gru_step(linear(x, w_ih, b_ih), h, linear(h, w_hh, b_hh))


def _gru(  # noqa: PLR0913, PLR0917 - the op's own
    x: Tensor,
    hx: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    """Torch's own definition with our cell: torch writes the last sum as ``n + σ(z) (h − n)``, in which ``n`` counts against itself."""

    def step(of_x: Tensor, h: Tensor, _: Tensor, __: Tensor | None, w_hh: Tensor, b_hh: Tensor | None) -> Tensor:
        return _gru_step(of_x, h, linear(h, w_hh, b_hh))

    weights = decompositions.gather_params(params, has_biases, False)
    settings = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
    layer = partial(decompositions.one_layer_rnn, hidden_fn=step)
    out, final = decompositions._rnn_helper(x, hx.unbind(0), weights, *settings, layer)  # pyright: ignore[reportPrivateUsage]
    return out, torch.stack(final)


def _rnn_cell(activation: Callable[[Tensor], Tensor]) -> Definition:
    def cell(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None) -> Tensor:
        return activation(linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh))

    return cell


def _lstm(  # noqa: PLR0913, PLR0917 - the op's own
    x: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Torch's own definition, step by step instead of by the fused kernel for CPUs."""
    weights = decompositions.gather_params(params, has_biases, hx[0].shape[2] != hx[1].shape[2])
    settings = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
    hidden = list(zip(hx[0], hx[1], strict=True))
    out, final = decompositions._rnn_helper(x, hidden, weights, *settings, decompositions.one_layer_lstm)  # pyright: ignore[reportPrivateUsage]
    return out, torch.stack([h for h, _ in final]), torch.stack([c for _, c in final])


# --- statistics --------------------------------------------------------------------------------------------------------------------


def _std(x: Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False) -> Tensor:
    """``‖x − mean‖ / √(n − correction)``; the gradient of the norm is zero at zero, as that of ``std`` is."""
    dims = list(dim) if dim else list(range(x.dim()))
    degrees = math.prod(x.shape[d] for d in dims) - (1 if correction is None else correction)
    centered = x - x.mean(dims, keepdim=True)
    return torch.linalg.vector_norm(centered, 2, dims, keepdim=keepdim) / math.sqrt(max(degrees, 0))


def _std_mean(x: Tensor, dim: Sequence[int] | None = None, **settings: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    return _std(x, dim, **settings), _mean(x, dim, **settings)


def _var_mean(x: Tensor, dim: Sequence[int] | None = None, **settings: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    return aten.var.correction(x, dim, **settings), _mean(x, dim, **settings)


def _mean(x: Tensor, dim: Sequence[int] | None, *, keepdim: bool = False, **_: object) -> Tensor:
    return x.mean(list(dim) if dim else list(range(x.dim())), keepdim=keepdim)


def _by_overload(name: str, definition: Definition) -> dict[str, Definition]:
    """The overloads of a statistic, of which two say ``unbiased`` in place of the correction."""

    def of_dims(x: Tensor, dim: Sequence[int] | None, unbiased: bool = True, keepdim: bool = False) -> Any:  # noqa: ANN401
        return definition(x, dim, correction=int(unbiased), keepdim=keepdim)

    def of_all(x: Tensor, unbiased: bool = True) -> Any:  # noqa: ANN401
        return definition(x, correction=int(unbiased))

    return {f"aten::{name}.correction": definition, f"aten::{name}.dim": of_dims, f"aten::{name}": of_all}


# --- sums to places ----------------------------------------------------------------------------------------------------------------


def _scatter_reduce(x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    """Sums and means by ``scatter_add``."""
    start = x if include_self else x.scatter(dim, index, 0.0)
    total = start.scatter_add(dim, index, src)
    if reduce == "sum":
        return total
    counted = torch.zeros_like(x).scatter_add(dim, index, torch.ones_like(src))
    return total / (counted + 1 if include_self else counted.clamp(min=1))


# --- Fourier transforms ------------------------------------------------------------------------------------------------------------

_FORWARD = {None: 0, "backward": 0, "ortho": 1, "forward": 2}
_INVERSE = {None: 2, "backward": 2, "ortho": 1, "forward": 0}
"""The normalization of a transform, none, by the root of the size or by the size, by the name of its mode."""


def _view(x: Tensor) -> Tensor:
    """The real view of a complex or a real value."""
    return torch.view_as_real(x) if x.is_complex() else torch.stack([x, torch.zeros_like(x)], -1)


def _resized(x: Tensor, size: int | None, dim: int) -> Tensor:
    """Cut off, or add zeros at, the end of a dimension."""
    if size is None or size in {-1, x.shape[dim]}:
        return x
    if size < x.shape[dim]:
        return x.narrow(dim, 0, size)
    return aten.constant_pad_nd(x, [0, 0] * (x.dim() - dim - 1) + [0, size - x.shape[dim]])


def _dims_and_sizes(x: Tensor, sizes: Sequence[int] | None, dims: Sequence[int] | None) -> list[tuple[int, int | None]]:
    """The transformed dimensions in order, each with its size; by default all, or the last ones where sizes are given."""
    if dims is None:
        dims = range(x.dim() - len(sizes), x.dim()) if sizes is not None else range(x.dim())
    return list(zip([d % x.dim() for d in dims], [None] * len(dims) if sizes is None else sizes, strict=True))


def _complex_transform(x: Tensor, dims: Sequence[tuple[int, int | None]], normalization: int, *, forward: bool) -> Tensor:
    """A transform in several dimensions is a chain of transforms in one; a real value has a transform of its own in the first."""
    *rest, (dim, size) = dims
    if x.is_complex() or not forward:
        rest, view = dims, _view(x)
    else:
        view = own.fft_r2c(_resized(x, size, dim), dim, normalization, False)
    for dim, size in reversed(rest):
        view = own.fft_c2c(_resized(view, size, dim), dim, normalization, forward)
    return torch.view_as_complex(view)


def _real_transform(x: Tensor, dims: Sequence[tuple[int, int | None]], normalization: int) -> Tensor:
    """Half of the spectrum of a real value."""
    *rest, (dim, size) = dims
    view = own.fft_r2c(_resized(x, size, dim), dim, normalization, True)
    for dim, size in reversed(rest):
        view = own.fft_c2c(_resized(view, size, dim), dim, normalization, True)
    return torch.view_as_complex(view)


def _back_transform(x: Tensor, dims: Sequence[tuple[int, int | None]], normalization: int) -> Tensor:
    """The real value of which this is half of the spectrum."""
    *rest, (last, size) = dims
    view = _view(x)
    for dim, count in rest:
        view = own.fft_c2c(_resized(view, count, dim), dim, normalization, False)
    size = 2 * (x.shape[last] - 1) if size is None or size == -1 else size
    return own.fft_c2r(_resized(view, size // 2 + 1, last), last, normalization, size)


_Transform = Callable[[Tensor, Sequence[tuple[int, int | None]], int], Tensor]


def _transforms(name: str, transform: _Transform, modes: Mapping[str | None, int]) -> dict[str, Definition]:
    """The functions of ``torch.fft`` for one transform: in one dimension, in two, in any number."""

    def one(x: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
        return transform(x, [(dim % x.dim(), n)], modes[norm])

    def two(x: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
        return transform(x, _dims_and_sizes(x, s, dim), modes[norm])

    def several(x: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] | None = None, norm: str | None = None) -> Tensor:
        return transform(x, _dims_and_sizes(x, s, dim), modes[norm])

    return {f"aten::fft_{name}": one, f"aten::fft_{name}2": two, f"aten::fft_{name}n": several}


def _stft(
    x: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    _: bool | None = None,
) -> Tensor:
    """Overlapping frames times the window, and the Fourier transform of each; ``torch.stft`` centers the frames before, by a pad."""
    frames = x.unfold(-1, n_fft, hop_length or n_fft // 4)
    length = n_fft if win_length is None else win_length
    if window is None and length < n_fft:
        window = torch.ones(length, dtype=x.dtype, device=x.device)
    if window is not None:
        before = (n_fft - length) // 2
        frames = frames * torch.nn.functional.pad(window, [before, n_fft - length - before])
    transform = partial(_complex_transform, forward=True) if onesided is False or x.is_complex() else _real_transform
    spectrum = transform(frames, [(frames.dim() - 1, None)], int(normalized)).transpose(-1, -2)
    return spectrum if return_complex else torch.view_as_real(spectrum)


# --- parts -------------------------------------------------------------------------------------------------------------------------


def _narrow(x: Tensor, dim: int, start: Tensor, length: int) -> Tensor:
    return x.narrow(dim, int(start), length)


DEFINITIONS: Mapping[str, Definition] = {
    "aten::_conj": aten._conj_physical.default,  # the lazy one is a mark on its result, which a recording has no place for
    "aten::lstm_cell": _lstm_cell,
    "aten::gru_cell": _gru_cell,
    "aten::rnn_tanh_cell": _rnn_cell(torch.tanh),
    "aten::rnn_relu_cell": _rnn_cell(torch.relu),
    "aten::lstm.input": _lstm,
    "aten::gru.input": _gru,
    **_by_overload("std", _std),
    **_by_overload("std_mean", _std_mean),
    **_by_overload("var_mean", _var_mean),
    "aten::scatter_reduce.two": _scatter_reduce,
    "aten::stft": _stft,
    "aten::narrow.Tensor": _narrow,
    "aten::as_strided": as_strided,
    **_transforms("fft", partial(_complex_transform, forward=True), _FORWARD),
    **_transforms("ifft", partial(_complex_transform, forward=False), _INVERSE),
    **_transforms("rfft", _real_transform, _FORWARD),
    **_transforms("irfft", _back_transform, _INVERSE),
}
"""The definition of a composite op by other ops, by name and overload, with the op's own arguments."""

_COVERED: Mapping[str, Callable[[Sequence[Any]], bool]] = {
    "aten::scatter_reduce.two": lambda args: args[4] in {"sum", "mean"},
    "aten::as_strided": lambda args: find_steps(*args) is not None,
    "aten::stft": lambda args: not any(args[8:]),  # frames aligned to the window
}
"""The calls that a definition covers, by positional arguments, where it does not cover all."""


def definition_of(target: object, args: Sequence[Any]) -> Definition | None:
    """Return the definition of an op in this table, for a call with these positional arguments; None where it has none."""
    overload = getattr(target, "_overloadname", "")
    name = op_name(target) + (f".{overload}" if overload and overload != "default" else "")
    covered = _COVERED.get(name)
    return DEFINITIONS.get(name) if covered is None or covered(args) else None
