"""Layers of every kind, in the middle of a model whose rule there is to be tested."""

import torch
from torch import nn

import relprop
from relprop import rules
from tests.rules.reference import contribution_matrix

LAYERS = {
    "dense": (nn.Linear(5, 4), (5,)),
    "conv": (nn.Conv2d(2, 3, 2, padding=1, stride=2), (2, 3, 3)),
    "grouped conv": (nn.Conv1d(4, 4, 3, groups=2, dilation=2), (4, 6)),
    "transposed conv": (nn.ConvTranspose1d(2, 3, 2, stride=2), (2, 3)),
    "dense without bias": (nn.Linear(4, 3, bias=False), (4,)),
}


def explained(layer, shape, rule, *, nonnegative, **more):
    """A layer in the middle of a model under a rule: its input, and the relevance of its input and output."""
    torch.manual_seed(1)
    pre = nn.Sequential(nn.Linear(shape[-1], shape[-1]), *([nn.ReLU()] if nonnegative else [])).double()
    layer.double().reset_parameters()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    x = torch.randn(2, *shape).double()
    size = layer(pre(x)).flatten(1).shape[1]
    model = nn.Sequential(pre, layer, nn.Sequential(nn.Flatten(), nn.Linear(size, 4), nn.Linear(4, 3))).double()
    method = relprop.Method("tested", {"dense": rules.epsilon(), "conv": rules.epsilon()}, by_path={"1": rule}, **more)
    explainer = relprop.Explainer(model, x, method)
    explanation = explainer(x, torch.tensor([0, 2]), layers=("0", "1"))
    total = explanation.relevance.flatten(1).sum(1) + explanation.absorbed
    torch.testing.assert_close(total, explanation.logits.gather(1, explanation.target[:, None])[:, 0], rtol=1e-9, atol=1e-10)
    return pre(x).detach(), explanation.layers["0"], explanation.layers["1"]


def weights_of(layer, x):
    return contribution_matrix(layer, torch.ones_like(x))
