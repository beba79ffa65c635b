"""Convolutions, dense layers and matrix products against explicit contribution matrices."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relprop
from relprop.ops.fast import linear
from tests.rules.reference import (
    TIGHT,
    absolute_shares,
    assert_same,
    box_shares,
    check_affine,
    check_passed,
    contribution_matrix,
    probe,
    randomized,
)

CONVOLUTIONS = {
    "1d": (lambda: nn.Conv1d(3, 2, 3), (3, 6)),
    "1d strided, dilated, padded": (lambda: nn.Conv1d(2, 4, 2, stride=2, padding=2, dilation=2), (2, 7)),
    "2d without bias": (lambda: nn.Conv2d(2, 3, 2, bias=False), (2, 4, 3)),
    "2d grouped": (lambda: nn.Conv2d(4, 4, (2, 3), groups=2, padding=(0, 1)), (4, 3, 3)),
    "2d depthwise": (lambda: nn.Conv2d(3, 6, 3, groups=3, padding=1), (3, 3, 3)),
    "1d in patches": (lambda: nn.Conv1d(2, 4, 3, stride=3), (2, 6)),
    "2d in patches": (lambda: nn.Conv2d(2, 3, (2, 3), stride=(2, 3)), (2, 4, 6)),
    "3d in patches": (lambda: nn.Conv3d(2, 3, (1, 2, 2), stride=(1, 2, 2)), (2, 2, 4, 2)),
    "2d strided with a rest": (lambda: nn.Conv2d(2, 2, 2, stride=2), (2, 5, 4)),
    "2d dilated": (lambda: nn.Conv2d(1, 2, 2, dilation=(2, 1)), (1, 5, 4)),
    "2d same, odd kernel": (lambda: nn.Conv2d(2, 2, 3, padding="same"), (2, 3, 4)),
    "2d same, even kernel": (lambda: nn.Conv2d(2, 2, (2, 4), padding="same"), (2, 4, 4)),
    "2d valid": (lambda: nn.Conv2d(2, 2, 2, padding="valid"), (2, 3, 3)),
    "1d same, dilated": (lambda: nn.Conv1d(2, 2, 4, padding="same", dilation=3), (2, 9)),
    "3d": (lambda: nn.Conv3d(2, 2, 2, padding=(0, 1, 0), stride=(1, 2, 1)), (2, 2, 3, 3)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(3, 2, 3, stride=2, padding=1, output_padding=1), (3, 4)),
    "transposed 2d grouped": (lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (4, 2, 3)),
    "transposed 2d dilated": (lambda: nn.ConvTranspose2d(2, 1, 2, dilation=2, stride=3, output_padding=(2, 0)), (2, 2, 2)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(2, 1, 2), (2, 2, 2, 2)),
    "linear": (lambda: nn.Linear(4, 5), (4,)),
    "linear on tokens": (lambda: nn.Linear(4, 3, bias=False), (3, 4)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_layer(name):
    make, shape = CONVOLUTIONS[name]
    torch.manual_seed(1)
    check_affine(make(), shape)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if "linear" not in name])
def test_traced_by_torchscript(name):
    make, shape = CONVOLUTIONS[name]
    torch.manual_seed(1)
    model, x = nn.Sequential(make(), nn.ReLU(), nn.Flatten()).double().eval(), torch.randn(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        traced = torch.jit.trace(model, x)
    expected, found = (relprop.Explainer(m, x[:1], "lrp-epsilon")(x) for m in (model, traced))
    assert found.relevance.abs().sum() > 0
    torch.testing.assert_close(found.relevance, expected.relevance, **TIGHT)


FOLDED = {
    "conv": (lambda: nn.Sequential(nn.Conv2d(2, 3, 2), randomized(nn.BatchNorm2d(3))), (2, 3, 3)),
    "conv without bias, norm without weights": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 2, groups=2, bias=False), randomized(nn.BatchNorm1d(4, affine=False))),
        (2, 4),
    ),
    "linear": (lambda: nn.Sequential(nn.Linear(4, 3), randomized(nn.BatchNorm1d(3))), (4,)),
    "transposed, grouped": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 2, groups=2), randomized(nn.BatchNorm2d(6))),
        (4, 2, 2),
    ),
    "3d": (lambda: nn.Sequential(nn.Conv3d(1, 2, 2), randomized(nn.BatchNorm3d(2))), (1, 2, 2, 3)),
}


@pytest.mark.parametrize("name", FOLDED)
def test_batchnorm_folds_into(name):
    make, shape = FOLDED[name]
    torch.manual_seed(2)
    check_affine(make(), shape)


@pytest.mark.parametrize(
    ("norm", "shape"), [(nn.BatchNorm1d(3), (3,)), (nn.BatchNorm1d(3), (3, 4)), (nn.BatchNorm2d(2), (2, 2, 3))]
)
def test_batchnorm_after_an_activation_passes(norm, shape):
    check_passed(randomized(norm), shape, nonnegative=True)


WEIGHTS = torch.linspace(-1, 1.3, 12).double().reshape(3, 4)
BILINEAR = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PRODUCTS = {
    "x @ W": (lambda x: x @ WEIGHTS.mT, (2, 4)),
    "W @ x": (lambda x: WEIGHTS[:, :3] @ x, (3, 2)),
    "x @ v": (lambda x: x @ WEIGHTS[0], (2, 4)),
    "v @ x": (lambda x: WEIGHTS[0] @ x, (4, 3)),
    "batched weights": (lambda x: torch.matmul(x, torch.stack([WEIGHTS.mT, -WEIGHTS.mT])), (2, 3, 4)),
    "broadcast weights": (lambda x: torch.matmul(x.unsqueeze(1), torch.stack([WEIGHTS.mT, -WEIGHTS.mT])), (3, 4)),
    "broadcast from the left": (lambda x: torch.matmul(torch.stack([WEIGHTS, -WEIGHTS]), x.unsqueeze(1)), (4, 2)),
    "bmm": (lambda x: torch.bmm(x, WEIGHTS.mT.expand(x.shape[0], 4, 3)), (2, 4)),
    "mm": (lambda x: torch.mm(x, WEIGHTS.mT), (4,)),
    "einsum bij,kj->bki": (lambda x: torch.einsum("bij,kj->bki", x, WEIGHTS), (2, 4)),
    "einsum bij,ij->b": (lambda x: torch.einsum("bij,ij->b", x, WEIGHTS).unsqueeze(1), (3, 4)),
    "einsum nhwc,cd->nhwd": (lambda x: torch.einsum("nhwc,cd->nhwd", x, WEIGHTS.mT), (2, 2, 4)),
    "addmm": (lambda x: torch.addmm(WEIGHTS[0, :3], x, WEIGHTS.mT), (4,)),
    "baddbmm": (lambda x: torch.baddbmm(torch.ones(1, 1, 1).double(), x, WEIGHTS.mT.expand(x.shape[0], 4, 3), alpha=2.0), (2, 4)),
    "tensordot": (lambda x: torch.tensordot(x, WEIGHTS, dims=([2], [1])), (2, 4)),
    "F.conv2d": (lambda x: F.conv2d(x, WEIGHTS.reshape(3, 1, 2, 2)), (1, 3, 3)),
    "bilinear layer": (lambda x: F.bilinear(x, WEIGHTS[:2].expand(len(x), 2, 4), BILINEAR, torch.ones(3).double()), (2, 4)),
    "bilinear layer, from the right": (lambda x: F.bilinear(WEIGHTS[:2].expand(len(x), 2, 4), x, BILINEAR), (2, 4)),
    "inner": (lambda x: torch.inner(x, WEIGHTS), (4,)),
    "mv": (lambda x: x.flatten(1).mv(WEIGHTS[0]).unsqueeze(1), (4,)),
    "outer product": (lambda x: x.unsqueeze(-1) @ WEIGHTS[:1], (3,)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_product_with_a_constant(name):
    op, shape = PRODUCTS[name]
    check_affine(op, shape)


def weights_of(layer, x):
    """``w_ij`` of an affine layer for an input shaped like ``x``."""
    return contribution_matrix(layer, torch.ones_like(x))


@pytest.mark.parametrize("bounds", [None, (-3.0, 4.0)])
@pytest.mark.parametrize(
    ("first", "shape"),
    [(nn.Conv2d(2, 3, 2, padding=1), (2, 3, 3)), (nn.Linear(4, 3), (4,)), (nn.Conv1d(4, 2, 2, groups=2), (4, 3))],
)
def test_first_layer_takes_the_box_rule(first, shape, bounds):
    torch.manual_seed(3)
    first = first.double()
    x = torch.randn(3, *shape).double()
    model = nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(first(x).flatten(1).shape[1], 4), nn.Linear(4, 3)).double()
    options = {} if bounds is None else {"low": bounds[0], "high": bounds[1]}
    explanation = relprop.explain(model, x, 1, layers=("1",), **options)
    for b in range(3):
        low, high = bounds or (float(x[b].min()), float(x[b].max()))
        n = x[b].numel()
        expected = box_shares(
            weights_of(first, x[b]), x[b].flatten().numpy(), [low] * n, [high] * n, explanation.layers["1"][b].flatten().numpy()
        )
        assert_same(explanation.relevance[b], expected)


def test_box_bounds_pass_a_normalization_before_the_first_layer():
    """Bounds are those of the model's input; the first layer sees them normalized, channel by channel."""
    torch.manual_seed(4)
    mean, std = torch.tensor([0.4, 0.6]).double().reshape(2, 1, 1), torch.tensor([0.5, 2.0]).double().reshape(2, 1, 1)
    conv = nn.Conv2d(2, 3, 2).double()

    class Normalized(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = conv, nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.Linear(4, 3)).double()

        def forward(self, x):
            return self.head(self.conv((x - mean) / std))

    x = torch.rand(2, 2, 3, 3).double()
    explanation = relprop.explain(Normalized(), x, 0, low=0.0, high=1.0, layers=("conv",))
    for b in range(2):
        seen, low, high = ((v - mean) / std for v in (x[b], torch.zeros_like(x[b]), torch.ones_like(x[b])))
        values = [v.flatten().numpy() for v in (seen, low, high)]
        assert_same(
            explanation.relevance[b], box_shares(weights_of(conv, x[b]), *values, explanation.layers["conv"][b].flatten().numpy())
        )


