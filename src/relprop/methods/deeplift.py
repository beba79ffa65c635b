"""DeepLIFT with the rescale rule, on the captured graph: the difference to a reference, propagated by multipliers.

Every op gets a surrogate that is linear in its inputs, equals the op in the value, and whose slope is the multiplier: the plain gradient of
the surrogates is then DeepLIFT's product of multipliers. Linear ops are their own surrogate. An elementwise nonlinearity has the slope
``Δy/Δx`` (Shrikumar et al. 2017, Eq. 10); a maximum gives ``Δy`` to the winner; a product ``a·b`` shares by
``Δ(ab) = Δa (b + b₀)/2 + Δb (a + a₀)/2``, which are its Shapley values. Softmax and norms are compositions of these. So relevance
always adds up to the score's difference to that of the reference.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from relprop.attribution import Attributed, Attribution, Problem
from relprop.errors import InputError, OptionError, UnsupportedOpError
from relprop.graph.model import CapturedModel, Handler
from relprop.graph.nodes import PATH, is_floating
from relprop.meaning import VOTES
from relprop.methods.options import as_reference, check_references, read_array
from relprop.methods.slopes import with_slope
from relprop.ops.op import Role, op_name
from relprop.ops.table import known_op
from relprop.propagation.roles import Roles

aten = torch.ops.aten
_LINEAR = frozenset({Role.CONV, Role.DENSE, Role.POOL, Role.ADD, Role.BIAS, Role.SCALE, Role.SHAPE, Role.BLOCK})


class Pair:
    """A value and its counterpart for the reference input; the gradient flows through the value alone."""

    def __init__(self, value: Tensor, reference: Tensor) -> None:
        self.value, self.reference = value, reference.detach()

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Pair":
        """Apply a linear function."""
        return Pair(function(self.value), function(self.reference))

    @property
    def mean(self) -> Tensor:
        """Halfway between the value and its reference."""
        return (self.value.detach() + self.reference) / 2


def rescale(x: Pair, function: Callable[[Tensor], Tensor]) -> Pair:
    """An elementwise nonlinearity: the slope is ``Δy/Δx``, or the derivative halfway where ``Δx`` is within rounding error."""
    value, reference = function(x.value.detach()), function(x.reference)
    difference = x.value.detach() - x.reference
    tiny = difference.abs() <= _rounding(x)
    slope = torch.where(tiny, 0.0, (value - reference) / torch.where(tiny, 1.0, difference))
    if bool(tiny.any()):
        slope = torch.where(tiny, _derivative(function, x.mean), slope)
    return Pair(with_slope(value, x.value * slope), reference)


def _rounding(x: Pair) -> Tensor:
    return (x.value.detach().abs() + x.reference.abs()) * math.sqrt(torch.finfo(x.value.dtype).eps) / 8


def _derivative(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    with torch.enable_grad():
        at = at.clone().requires_grad_()
        return torch.autograd.grad(function(at).sum(), at)[0]


def product(a: Pair, b: Pair, multiply: Callable[[Tensor, Tensor], Tensor] = torch.mul) -> Pair:
    """A product of two values, elementwise or of matrices."""
    value = multiply(a.value.detach(), b.value.detach())
    surrogate = multiply(a.value, b.mean) + multiply(a.mean, b.value)
    return Pair(with_slope(value, surrogate), multiply(a.reference, b.reference))


def winner(x: Pair, select: Callable[[Tensor], tuple[Tensor, Tensor]], dims: int) -> Pair:
    """A maximum over some of the last ``dims`` dimensions: ``Δy`` goes to the winner, or, where ``y < y₀``, to the reference's winner.

    ``select`` returns the maxima and their flat positions in the last ``dims`` dimensions.
    """
    (value, at), (reference, reference_at) = select(x.value.detach()), select(x.reference)
    position = torch.where(value >= reference, at, reference_at).reshape(*x.value.shape[:-dims], -1)
    chosen = x.apply(lambda v: v.flatten(-dims).gather(-1, position).reshape(value.shape))
    difference = chosen.value.detach() - chosen.reference
    slope = torch.where(difference == 0, 1.0, (value - reference) / torch.where(difference == 0, 1.0, difference))
    return Pair(with_slope(value, chosen.value * slope), reference)


# --- compositions -----------------------------------------------------------------------------------------------------------------


def softmax(x: Pair, dim: int) -> Pair:
    """``exp(x) / Σ exp(x)``, shifted by a constant that keeps it in range."""
    shift = torch.maximum(x.value.detach(), x.reference).amax(dim, keepdim=True)
    shift = torch.where(shift.isfinite(), shift, 0.0)
    powers = rescale(x.apply(lambda v: v - shift), torch.exp)
    return product(powers, rescale(powers.apply(lambda v: v.sum(dim, keepdim=True)), torch.reciprocal))


def standardized(x: Pair, dims: Sequence[int], epsilon: float, *, center: bool = True) -> Pair:
    """``(x − mean) / √(variance + ε)``, as all norms do; without ``center`` the root of the mean square, as RMS norm does."""
    dims = list(dims)
    centered = x.apply(lambda v: v - v.mean(dims, keepdim=True)) if center else x
    spread = rescale(centered, torch.square).apply(lambda v: v.mean(dims, keepdim=True) + epsilon)
    return product(centered, rescale(spread, torch.rsqrt))


def _scaled(x: Pair, weight: Tensor | None, bias: Tensor | None) -> Pair:
    scaled = x if weight is None else x.apply(lambda v: v * weight)
    return scaled if bias is None else Pair(scaled.value + bias, scaled.reference + bias)


def _layer_norm(
    x: Pair, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: object
) -> Pair:
    return _scaled(standardized(x, range(-len(shape), 0), eps), weight, bias)


def _rms_norm(x: Pair, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Pair:
    epsilon = torch.finfo(x.value.dtype).eps if eps is None else eps
    return _scaled(standardized(x, range(-len(shape), 0), epsilon, center=False), weight, None)


def _group_norm(
    x: Pair, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: object
) -> Pair:
    shape, per_channel = x.value.shape, [1, -1] + [1] * (x.value.dim() - 2)
    grouped = standardized(x.apply(lambda v: v.reshape(shape[0], groups, -1)), [2], eps)
    weight, bias = (None if v is None else v.reshape(per_channel) for v in (weight, bias))
    return _scaled(grouped.apply(lambda v: v.reshape(shape)), weight, bias)


def _instance_norm(x: Pair, weight: Tensor | None, bias: Tensor | None, *settings: Any) -> Pair:  # noqa: ANN401 - the op's own
    return _group_norm(x, x.value.shape[1], weight, bias, settings[4])


def _softmax(x: Pair, dim: int, *_: object) -> Pair:
    return softmax(x, dim)


def _divide(a: Pair | Tensor, b: Pair) -> Pair:
    inverse = rescale(b, torch.reciprocal)
    return product(a, inverse) if isinstance(a, Pair) else inverse.apply(lambda v: v * a)


def _max_pool(pool: Callable[..., Any], dims: int, x: Pair, *settings: Any) -> Pair:  # noqa: ANN401 - the op's own
    return winner(x, lambda v: pool(v, *settings), dims)


def _larger(sign: int, a: Pair, b: Pair) -> Pair:
    values, references = (
        torch.stack(torch.broadcast_tensors(*v), -1) * sign for v in ((a.value, b.value), (a.reference, b.reference))
    )
    return winner(Pair(values, references), partial(_maximum, dims=1), 1).apply(lambda v: v * sign)


def _norm(x: Pair, order: float = 2, dim: Sequence[int] | None = None, keepdim: bool = False) -> Pair:
    """``(Σ |x|^p)^(1/p)``."""
    dims = list(dim) if dim else list(range(x.value.dim()))
    powers = rescale(x, lambda v: v.abs() ** order).apply(lambda v: v.sum(dims, keepdim=keepdim))
    return rescale(powers, lambda v: v ** (1 / order))


def _amax(x: Pair, dim: Sequence[int] = (), keepdim: bool = False) -> Pair:
    every = x.value.dim()
    dims = [d % every for d in dim] or list(range(every))
    moved = x.apply(lambda v: v.movedim(dims, list(range(-len(dims), 0))))
    result = winner(moved, lambda v: _maximum(v, len(dims)), len(dims))
    shape = [1 if d in dims else n for d, n in enumerate(x.value.shape)] if keepdim else result.value.shape
    return result.apply(lambda v: v.reshape(shape))


def _maximum(values: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    result, position = values.flatten(-dims).max(-1)
    return result, position


# --- one rule per op ----------------------------------------------------------------------------------------------------------------

_Rule = Callable[..., Pair]

_RULES: Mapping[str, _Rule] = {
    "aten::softmax": _softmax,
    "aten::_softmax": _softmax,
    "aten::layer_norm": _layer_norm,
    "aten::rms_norm": _rms_norm,
    "aten::group_norm": _group_norm,
    "aten::instance_norm": _instance_norm,
    "aten::linalg_vector_norm": _norm,
    "aten::amax": _amax,
    "aten::max_pool1d": partial(_max_pool, partial(torch.max_pool1d_with_indices), 1),
    "aten::max_pool2d": partial(_max_pool, aten.max_pool2d_with_indices, 2),
    "aten::max_pool3d": partial(_max_pool, aten.max_pool3d_with_indices, 3),
}
"""Ops with a rule of their own, by name; each takes the op's arguments with a pair in place of the value."""

