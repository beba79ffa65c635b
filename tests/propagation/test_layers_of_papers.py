"""Layers and heads of published models, through the public interface: conservation, independence of the batch, the model's own gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relprop
from tests.rules.reference import TIGHT, check_conservation

METHODS = (
    "rap",
    "lrp-epsilon",
    "lrp-zplus",
    "lrp-alpha2-beta1",
    "lrp-gamma",
    "lrp-flat",
    "lrp-wsquare",
    "epsilon-plus-flat",
    "epsilon-alpha2-beta1-flat",
    "attnlrp",
    "cp-lrp",
)


class Block(nn.Module):
    """A convolution, an op of the model, a classifier."""

    def __init__(self, op, outputs, channels=4):
        super().__init__()
        self.conv, self.op, self.last = nn.Conv2d(3, channels, 3), op, nn.Linear(outputs, 3)

    def forward(self, x):
        return self.last(self.op(self.conv(x).relu()))


class Called(nn.Module):
    def __init__(self, op):
        super().__init__()
        self.op = op

    def forward(self, x):
        return self.op(x)


class GlobalFilter(nn.Module):
    """GFNet: a learned filter of spatial frequencies, after layer norm, beside the residual."""

    def __init__(self):
        super().__init__()
        self.norm, self.weight = nn.LayerNorm(4), nn.Parameter(torch.randn(6, 4, 4, 2) * 0.3)

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        spectrum = torch.fft.rfft2(self.norm(x), dim=(1, 2), norm="ortho")
        mixed = torch.fft.irfft2(spectrum * torch.view_as_complex(self.weight), s=x.shape[1:3], dim=(1, 2), norm="ortho")
        return (x + mixed).mean((1, 2))


class FourierMixing(nn.Module):
    """FNet: the real part of the transform of tokens and channels."""

    def __init__(self):
        super().__init__()
        self.norm, self.dense = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x):
        tokens = x.flatten(2).mT
        mixed = self.norm(tokens + torch.fft.fft(torch.fft.fft(tokens, dim=-1), dim=-2).real)
        return (mixed + self.dense(mixed).relu()).mean(1)


class Pairwise(nn.Module):
    """nn.Bilinear of two poolings."""

    def __init__(self):
        super().__init__()
        self.bilinear = nn.Bilinear(4, 4, 5)

    def forward(self, x):
        return self.bilinear(x.mean((2, 3)), x.amax((2, 3)))


class Stepped(nn.Module):
    """A recurrent cell, called in a loop over the rows of an image."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        state = torch.zeros(x.shape[0], 5).to(x)
        state = (state, state) if isinstance(self.cell, nn.LSTMCell) else state
        for row in x.mean(3).unbind(2):
            state = self.cell(row, state)
        return state[0] if isinstance(state, tuple) else state


class Sequence(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.mean(3).mT)[0][:, -1]


class Unpooled(nn.Module):
    """SegNet: values go back to where the maxima were."""

    def forward(self, x):
        pooled, places = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(pooled, places, 2).mean((2, 3))