def test_first_layer_like_any_other():
    """``input_rule="rap"``."""
    torch.manual_seed(5)
    check_affine(nn.Sequential(nn.Linear(4, 5)), (4,), input_rule="rap")


@pytest.mark.parametrize("start", ["absolute", "signed"])
@pytest.mark.parametrize("last", [nn.Linear(4, 3), nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.Conv2d(4, 3, 1), nn.Flatten())])
def test_start_shares_the_logit(start, last):
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), last).double()
    x = torch.randn(3, 5).double()
    explanation = relprop.explain(model, x, 2, start=start, layers=("1",))
    values = model[1](model[0](x)).detach()
    for b in range(3):
        z = contribution_matrix(lambda v: last(v)[:, 2:], values[b])
        logit = explanation.logits[b, 2:].numpy()
        expected = absolute_shares(z, logit) if start == "absolute" else (z / z.sum(0) * logit).sum(1)
        assert_same(explanation.layers["1"][b], expected)


def test_weights_of_zero_and_dead_samples():
    """Outputs without a contribution pass their relevance on through the surplus; a sample without any activation absorbs it."""
    torch.manual_seed(7)
    conv = nn.Conv1d(2, 3, 2).double()
    with torch.no_grad():
        conv.weight[1] = 0
        conv.bias[1] = 2
    check_affine(conv, (2, 4))


def test_values_that_are_zero_take_nothing():
    torch.manual_seed(8)
    p = probe(nn.Linear(6, 4), (6,), nonnegative=True)
    assert (p.inputs[0] == 0).any()
    assert (p.relevance_in[0][p.inputs[0] == 0] == 0).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 1, 3, 5)])
def test_dense_layers_of_transposed_values(shape, bias):
    layer = nn.Linear(5, 4, bias=bias).double()
    x = torch.randn(shape, dtype=torch.float64)
    for value in (x, x.transpose(0, -2).contiguous().transpose(0, -2) if x.dim() > 1 else x):
        torch.testing.assert_close(linear(value, layer.weight, layer.bias), layer(value), **TIGHT)
