"""The rule of Relative Sectional Propagation (Nam et al., AAAI 2021): both signs shared by how activations agree with relevance."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from relprop.ops.layout import SampleLayout
from relprop.ops.op import ABSORBED, Call, Relevances
from relprop.rules.equilibrium import lowered
from relprop.rules.influence import is_wide
from relprop.rules.kernel import divide
from relprop.rules.rule import Rule


def sectional() -> Rule:
    """Share by the activations that go with relevance: ``S(V) = x⁺ Gᵀ(V / G x⁺)`` with ``G = ∂/∂w Σ V (w x⁺)``, as the authors' code does.

    ``G`` takes the place of the weights, and every sample has its own: the sum over places of ``V x⁺``. With ``R⁺`` and ``R⁻`` the positive
    relevance and the magnitude of the negative one, inputs get ``2 S(R⁺) − 2 S(R⁻) − ΣR/n``, where the last term is taken from the ``n``
    inputs with a share; layers without spatial extent pass ``S(R⁺) − S(R⁻)``. Either conserves the sample's sum. A rule for layers with
    weights, not for products of two values.
    """

    def backward(call: Call, relevance: Tensor) -> Relevances:
        below, linear = call.layouts[call.data], call.as_linear()[0]
        found = [
            _shared(call.with_x(x), part.clamp(min=0)) - _shared(call.with_x(x), -part.clamp(max=0))
            for x, part in zip(
                _samples(call.x.clamp(min=0), below, call.batch), _samples(relevance, call.layout, call.batch), strict=True
            )
        ]
        shares, total = _joined(found, below), call.layout.sum(relevance, call.batch)
        if is_wide(linear):
            shares = lowered(call, 2 * shares, total)
        return {call.data: shares, ABSORBED: total - below.sum(shares, call.batch)}

    return Rule("sectional", backward, ("x",))


def _shared(call: Call, relevance: Tensor) -> Tensor:
    """Share one sample's relevance of one sign, given as magnitudes; outputs without contributions pass nothing."""
    linear, _ = call.as_linear()
    weight = linear.weight
    if weight is not None:
        (weight,) = torch.func.vjp(partial(linear.forward, call.x), weight)[1](relevance)
    return call.x * linear.transpose(divide(relevance, linear.forward(call.x, weight)), weight)


def _samples(values: Tensor, layout: SampleLayout, batch: int) -> Sequence[Tensor]:
    """Return the values of every sample, each with the dimensions of a batch of one."""
    if layout.dim is None:
        return [values]
    parts = values.unflatten(layout.dim, (-1, batch, layout.inner)).unbind(layout.dim + 1)
    return [part.flatten(layout.dim, layout.dim + 1) for part in parts]


def _joined(found: Sequence[Tensor], layout: SampleLayout) -> Tensor:
    """Undo :func:`_samples`."""
    if layout.dim is None:
        return found[0]
    parts = [part.unflatten(layout.dim, (-1, layout.inner)) for part in found]
    return torch.stack(parts, layout.dim + 1).flatten(layout.dim, layout.dim + 2)