class Frames(nn.Module):
    """Tokens from overlapping patches, with zeros around the image."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(36, 5)

    def forward(self, x):
        return self.dense(F.unfold(x, 3, padding=1, stride=2).mT).relu().mean(1)


class Ensemble(nn.Module):
    """Heads whose parameters are stacked, run by ``torch.vmap``, and averaged."""

    def __init__(self, make):
        super().__init__()
        heads = [make().double().eval() for _ in range(3)]
        parameters, buffers = torch.func.stack_module_state(heads)
        self.head, self.names = [heads[0]], [*parameters, *buffers]
        for i, value in enumerate((*parameters.values(), *buffers.values())):
            self.register_buffer(f"stacked_{i}", value.detach())

    def forward(self, x):
        state = {name: getattr(self, f"stacked_{i}") for i, name in enumerate(self.names)}
        return torch.vmap(lambda s, v: torch.func.functional_call(self.head[0], s, (v,)), in_dims=(0, None))(state, x).mean(0)


def dense_head():
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 4), nn.ReLU(), nn.Linear(4, 5))


def convolutional_head():
    return nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


PROTOTYPES = torch.rand(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MODELS = {
    "GFNet": (GlobalFilter, 4),
    "FNet": (FourierMixing, 4),
    "noisy-or": (lambda: Called(lambda x: 1 - (1 - x.flatten(2).sub(1).sigmoid()).prod(2)), 4),
    "prototypes": (lambda: Called(lambda x: -torch.cdist(x.mean((2, 3)), PROTOTYPES)), 5),
    "bilinear": (Pairwise, 5),
    "LSTM cell": (lambda: Stepped(nn.LSTMCell(4, 5)), 5),
    "GRU cell": (lambda: Stepped(nn.GRUCell(4, 5)), 5),
    "RNN cell, tanh": (lambda: Stepped(nn.RNNCell(4, 5)), 5),
    "RNN cell, ReLU": (lambda: Stepped(nn.RNNCell(4, 5, nonlinearity="relu", bias=False)), 5),
    "LSTM": (lambda: Sequence(nn.LSTM(4, 5, batch_first=True)), 5),
    "LSTM, two layers, both ways": (lambda: Sequence(nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True)), 6),
    "GRU": (lambda: Sequence(nn.GRU(4, 5, batch_first=True, bidirectional=True)), 10),
    "RNN": (lambda: Sequence(nn.RNN(4, 5, batch_first=True)), 5),
    "AlexNet's response norm": (lambda: nn.Sequential(nn.LocalResponseNorm(3, 0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 4),
    "SegNet's unpooling": (Unpooled, 4),
    "overlapping patches": (Frames, 5),
    "adaptive maxima": (lambda: nn.Sequential(nn.AdaptiveMaxPool2d(2), nn.Flatten()), 16),
    "ensemble of dense heads": (lambda: Ensemble(dense_head), 5),
    "ensemble of convolutional heads": (lambda: Ensemble(convolutional_head), 5),
    "quantiles": (lambda: Called(lambda x: x.flatten(2).quantile(0.9, -1)), 4),
}


@pytest.mark.parametrize("name", MODELS)
def test_model(name):
    torch.manual_seed(0)
    make, outputs = MODELS[name]
    model, x = Block(make(), outputs).double().eval(), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    captured, target = relprop.capture(model, x[:2]), torch.tensor([0, 2, 1])
    for method in METHODS:
        explainer = captured.explainer(method)
        explanation = explainer(x, target)
        torch.testing.assert_close(explanation.logits, model(x), **TIGHT)
        check_conservation(explanation)
        torch.testing.assert_close(explainer(x[1:2], 2).relevance, explanation.relevance[1:2], **TIGHT)
        several = explainer(x, torch.stack([target, 2 - target], 1)).relevance[:, 0]
        torch.testing.assert_close(several, explanation.relevance, **TIGHT)
    for method in ("abslrp", "abslrp-plain"):
        assert captured.explainer(method)(x, target).relevance.isfinite().all()
    given = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(given).gather(1, target[:, None]).sum(), given)
    torch.testing.assert_close(captured.explainer("input-x-gradient")(x, target).relevance, x * gradient, **TIGHT)


def test_the_gates_of_an_lstm_take_nothing():
    """Sigmoids gate, also where they multiply a tanh (Arras et al. 2017): the candidate and the earlier state take all."""
    torch.manual_seed(0)
    model = Block(Stepped(nn.LSTMCell(4, 5)), 5).double().eval()
    plan = relprop.Explainer(model, torch.randn(2, 3, 8, 8).double(), "lrp-epsilon").plan
    gates = [step for step in plan.steps if step.op == "aten::sigmoid"]
    assert len(gates) == 18
    assert not any(step.operands for step in gates), "the first forget gate multiplies a constant, which is a constant"


def test_a_step_of_an_lstm_by_its_formula():
    """From the cell to the candidate, and by signed contribution to the input; the first state, a constant, absorbs its share."""
    torch.manual_seed(0)
    cell, h, c = nn.LSTMCell(3, 4).double(), torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)

    class OneStep(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.first, self.last = cell, nn.Linear(3, 3).double(), nn.Linear(4, 2).double()

        def forward(self, x):
            return self.last(self.cell(self.first(x), (h.expand(len(x), 4), c.expand(len(x), 4)))[0])

    model, x = OneStep(), torch.randn(2, 3, dtype=torch.float64)
    options = {"method": "lrp-epsilon", "epsilon": 0.0, "add": "signed"}
    explanation = relprop.explain(model, x, 1, layers=("first", "cell"), **options)
    with torch.no_grad():
        values = model.first(x)
        gates = values @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh
        i, f, g, _ = gates.chunk(4, 1)
        kept, added = f.sigmoid() * c, i.sigmoid() * g.tanh()
        of_cell = explanation.layers["cell"] / (kept + added)
        expected = values * (of_cell * added / g @ cell.weight_ih.chunk(4)[2])
    torch.testing.assert_close(explanation.layers["first"], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["lrp-zplus", "lrp-alpha2-beta1", "lrp-epsilon"])
def test_each_operand_of_a_bilinear_layer_takes_half(method):
    """By the rule with the other one held constant; the bias takes its share in both halves."""
    torch.manual_seed(0)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.mix, self.last = nn.Linear(4, 3), nn.Linear(4, 5), nn.Bilinear(3, 5, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.last(self.mix(self.a(x), self.b(x)))

    model, x = Two().double(), torch.randn(3, 4, dtype=torch.float64)
    explanation = relprop.explain(model, x, 1, method=method, epsilon=0.0, layers=("a", "b", "mix"))
    check_conservation(explanation)
    with torch.no_grad():
        a, b, y = model.a(x), model.b(x), model.mix(model.a(x), model.b(x))
    half, weight, bias = explanation.layers["mix"] / 2, model.mix.weight.detach(), model.mix.bias.detach()

    def by_sign(z, sign):
        """Shares in proportion to the contributions of one sign."""
        one, total = z * (z * sign > 0), (z * (z * sign > 0)).sum(-1) + bias * (bias * sign > 0)
        return torch.where(total == 0, 0.0, half / torch.where(total == 0, 1.0, total)).unsqueeze(-1) * one

    for name, equation in (("a", "ni,kij,nj->nki"), ("b", "ni,kij,nj->nkj")):
        z = torch.einsum(equation, a, weight, b)
        shares = {
            "lrp-zplus": lambda z: by_sign(z, 1),
            "lrp-alpha2-beta1": lambda z: 2 * by_sign(z, 1) - by_sign(z, -1),
            "lrp-epsilon": lambda z: (half / y).unsqueeze(-1) * z,
        }[method](z)
        torch.testing.assert_close(explanation.layers[name], shares.sum(1), rtol=1e-6, atol=1e-9)