_PAIRS: Mapping[str, _Rule] = {
    "aten::mul": product,
    "aten::div": _divide,
    "aten::matmul": partial(product, multiply=torch.matmul),
    "aten::mm": partial(product, multiply=torch.matmul),
    "aten::bmm": partial(product, multiply=torch.matmul),
    "aten::maximum": partial(_larger, 1),
    "aten::minimum": partial(_larger, -1),
}
"""Ops of two values that both depend on the input."""

_DIAGONAL = frozenset({"aten::batch_norm", "aten::_native_batch_norm_legit_no_training"})
"""Norms by constants, which are linear."""


def _elementwise(node: fx.Node) -> _Rule:
    def rule(x: Pair, *rest: object) -> Pair:
        def function(v: Tensor) -> Tensor:
            return node.target(v, *rest)  # pyright: ignore[reportCallIssue]

        return rescale(x, function)

    return rule


def _pooled(node: fx.Node) -> _Rule | None:
    """Adaptive max pooling and its like return the maxima and their positions, of which the maxima are explained."""
    dims = {
        f"aten::{kind}{d}d{end}": d for d in (1, 2, 3) for kind, end in (("adaptive_max_pool", ""), ("max_pool", "_with_indices"))
    }
    count = dims.get(op_name(node.target))
    return partial(_max_pool, node.target, count) if count else None  # pyright: ignore[reportArgumentType]


