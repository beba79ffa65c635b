"""What a model computes, and which gradients it has, is what the captured graph computes and has."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import relprop
from relprop.errors import RelpropError, UnsupportedOpError


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return x.sign()

    @staticmethod
    def backward(_, g):
        return g


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -ctx.factor * g, None


class Both(torch.autograd.Function):
    @staticmethod
    def forward(_, x, y):
        return x.round(), (x * y).sign()

    @staticmethod
    def backward(_, a, b):
        return a + 2 * b, b


def _no_grad_gate(z):
    with torch.no_grad():
        gate = z.sigmoid() + 1
    return z * gate


def _quantized(z):
    codes = torch.linspace(-1, 1, 8, dtype=z.dtype)
    nearest = codes[(z.unsqueeze(-1) - codes).abs().argmin(-1)]
    return z + (nearest - z).detach()


GRADIENTS = {
    "straight-through": lambda z: z + ((z * 4).round() / 4 - z).detach(),
    "vector quantization": _quantized,
    "Function": Sign.apply,
    "gradient reversal": lambda z: Reversed.apply(z, 0.5),
    "the second of two results": lambda z: Both.apply(z, z.exp())[1] * z,
    "both results": lambda z: torch.cat(Both.apply(z * 3, z), 1)[:, ::2],
    "a detached norm": lambda z: z / z.detach().abs().amax(1, keepdim=True),
    "B-cos": lambda z: z * (z.abs() / z.norm(dim=1, keepdim=True)).detach(),
    "data": lambda z: z * z.data,
    "no_grad": _no_grad_gate,
    "checkpoint": lambda z: checkpoint(lambda y: y.tanh() * y, z, use_reentrant=False),
    "a Function in a Function's argument": lambda z: Reversed.apply(Sign.apply(z) * z, 2.0),
}


class Net(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.conv, self.f, self.head = nn.Conv2d(3, 8, 3), f, nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.f(self.conv(x).mean((2, 3))))


def net(f) -> tuple[Net, Tensor]:
    torch.manual_seed(0)
    return Net(f).double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.double)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_those_of_the_model(name):
    model, x = net(GRADIENTS[name])
    (wanted,) = torch.autograd.grad(model(x.requires_grad_())[:, 1].sum(), x)
    torch.testing.assert_close(relprop.explain(model, x.detach(), 1, method="gradient").relevance, wanted)


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("method", ["lrp-epsilon", "rap"])
def test_propagation_conserves_through_them(name, method):
    model, x = net(GRADIENTS[name])
    found = relprop.explain(model, x, 1, method=method)
    total = found.relevance.flatten(1).sum(1) + found.absorbed
    torch.testing.assert_close(found.logits, model(x).detach())
    torch.testing.assert_close(total, found.logits[:, 1])


@pytest.mark.parametrize("method", ["lrp-epsilon", "rap", "attnlrp"])
def test_a_detached_factor_is_a_constant(method):
    model, x = net(lambda z: z * (2 + z.sin()).detach())
    with_constant, x = net(lambda z: z)[0], x[:1]
    factor = (2 + model.conv(x).mean((2, 3)).sin()).detach()
    with_constant.f = lambda z: z * factor
    a, b = (relprop.explain(m, x, 1, method=method).relevance for m in (model, with_constant))
    torch.testing.assert_close(a, b)


def test_a_model_without_gradients():
    model, x = net(lambda z: z.detach() * 2)
    with pytest.raises(UnsupportedOpError, match="detached values alone"):
        relprop.explain(model, x)
    with pytest.raises(UnsupportedOpError, match="No gradient reaches the input"):
        relprop.explain(model, x, method="gradient")
    model.forward = torch.no_grad()(model.forward)
    model.f = lambda z: z * 2
    assert relprop.explain(model, x, method="lrp-epsilon").relevance.abs().sum() > 0


def _written_through_views(z):
    y = z * 2
    first, rest = y[:, :3], y[:, 3:]
    rest += first.mean(1, keepdim=True)
    y[:, 0] = 1.5
    first *= 2
    y.view(-1, 2, 4)[:, 1].add_(y[:, 1:2])
    y.t()[5] -= 1
    a, b = y.chunk(2, 1)
    b.mul_(a)
    return y + first.sum(1, keepdim=True)


def _written_to_a_constant(z):
    out = torch.zeros(len(z), 8, dtype=z.dtype)
    view = out[:, 2:]
    out[:, 1:] = z[:, :-1]
    view.clamp_(min=-0.1)
    constant = torch.arange(8.0, dtype=z.dtype)
    kept = constant * 1
    constant[3:] = 0
    tokens = torch.zeros(len(z), 8, dtype=z.dtype)
    tokens[:, :2] = constant[:2] + 0.5
    tokens[:, 2:] = z[:, 2:]
    z = z + tokens
    return out * kept + constant + z


def _written_by_mask(z):
    y = z.clone()
    y[:, torch.tensor([True, False] * 4)] *= 3
    y[y > 0] = 0.5
    y.masked_fill_(y < -0.2, -0.2)
    return y + z


def _out_argument(z):
    out = torch.empty(len(z), 8, dtype=z.dtype)
    torch.add(z, 1, out=out)
    return out.relu_()


PROGRAMS = [_written_through_views, _written_to_a_constant, _written_by_mask, _out_argument, lambda z: z.squeeze() * 1]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("batch", [1, 4])
def test_writes_in_place_become_values(program, batch):
    model, _ = net(program)
    x = torch.randn(batch, 3, 8, 8, dtype=torch.double)
    with torch.no_grad():
        wanted = torch.cat([model(torch.stack([one, one]))[:1] for one in x])
    explainer = relprop.Explainer(model, x[:1], "lrp-epsilon")
    torch.testing.assert_close(explainer.logits(x), wanted)
    assert not any("fixes its batch size" in note for note in explainer(x, 1).notes)


def test_dropout_that_is_always_on_is_left_out_and_said():
    model, x = net(lambda z: F.dropout(z, 0.5, training=True))
    found = relprop.explain(model, x, method="lrp-epsilon")
    assert any("Dropout is on in evaluation mode" in note for note in found.notes)
    torch.testing.assert_close(found.logits, net(lambda z: z)[0](x).detach())


@pytest.mark.parametrize(
    "noise", [torch.randn_like, torch.rand_like, lambda z: torch.randn(z.shape), lambda z: torch.empty_like(z).normal_()]
)
def test_random_ops_are_said(noise):
    model, x = net(lambda z: z + 0.01 * noise(z).to(z.dtype))
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    explainer = relprop.Explainer(model, x, "lrp-epsilon")
    assert torch.equal(before, torch.random.get_rng_state())
    assert any("draws random numbers" in note for note in explainer(x, 1).notes)


def test_autocast_inside_forward():
    model, x = net(lambda z: z)
    model.float()
    x = x.float()

    def forward(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model.head(model.conv(x).relu().mean((2, 3)))

    model.forward = forward
    explainer = relprop.Explainer(model, x, "lrp-epsilon")
    torch.testing.assert_close(explainer.logits(x), model(x).detach().float(), rtol=0.02, atol=0.005)


READS = {
    "a branch": lambda z: z if z.sum() > 0 else -z,
    "a number": lambda z: z / z.max().item(),
    "a range": lambda z: z[:, : int(z.abs().sum()) % 3 + 1].sum(1, keepdim=True) * z,
    "an assertion": lambda z: [z][int(bool((z > 1e9).any()))],
}


@pytest.mark.parametrize("name", READS)
def test_a_value_that_is_read_is_named_with_its_line_and_what_to_do(name):
    model, x = net(READS[name])
    with pytest.raises(
        RelpropError, match=r"reads a value that depends on the input at .*test_meaning.py:\d+ .*torch\.where"
    ) as caught:
        relprop.explain(model, x)
    assert len(str(caught.value)) < 2000
