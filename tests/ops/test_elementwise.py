"""Activations pass, sums split, gates are constants, selections send relevance to the winner."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relprop
from tests.rules.reference import TIGHT, assert_same, check_passed, check_winner, probe

ACTIVATIONS = [
    nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.1), nn.PReLU(), nn.RReLU(), nn.ELU(), nn.CELU(), nn.SELU(), nn.GELU(),
    nn.GELU(approximate="tanh"), nn.SiLU(), nn.SiLU(inplace=True), nn.Mish(), nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(),
    nn.Hardshrink(), nn.Softshrink(), nn.Tanhshrink(), nn.Softplus(), nn.Softsign(), nn.Sigmoid(), nn.Tanh(), nn.LogSigmoid(),
    nn.Threshold(0.1, 0.0),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_activation(activation):
    check_passed(activation, (2, 3))


ONE_CONTRIBUTOR = {
    "abs": torch.abs, "exp": torch.exp, "square": torch.square, "pow": lambda x: x**3, "sqrt": lambda x: (x * x).sqrt(),
    "clamp": lambda x: x.clamp(-0.5, 0.5), "clip": lambda x: torch.clip(x, min=-0.2), "erf": torch.erf, "sin": torch.sin, "neg": lambda x: -x,
    "log1p": lambda x: torch.log1p(x.abs()), "times a number": lambda x: 0.3 * x, "divided by a number": lambda x: x / -2.0,
    "times a constant": lambda x: x * torch.tensor([1.0, -2.0, 0.5]).double(), "times a parameter, in place": lambda x: (x + 0).mul_(torch.ones(3).double() * 2),
    "divided by a constant": lambda x: torch.div(x, torch.tensor([1.0, 2.0, 3.0]).double()), "x · sigmoid(x)": lambda x: x * torch.sigmoid(x),
    "x · hardsigmoid(x)": lambda x: x * F.hardsigmoid(x), "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "new gelu": lambda x: 0.5 * x * (1 + torch.tanh(0.79788 * (x + 0.044715 * x**3))), "x times x": lambda x: x * x,
    "dropout": nn.Dropout(0.5), "dropout 2d": nn.Dropout2d(0.5),
    "drop path": nn.FeatureAlphaDropout(0.5), "local response norm": nn.LocalResponseNorm(2), "normalized by its own norm": lambda x: F.normalize(x, dim=-1),
    "rsqrt by hand": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5),
    "standardized by hand": lambda x: x / (x.std(-1, keepdim=True) + 1),
    "weight of a norm by hand": lambda x: x / x.norm(dim=-1, keepdim=True),
    "a number over it": lambda x: 2.0 / (x.abs() + 1), "a constant over it": lambda x: torch.tensor([1.0, -2.0, 0.5]).double() / (x.abs() + 1),
    "a number to its power": lambda x: 2.0**x, "a constant to its power": lambda x: torch.tensor([1.0, 2.0, 0.5]).double() ** x,
    "to a constant power": lambda x: (x.abs() + 0.1) ** torch.tensor([1.0, 2.0, 0.5]).double(), "fmod": lambda x: torch.fmod(x, 1.0),
    "over the sum": lambda x: x / (x.abs().sum(-1, keepdim=True) + 1e-6), "tan": torch.tan, "erfinv": lambda x: torch.erfinv(x.tanh()),
    "times a comparison": lambda x: x * (x > 0).to(x),
    "plus a comparison": lambda x: x + (x > 0).double(), "nan_to_num": torch.nan_to_num, "masked by a constant": lambda x: x * torch.tensor([1.0, 0.0, 1.0]).double(),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_CONTRIBUTOR)
def test_one_contributor(name):
    check_passed(ONE_CONTRIBUTOR[name], (2, 3))


def shares_of_sum(a, b, relevance, treatment):
    """How a sum of two numbers splits, in loops."""
    out = []
    for x, y, r in zip(a, b, relevance, strict=True):
        if treatment == "gamma":
            x, y = ((2 if v * (x + y) > 0 else 1) * v for v in (x, y))
        elif treatment == "positive" and (x > 0 or y > 0):
            x, y = max(x, 0), max(y, 0)
        elif treatment != "signed":
            x, y = abs(x), abs(y)
        out.append(r * x / (x + y) if x + y else r / 2)
    return np.array(out)


SUMS = {
    "a + b": (lambda a, b: a + b, 1.0, 1.0),
    "a - b": (lambda a, b: a - b, 1.0, -1.0),
    "b - a": (torch.rsub, -1.0, 1.0),
    "add with alpha": (lambda a, b: torch.add(a, b, alpha=0.5), 1.0, 0.5),
    "sub with alpha": (lambda a, b: torch.sub(a, b, alpha=2.0), 1.0, -2.0),
    "a += b": (lambda a, b: (a * 1.0).add_(b), 1.0, 1.0),
    "add_ with alpha": (lambda a, b: (a * 1.0).add_(b, alpha=0.3), 1.0, 0.3),
    "a -= b": (lambda a, b: (a * 1.0).sub_(b), 1.0, -1.0),
}


@pytest.mark.parametrize("treatment", ["positive", "absolute", "signed", "gamma"])
@pytest.mark.parametrize("name", SUMS)
def test_sum(name, treatment):
    op, by_a, by_b = SUMS[name]
    p = probe(op, (2, 3), operands=2, add=treatment)
    a, b = (p.inputs[0] * by_a).flatten().numpy(), (p.inputs[1] * by_b).flatten().numpy()
    expected = shares_of_sum(a, b, p.relevance_out.flatten().numpy(), treatment)
    torch.testing.assert_close(p.relevance_in[0].flatten(), torch.from_numpy(expected), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(p.relevance_in[0] + p.relevance_in[1], p.relevance_out, **TIGHT)


def test_sum_of_three_is_two_sums():
    p = probe(lambda a, b, c: a + b + c, (2, 3), operands=3)
    torch.testing.assert_close(sum(p.relevance_in), p.relevance_out, **TIGHT)


def test_sum_that_broadcasts():
    p = probe(lambda a, b: a + b[:, :1], (2, 3), operands=2)
    a, b = p.inputs[0], p.inputs[1][:, :1].expand(3, 2, 3)
    expected = shares_of_sum(a.flatten().numpy(), b.flatten().numpy(), p.relevance_out.flatten().numpy(), "positive").reshape(
        3, 2, 3
    )
    assert_same(p.relevance_in[0], expected)
    assert_same(p.relevance_in[1][:, 0], (p.relevance_out.numpy() - expected).sum(1))


def test_a_value_added_to_itself_keeps_everything():
    check_passed(lambda x: x + x, (2, 3))


CONSTANTS = {
    "a number": lambda x: x + 1.5,
    "a tensor": lambda x: x + torch.tensor([1.0, -1.0, 0.5]).double(),
    "in place": lambda x: (x * 1.0).add_(torch.tensor([1.0, -1.0, 0.5]).double()),
    "a constant minus it": lambda x: 2.0 - x,
    "minus a number": lambda x: x - 0.5,
    "minus a tensor": lambda x: x - torch.tensor([1.0, -1.0, 0.5]).double(),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_take_nothing(name):
    """A bias takes no relevance (first arXiv version of RAP)."""
    check_passed(CONSTANTS[name], (2, 3))


def test_constant_that_broadcasts_the_value():
    p = probe(lambda x: x.unsqueeze(1) + torch.ones(1, 4, 1, 1).double(), (2, 3))
    torch.testing.assert_close(p.relevance_in[0], p.relevance_out.sum(1), **TIGHT)


class SqueezeExcite(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.reduce, self.expand, self.gate = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 3, 1), gate

    def forward(self, x):
        scale = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.expand(F.relu(self.reduce(scale))))


GATES = {
    "squeeze-excite": SqueezeExcite(nn.Sigmoid()),
    "squeeze-excite, hard": SqueezeExcite(nn.Hardsigmoid()),
    "squeeze-excite without a bounded gate": SqueezeExcite(nn.Identity()),
    "gate first": lambda x: torch.sigmoid(x.mean((2, 3), keepdim=True)) * x,
    "gate by tanh": lambda x: x * torch.tanh(x.flip(1)),
    "relu6 gate": lambda x: x * F.relu6(x + 3) / 6,
    "softmax gate": lambda x: x * x.softmax(1),
    "in place": lambda x: (x * 1.0).mul_(torch.sigmoid(x)),
}


@pytest.mark.parametrize("name", GATES)
def test_gates_are_constants(name):
    check_passed(GATES[name], (3, 2, 2))


def test_glu_gates_one_half_by_the_other():
    p = probe(nn.GLU(dim=1), (4, 3))
    torch.testing.assert_close(p.relevance_in[0][:, :2], p.relevance_out, **TIGHT)
    assert (p.relevance_in[0][:, 2:] == 0).all()


def test_product_of_two_values_conserves():
    p = probe(lambda a, b: a * b, (2, 3), operands=2)
    torch.testing.assert_close(sum(r.flatten(1).sum(1) for r in p.relevance_in), p.relevance_out.flatten(1).sum(1), **TIGHT)


SELECTIONS = {
    "maximum": (torch.maximum, 2),
    "fmax": (torch.fmax, 2),
    "lerp by a constant": (lambda a, b: torch.where(torch.lerp(a, b, 0.5) > 0, a, b), 2),
    "cummax": (lambda a: torch.cummax(a, 2).values, 1),
    "minimum": (torch.minimum, 2),
    "max of two": (torch.max, 2),
    "where": (lambda a, b: torch.where(a > 0, a, b), 2),
    "where by a constant": (lambda a, b: torch.where(torch.tensor([True, False, True]), a, b), 2),
    "where with broadcasting": (lambda a, b: torch.where(a > 0, a, b[:, :1]), 2),
    "masked_fill": (lambda a: a.masked_fill(torch.tensor([True, False, False]), 5.0), 1),
    "masked_fill of a value": (lambda a: a.masked_fill(a > 0.3, 0.3), 1),
    "masked_fill_": (lambda a: (a * 1.0).masked_fill_(torch.tensor([True, False, False]), 5.0), 1),
    "where with a number": (lambda a: torch.where(a > 0, a, 0.25), 1),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_selection(name):
    op, operands = SELECTIONS[name]
    if name == "masked_fill_":
        p = probe(op, (2, 3))
        torch.testing.assert_close(p.relevance_in[0][..., 1:], p.relevance_out[..., 1:], **TIGHT)
        return
    check_winner(op, (2, 3), operands=operands, absorbs=True)


def test_equal_values_share_a_maximum():
    p = probe(lambda a, b: torch.maximum(a, b * 0 + a), (2, 3), operands=2)
    torch.testing.assert_close(sum(p.relevance_in), p.relevance_out, **TIGHT)


def test_cat_and_split_of_two_branches():
    check_winner(lambda a, b: torch.cat([a, b], 1), (2, 3), operands=2)
    check_winner(lambda a, b: torch.stack([a, b], 1), (2, 3), operands=2)


def test_rewriting_an_input_in_place_leaves_other_readers_alone():
    """``relu_`` on a branch's own copy; the residual reads what was there before."""

    class Block(nn.Module):
        def forward(self, x):
            y = x * 1.0
            before = y + 0.0
            y.relu_()
            return y + before

    p = probe(Block(), (2, 3))
    torch.testing.assert_close(p.relevance_in[0], p.relevance_out, **TIGHT)


class Subtracted(nn.Module):
    """A number minus a value, written in one of several ways."""

    def __init__(self, write):
        super().__init__()
        self.write, self.first, self.last = write, nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.write(self.first(x)))


@pytest.mark.parametrize("method", ["lrp-epsilon", "lrp-zplus", "rap", "abslrp", "attnlrp"])
@pytest.mark.parametrize("write", [lambda y: 2.0 - y, lambda y: torch.rsub(y, 2.0), lambda y: torch.sub(torch.tensor(2.0), y)])
def test_a_number_minus_a_value_is_its_negative_plus_the_number(write, method):
    torch.manual_seed(0)
    ours, expected = Subtracted(write).double(), Subtracted(lambda y: y * -1 + 2.0).double()
    expected.load_state_dict(ours.state_dict())
    x = torch.randn(3, 4, dtype=torch.float64)
    assert_same(*(relprop.explain(model, x, 1, method=method).relevance for model in (ours, expected)))