def _rule(model: CapturedModel, roles: Roles, node: fx.Node) -> _Rule | None:
    """The rule of a nonlinear op; None where there is none."""
    name, carriers = op_name(node.target), model.carriers(node)
    if node.kwargs or not all(c in node.args for c in carriers):
        return None
    if len(carriers) != 1 or name == "aten::div":
        return _PAIRS.get(name) if len(carriers) <= 2 else None
    if node.args[0] is not carriers[0] or known_op(node) is None:
        return None
    return _RULES.get(name) or _pooled(node) or (_elementwise(node) if roles.kinds.get(node) is Role.ACTIVATION else None)


def _is_linear(model: CapturedModel, roles: Roles, node: fx.Node) -> bool:
    """Whether the op's own gradient is the multiplier."""
    name, carriers = op_name(node.target), model.carriers(node)
    if not is_floating(node) or not carriers:
        return True
    if name == "aten::div":
        return len(carriers) == 1 and node.args[0] is carriers[0] and "rounding_mode" not in node.kwargs
    if any(n in model.active and not is_floating(n) for n in node.all_input_nodes):
        return False  # a condition, or places, that another input changes
    if name == "aten::instance_norm":
        return not node.args[5]
    linear = roles.kinds.get(node, Role.BLOCK) in _LINEAR and not roles.multiplies(node)
    return name in _DIAGONAL or (linear and node not in roles.unknown)


