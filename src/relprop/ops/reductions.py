"""Reductions with a rule of their own: products in equal parts, norms and distances by powers, log-sums by softmax weights, quantiles."""

import math

import torch
from torch import Tensor

from relprop.ops.elementwise import sum_back
from relprop.ops.maxima import extremum_shares
from relprop.ops.op import Arguments, Call, Op, Relevances, Role, slices_with_broadcasting
from relprop.ops.pooling import reduced_dims, unreduce
from relprop.ops.table import add_ops


def _keepdim(call: Call) -> bool:
    return bool(call.arguments.get("keepdim"))


def _equal_parts(call: Call, relevance: Tensor) -> Relevances:
    """``prod``: every factor takes the same part."""
    x, dims = call["self"], reduced_dims(call)
    parts = math.prod(x.shape[d] for d in dims)
    return {"self": (unreduce(relevance, dims, keepdim=_keepdim(call)) / parts).expand(x.shape)}


def _equal_parts_so_far(call: Call, relevance: Tensor) -> Relevances:
    """``cumprod``: output ``k`` gives ``R_k / k`` to each of its first ``k`` factors."""
    dim = call["dim"] % relevance.dim() if relevance.dim() else 0
    count = torch.arange(1, call.x.shape[dim] + 1, dtype=relevance.dtype, device=relevance.device)
    part = relevance / count.reshape([-1] + [1] * (relevance.dim() - dim - 1))
    return {"self": part.flip(dim).cumsum(dim).flip(dim)}


def _softmax_weights_so_far(call: Call, relevance: Tensor) -> Relevances:
    """``logcumsumexp``: ``Σ_{k ≥ i} R_k exp(x_i − y_k)``, whose weights of one output add up to one; in logarithms, lest they overflow."""
    x, dim = call.x, call["dim"]
    y = call.output.clamp(min=torch.finfo(x.dtype).min)  # −∞ where all scores so far are masked

    def weighted(part: Tensor) -> Tensor:
        return (x + (part.log() - y).flip(dim).logcumsumexp(dim).flip(dim)).exp()

    return {"self": weighted(relevance.clamp(min=0)) - weighted((-relevance).clamp(min=0))}


def _by_powers(values: Tensor, order: float, dims: list[int]) -> Tensor:
    """Shares that add up to one over ``dims``: ``|x|^p / Σ |x|^p``, equal where all are zero; for ``p = ±∞`` the winners share."""
    magnitude = values.abs()
    largest = magnitude.amax(dims, keepdim=True)
    if math.isinf(order):
        winners = magnitude == (largest if order > 0 else magnitude.amin(dims, keepdim=True))
        powers = winners.to(values.dtype)
    else:
        relative = torch.where(largest == 0, 1.0, magnitude / torch.where(largest == 0, 1.0, largest))
        powers = relative**order
    return powers / powers.sum(dims, keepdim=True)


def _norm(call: Call, relevance: Tensor) -> Relevances:
    dims = reduced_dims(call)
    return {"self": unreduce(relevance, dims, keepdim=_keepdim(call)) * _by_powers(call.x, call["ord"], dims)}


def _hypotenuse(call: Call, relevance: Tensor) -> Relevances:
    """By squares; a constant takes none."""
    if len(call.operands) == 1:
        return {call.data: sum_back(relevance, call.x)}
    shares = _by_powers(torch.stack(torch.broadcast_tensors(call["self"], call["other"])), 2, [0])
    return {name: sum_back(relevance * share, call[name]) for name, share in zip(("self", "other"), shares, strict=True)}


def _distance(call: Call, relevance: Tensor) -> Relevances:
    """``cdist``: every coordinate of a difference by its power; two values share equally, a constant takes none."""
    difference = call["x1"].unsqueeze(-2) - call["x2"].unsqueeze(-3)
    share = (relevance / len(call.operands)).unsqueeze(-1) * _by_powers(difference, call["p"], [-1])
    return {name: share.sum(-2 if name == "x1" else -3).sum_to_size(call[name].shape) for name in call.operands}


def _count(name: str, arguments: Arguments) -> str:
    """A norm of order 0 counts, and one of negative order has no shares at zero."""
    order = arguments[name]
    return f"with {name}={order}" if order <= 0 and not math.isinf(order) else ""


def _counting_norm(arguments: Arguments) -> str:
    return _count("ord", arguments)


def _counting_distance(arguments: Arguments) -> str:
    return _count("p", arguments)


