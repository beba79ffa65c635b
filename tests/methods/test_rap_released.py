"""``variant="released"`` against a plain reimplementation of the published code's layers, by autograd as there."""

import pytest
import torch
from torch import nn

import relprop


def vgg_like():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8 * 4, 10), nn.ReLU(), nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 4),
    )  # fmt: skip


def safe_divide(a, b):
    return torch.where(b != 0, a / torch.where(b != 0, b, 1), 0)


def apply(layer, x, weight):
    """The layer without its bias, with other weights."""
    if isinstance(layer, nn.Linear):
        return x @ weight.t()
    return torch.nn.functional.conv2d(x, weight, None, layer.stride, layer.padding)


def share(layer, x, weight, s):
    """``x · wᵀ s`` by autograd."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad((apply(layer, x, weight) * s).sum(), x)
    return x.detach() * gradient


def without_surplus(shares, relevance):
    """Take what is too much off every share that is not zero, in equal parts, per sample."""
    out = shares.clone()
    for b in range(len(shares)):
        active = shares[b] != 0
        out[b][active] -= (shares[b].sum() - relevance[b].sum()) / active.sum()
    return out


def first_layer(conv, x, relevance):
    weight = conv.weight
    low, high = x.flatten(1).min(1).values.reshape(-1, 1, 1, 1), x.flatten(1).max(1).values.reshape(-1, 1, 1, 1)
    low, high = low.expand_as(x), high.expand_as(x)
    z = apply(conv, x, weight) - apply(conv, low, weight.clamp(min=0)) - apply(conv, high, weight.clamp(max=0))
    s = safe_divide(relevance, z)
    return share(conv, x, weight, s) - share(conv, low, weight.clamp(min=0), s) - share(conv, high, weight.clamp(max=0), s)


def middle_layer(layer, x, relevance):
    """Inputs are not negative, so contributions have the sign of the weight."""
    up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    positive, negative = apply(layer, x, up), apply(layer, x, down).abs()
    total = positive + negative
    if isinstance(layer, nn.Linear):
        p, n = safe_divide(relevance, positive), safe_divide(relevance, total)
    else:
        pos, neg = relevance.clamp(min=0), relevance.clamp(max=0)
        p = safe_divide(pos, positive)
        n = safe_divide(pos, total) + safe_divide(neg, negative) + safe_divide(neg, total)
    return without_surplus(share(layer, x, up, p) + share(layer, x, down.abs(), n), relevance)


def last_layer(layer, x, target, logits):
    weight = layer.weight[target]
    influence = (x * weight).abs()
    return influence / influence.sum(1, keepdim=True) * logits.gather(1, target[:, None])


def released(model, x, target):
    values = [x]
    for layer in model:
        values.append(layer(values[-1]).detach())
    relevance = last_layer(model[-1], values[-2], target, values[-1])
    for i in reversed(range(len(model) - 1)):
        layer, value = model[i], values[i]
        if isinstance(layer, nn.Flatten):
            relevance = relevance.reshape(value.shape)
        elif isinstance(layer, nn.MaxPool2d):
            value = value.detach().requires_grad_()
            (relevance,) = torch.autograd.grad(layer(value), value, relevance)
        elif i == 0:
            relevance = first_layer(layer, value, relevance)
        elif isinstance(layer, nn.Linear | nn.Conv2d):
            relevance = middle_layer(layer, value, relevance)
    return relevance.detach()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_released_variant_is_the_published_code(dtype, tolerance):
    model = vgg_like().to(dtype)
    x, target = torch.randn(3, 3, 8, 8, dtype=dtype), torch.tensor([0, 3, 1])
    explanation = relprop.explain(model, x, target, variant="released")
    expected = released(model, x, target)
    assert expected.min() < 0 < expected.max()
    torch.testing.assert_close(explanation.relevance, expected, rtol=tolerance, atol=tolerance)


def test_variants_differ():
    model = vgg_like()
    x = torch.randn(2, 3, 8, 8)
    maps = [relprop.explain(model, x, 0, variant=variant).relevance for variant in ("paper", "released")]
    assert (maps[0] - maps[1]).abs().max() > 1e-4