def _rules(model: CapturedModel) -> dict[fx.Node, _Rule]:
    """The rule of every nonlinear op.

    Raises:
        UnsupportedOpError: There are ops without one; all are listed.
    """
    roles = Roles(model.module.graph)
    nonlinear = [n for n in model.active if not _is_linear(model, roles, n)]
    rules = {n: _rule(model, roles, n) for n in nonlinear}
    lacking = [n for n, rule in rules.items() if rule is None]
    if lacking:
        listed = ", ".join(f"{op_name(n.target)} (in {n.meta.get(PATH) or 'the model itself'})" for n in lacking)
        raise UnsupportedOpError(
            f"DeepLIFT has no multipliers for these ops: {listed}; choose another method, such as integrated-gradients."
        )
    return {n: rule for n, rule in rules.items() if rule is not None}


def _handler(node: fx.Node, rule: _Rule, references: Mapping[fx.Node, Any]) -> Handler:
    """Compute an op's value by the op itself, and its gradient by the rule."""

    def run(*values: Any) -> Any:  # noqa: ANN401 - the op's arguments
        pairs = [
            Pair(v, references[a]) if isinstance(a, fx.Node) and a in references else v
            for a, v in zip(node.args, values, strict=True)
        ]
        exact = node.target(*values)  # pyright: ignore[reportCallIssue]
        surrogate = rule(*pairs).value
        return (with_slope(exact[0], surrogate), exact[1]) if isinstance(exact, tuple) else with_slope(exact, surrogate)

    return run


def _attribute(problem: Problem, references: Sequence[Tensor]) -> Attributed:
    """DeepLIFT against one reference of every input."""
    model = problem.model
    rules = _rules(model)
    carriers = {c for n in rules for c in model.carriers(n)}
    with torch.no_grad():
        reference_output, kept = model.run(problem.with_inputs(references), keep=carriers)
    handlers = {n: _handler(n, rule, kept) for n, rule in rules.items()}
    with torch.enable_grad():
        inputs = [x.clone().requires_grad_() for x in problem.inputs]
        output, _ = model.run(problem.with_inputs(inputs), handlers)
        multipliers = torch.autograd.grad(problem.weigh(output).sum(), inputs, allow_unused=True, materialize_grads=True)
    parts = [(x.detach() - r) * m for x, r, m in zip(inputs, references, multipliers, strict=True)]
    return Attributed(parts, problem.weigh(reference_output), complete=True)


def _mean(found: Sequence[Attributed]) -> Attributed:
    parts = [torch.stack(parts).mean(0) for parts in zip(*(f.relevance for f in found), strict=True)]
    return Attributed(parts, torch.stack([f.reference for f in found if f.reference is not None]).mean(0), complete=True)


def build_deeplift(*, baseline: float | Tensor = 0.0, baselines: Tensor | str | Path | None = None) -> Attribution:
    """DeepLIFT, rescale rule; relevance and the reference's score add up to the score. Over many references it is DeepSHAP.

    Args:
        baseline: The reference input, in the model's own units: a number, or a tensor that fits a sample.
        baselines: Reference inputs ``(N, …)``, best of the training data, or an ``.npy`` file of them, in place of ``baseline``: the maps are
            averaged over them, and relevance and the mean of their scores add up to the score.
    """
    if baselines is not None and (isinstance(baseline, Tensor) or baseline != 0.0):
        raise OptionError("Give baseline or baselines, not both.")
    given = read_array(baselines) if isinstance(baselines, str | Path) else baselines

    def attribute(problem: Problem) -> Attributed:
        if given is None:
            return _attribute(problem, [as_reference(baseline, x) for x in problem.inputs])
        if len(problem.inputs) != 1:
            raise InputError("DeepLIFT over many references explains one floating input; this model takes several.")
        (x,) = problem.inputs
        check_references(given, x)
        return _mean([_attribute(problem, [as_reference(one, x, "baselines")]) for one in given.split(1)])

    def check(model: CapturedModel) -> tuple[str, ...]:
        _rules(model)
        return ()

    return Attribution("deeplift", attribute, check)


DEEPLIFT_METHODS = (
    (
        "deeplift",
        build_deeplift,
        "Difference of the logit to that of a reference input, shared by multipliers (rescale rule)",
        "Shrikumar et al., ICML 2017; over many references Lundberg and Lee, NeurIPS 2017",
        VOTES,
    ),
)