def _quantile(call: Call, relevance: Tensor) -> Relevances:
    """``quantile``: the two values between which it lies, by their weights in the interpolation."""
    x, dim = call.x if call["dim"] is not None else call.x.flatten(), call["dim"] or 0
    dim %= x.dim()
    q = torch.as_tensor(call["q"], dtype=x.dtype, device=x.device)
    reduced = relevance.reshape(relevance.shape if q.dim() else (1, *relevance.shape))
    if call["dim"] is None:
        reduced = reduced.flatten(1).sum(1, keepdim=True)  # with ``keepdim`` all dimensions have size one
    elif not call["keepdim"]:
        reduced = reduced.unsqueeze(dim + 1)
    along = reduced.transpose(0, dim + 1).squeeze(0)  # the quantiles lie in the reduced dimension now
    low, high, weight = _between(q.reshape(-1) * (x.shape[dim] - 1), call["interpolation"])
    weight = weight.reshape([-1] + [1] * (x.dim() - dim - 1))
    order, found = x.sort(dim).indices, torch.zeros_like(x)
    for rank, part in ((low, along * (1 - weight)), (high, along * weight)):
        found = found.scatter_add(dim, order.index_select(dim, rank), part)
    return {"self": found.reshape(call.x.shape)}


def _between(ranks: Tensor, interpolation: str) -> tuple[Tensor, Tensor, Tensor]:
    """The ranks below and above, and the weight of the one above."""
    low, high = ranks.floor(), ranks.ceil()
    weight = {
        "linear": ranks - low,
        "lower": torch.zeros_like(low),
        "higher": torch.ones_like(low),
        "midpoint": torch.full_like(low, 0.5),
        "nearest": ranks.round() - low,
    }[interpolation]
    return low.long(), high.long(), weight


def _both_extremes(call: Call, relevance: list[Tensor | None]) -> Relevances:
    """``aminmax``: the smallest and the largest, equal winners share."""
    dim = call["dim"]
    dims = list(range(call.x.dim())) if dim is None else [dim % call.x.dim()]
    pairs = zip(call.output, relevance, strict=True)
    shares = [extremum_shares(call.x, y, r, dims, keepdim=_keepdim(call)) for y, r in pairs if r is not None]
    return {"self": sum(shares, torch.zeros_like(call.x))}


def _extremes_of_places(call: Call, relevance: Tensor) -> Relevances:
    """``scatter_reduce``: at every place the winners share, of what was there and what came; factors take equal parts."""
    start, dim, index, source, y = call["self"], call["dim"], call["index"], call["src"], call.output
    used = source[tuple(slice(0, size) for size in index.shape)]
    came = torch.ones_like(used) if call["reduce"] == "prod" else (used == y.gather(dim, index)).to(used.dtype)
    stayed = torch.ones_like(start) if call["reduce"] == "prod" else (start == y).to(start.dtype)
    if not call["include_self"]:
        stayed = stayed.scatter(dim, index, 0.0)
        stayed = torch.where(torch.ones_like(start).scatter(dim, index, 0.0) > 0, 1.0, stayed)  # nothing came here
    part = relevance / stayed.scatter_add(dim, index, came)
    ends = [end for size, kept in zip(source.shape, index.shape, strict=True) for end in (size - kept, 0)][::-1]
    return {"self": part * stayed, "src": torch.constant_pad_nd(part.gather(dim, index) * came, ends)}


def _sums(arguments: Arguments) -> str:
    """Sums and means are taken apart before."""
    return f"with reduce={arguments['reduce']!r}" if arguments["reduce"] in {"sum", "mean"} else ""


add_ops(["prod"], Op(Role.REDUCE, _equal_parts, nonnegative="inherits", shares="equal parts"))
add_ops(["cumprod"], Op(Role.REDUCE, _equal_parts_so_far, nonnegative="inherits", shares="equal parts"))
add_ops(["logcumsumexp"], Op(Role.REDUCE, _softmax_weights_so_far, needs=("self", "output"), shares="softmax weights"))
_NORM = Op(Role.REDUCE, _norm, needs=("self",), limit=_counting_norm, nonnegative="always", shares="by powers")
add_ops(["linalg_vector_norm"], _NORM)
_TWO = ("self", "other")
_HYPOTENUSE = Op(
    Role.REDUCE, _hypotenuse, data=_TWO, needs=_TWO, nonnegative="always", shares="by powers", slices=slices_with_broadcasting
)
add_ops(["hypot"], _HYPOTENUSE)
_POINTS = ("x1", "x2")
_DISTANCE = Op(
    Role.REDUCE, _distance, data=_POINTS, needs=_POINTS, limit=_counting_distance, nonnegative="always", shares="by powers"
)
add_ops(["cdist"], _DISTANCE)
add_ops(["quantile"], Op(Role.SELECT, _quantile, needs=("self", "q"), nonnegative="inherits", shares="by interpolation"))
add_ops(["aminmax"], Op(Role.SELECT, _both_extremes, needs=("self", "output"), nonnegative="inherits"))
_PLACES = Op(Role.SELECT, _extremes_of_places, data=("self", "src"), needs=("self", "src", "index", "output"), limit=_sums)
add_ops(["scatter_reduce.two"], _PLACES)
