"""Products, norms, distances, log-sums, quantiles and extremes at places, against their formulas in loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relprop
from tests.rules.reference import TIGHT, assert_same, check_affine, check_conservation, check_winner, probe

PROTOTYPES = torch.linspace(-1, 1.5, 12).double().reshape(4, 3)


def equal_parts(x, relevance):
    return np.repeat(relevance[:, None] / x.shape[1], x.shape[1], 1)


def equal_parts_so_far(x, relevance):
    """Output ``k`` gives an equal part to each of the factors up to it."""
    shares = np.zeros_like(x)
    for row, k in np.ndindex(relevance.shape):
        for i in range(k + 1):
            shares[row, i] += relevance[row, k] / (k + 1)
    return shares


def softmax_weights_so_far(x, relevance):
    shares = np.zeros_like(x)
    for row, k in np.ndindex(relevance.shape):
        total = sum(math.exp(v) for v in x[row, : k + 1])
        for i in range(k + 1):
            shares[row, i] += relevance[row, k] * math.exp(x[row, i]) / total
    return shares


def powers(order):
    def shares(x, relevance):
        found = np.zeros_like(x)
        for row, r in enumerate(relevance):
            total = sum(abs(v) ** order for v in x[row])
            found[row] = [r * abs(v) ** order / total for v in x[row]]
        return found

    return shares


REDUCTIONS = {
    "prod": (lambda x: x.prod(2), equal_parts),
    "prod, dim kept": (lambda x: x.prod(-1, keepdim=True), equal_parts),
    "cumprod": (lambda x: x.cumprod(2), equal_parts_so_far),
    "logcumsumexp": (lambda x: x.logcumsumexp(-1), softmax_weights_so_far),
    "norm": (lambda x: x.norm(dim=2), powers(2)),
    "norm, dim kept": (lambda x: torch.linalg.vector_norm(x, dim=2, keepdim=True), powers(2)),
    "norm of order one": (lambda x: x.norm(p=1, dim=2), powers(1)),
    "norm of order three": (lambda x: torch.linalg.vector_norm(x, 3, 2), powers(3)),
    "length of pairs": (
        lambda x: torch.hypot(x[..., :1], x[..., 1:2]),
        lambda x, r: np.pad(powers(2)(x[:, :2], r), [(0, 0), (0, 2)]),
    ),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction(name):
    op, formula = REDUCTIONS[name]
    p = probe(op, (2, 4))
    for b in range(3):
        relevance = p.relevance_out[b].numpy()
        expected = formula(p.inputs[0][b].numpy(), relevance if relevance.shape == (2, 4) else relevance.reshape(2))
        assert_same(p.relevance_in[0][b], expected)
    assert p.absorbed.abs().max() <= 1e-12


def test_log_sums_do_not_overflow():
    p = probe(lambda x: (x * 300).logcumsumexp(-1) / 300, (2, 4))
    assert p.relevance_in[0].isfinite().all()
    torch.testing.assert_close(p.relevance_in[0].sum(-1), p.relevance_out.sum(-1), **TIGHT)


def test_a_norm_of_zeros_shares_equally():
    p = probe(lambda x: (x * 0).norm(dim=-1) + 1, (2, 4))
    torch.testing.assert_close(p.relevance_in[0], (p.relevance_out / 4).unsqueeze(-1).expand(3, 2, 4))


def distance_shares(x, y, relevance, order):
    """Of every pair, each coordinate of the difference by its power; shares of ``x``, and of ``y``."""
    of_x, of_y = np.zeros_like(x), np.zeros_like(y)
    for i, j in itertools.product(range(len(x)), range(len(y))):
        terms = np.abs(x[i] - y[j]) ** order
        share = relevance[i, j] * terms / terms.sum()
        of_x[i] += share
        of_y[j] += share
    return of_x, of_y


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
def test_distances_to_constants(order):
    p = probe(lambda x: torch.cdist(x, PROTOTYPES, order), (2, 3))
    for b in range(3):
        expected, _ = distance_shares(p.inputs[0][b].numpy(), PROTOTYPES.numpy(), p.relevance_out[b].numpy(), order)
        assert_same(p.relevance_in[0][b], expected)


def test_the_largest_difference_wins_the_largest_distance():
    p = probe(lambda x: torch.cdist(x, PROTOTYPES, math.inf), (2, 3))
    for b in range(3):
        x, expected = p.inputs[0][b].numpy(), np.zeros((2, 3))
        for i, j in itertools.product(range(2), range(4)):
            expected[i, np.abs(x[i] - PROTOTYPES.numpy()[j]).argmax()] += float(p.relevance_out[b, i, j])
        assert_same(p.relevance_in[0][b], expected)


def test_distances_of_two_values_share_in_halves():
    p = probe(torch.cdist, (2, 3), operands=2)
    for b in range(3):
        x, y = (v[b].numpy() for v in p.inputs)
        for found, expected in zip(p.relevance_in, distance_shares(x, y, p.relevance_out[b].numpy() / 2, 2), strict=True):
            assert_same(found[b], expected)


def quantile_shares(x, relevance, q, interpolation):
    shares = np.zeros_like(x)
    for row, r in enumerate(relevance):
        order, rank = np.argsort(x[row]), q * (x.shape[1] - 1)
        low, high = math.floor(rank), math.ceil(rank)
        weight = {"linear": rank - low, "lower": 0, "higher": 1, "midpoint": 0.5, "nearest": round(rank) - low}[interpolation]
        shares[row, order[low]] += r * (1 - weight)
        shares[row, order[high]] += r * weight
    return shares


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("interpolation", ["linear", "lower", "higher", "midpoint", "nearest"])
def test_quantile(interpolation, keepdim):
    p = probe(lambda x: x.quantile(0.7, -1, keepdim, interpolation=interpolation), (2, 4))
    for b in range(3):
        relevance = p.relevance_out[b].flatten().numpy()
        assert_same(p.relevance_in[0][b], quantile_shares(p.inputs[0][b].numpy(), relevance, 0.7, interpolation))


def test_several_quantiles():
    levels = torch.tensor([0.1, 0.6], dtype=torch.float64)
    p = probe(lambda x: x.quantile(levels, 2).movedim(0, 1), (2, 4))
    for b in range(3):
        expected = sum(
            quantile_shares(p.inputs[0][b].numpy(), r.numpy(), q, "linear")
            for q, r in zip((0.1, 0.6), p.relevance_out[b], strict=True)
        )
        assert_same(p.relevance_in[0][b], expected)


PLACES = torch.tensor([0, 2, 2, 1])


def placed(reduce, *, include_self=True):
    def op(x, y):
        return x[..., :3].scatter_reduce(2, PLACES.expand(len(x), 2, 4), y, reduce, include_self=include_self)

    return op


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["amax", "amin"])
def test_extremes_at_places(reduce, include_self):
    check_winner(placed(reduce, include_self=include_self), (2, 4), operands=2)


def test_factors_at_places_share_equally():
    p = probe(placed("prod"), (2, 4), operands=2)
    parts = p.relevance_out / (1 + torch.tensor([1, 1, 2]))
    torch.testing.assert_close(p.relevance_in[0][..., :3], parts, **TIGHT)
    torch.testing.assert_close(p.relevance_in[1], parts[..., PLACES], **TIGHT)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_sums_at_places(reduce, include_self):
    def op(x):
        zeros = torch.zeros_like(x[..., :3])
        return zeros.scatter_reduce(2, PLACES.expand(len(x), 2, 4), x, reduce, include_self=include_self)

    check_affine(op, (2, 4))


def test_smallest_and_largest():
    check_winner(lambda x: torch.stack(torch.aminmax(x, dim=2), -1), (2, 4))
    check_winner(lambda x: torch.aminmax(x, dim=1, keepdim=True).max, (3, 2))


STATISTICS = {
    "var_mean": lambda x: torch.cat(torch.var_mean(x, 2, keepdim=True), 2),
    "var_mean without correction": lambda x: torch.var_mean(x, dim=2, correction=0)[0],
    "std_mean": lambda x: torch.cat(torch.std_mean(x, 2, keepdim=True), 2),
    "std_mean, biased": lambda x: torch.std_mean(x, 2, unbiased=False)[0],
    "std": lambda x: x.std(2),
    "pairwise distance": lambda x: F.pairwise_distance(x[:, 0], x[:, 1]).unsqueeze(-1),
}


class Head(nn.Module):
    """A first layer, an op, and a classifier."""

    def __init__(self, op, features, outputs, nonnegative=False):
        super().__init__()
        self.op = op
        self.first = nn.Sequential(nn.Linear(features, features), *([nn.Sigmoid()] if nonnegative else []))
        self.last = nn.Linear(outputs, 3)

    def forward(self, x):
        return self.last(self.op(self.first(x)).flatten(1))


@pytest.mark.parametrize("name", [*STATISTICS, *REDUCTIONS])
def test_gradients_are_those_of_the_model(name):
    """Also where a value is zero, or all values are equal."""
    torch.manual_seed(0)
    op, x = (STATISTICS | {k: v[0] for k, v in REDUCTIONS.items()})[name], torch.randn(3, 2, 4, dtype=torch.float64)
    model = Head(op, 4, op(x).flatten(1).shape[1]).double().eval()
    if name not in {"pairwise distance", "length of pairs"}:  # their gradients have no value there
        with torch.no_grad():
            model.first[0].weight[:, 0] = 0
            model.first[0].bias.zero_()
        x[0, 0] = 0
        x[0, 0, 0] = 1
    x.requires_grad_()
    (expected,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    assert expected.isfinite().all()
    found = relprop.explain(model, x.detach(), 1, method="gradient")
    torch.testing.assert_close(found.relevance, expected, **TIGHT)


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_conserve(name):
    torch.manual_seed(0)
    op, x = STATISTICS[name], torch.randn(3, 2, 4, dtype=torch.float64)
    model = Head(op, 4, op(x).flatten(1).shape[1]).double().eval()
    for method in ("rap", "lrp-epsilon", "lrp-zplus", "lrp-alpha2-beta1", "attnlrp", "lrp-flat", "lrp-wsquare"):
        check_conservation(relprop.explain(model, x, torch.tensor([0, 1, 2]), method=method))


def test_norms_of_order_zero_are_refused():
    model = nn.Sequential(nn.Linear(4, 4), Head(lambda x: torch.linalg.vector_norm(x, 0, -1, keepdim=True), 4, 1)).double()
    with pytest.raises(relprop.errors.UnsupportedOpError, match=r"linalg_vector_norm with ord=0 \(in 1\)"):
        relprop.Explainer(model, torch.randn(2, 4).double())
