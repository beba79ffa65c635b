"""Fourier transforms and complex values against explicit contribution matrices; relevance of a complex value lies on its two parts."""

import math

import pytest
import torch
from torch import nn

import relprop
from relprop.ops.op import op_name
from tests.ops.calls import overloads
from tests.rules.reference import TIGHT, check_affine, check_conservation, probe

FILTER = torch.complex(torch.linspace(-1, 1, 12), torch.linspace(0.5, -1, 12)).to(torch.complex128).reshape(4, 3)
MIXER = torch.complex(torch.linspace(-1, 1, 24), torch.linspace(0.5, -1, 24)).to(torch.complex128).reshape(2, 3, 4)
TURN = torch.polar(torch.ones(3, 2), torch.arange(6.0).reshape(3, 2)).to(torch.complex128)


def pairs(x):
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())


def real(z):
    return torch.view_as_real(z).flatten(-2)


TRANSFORMS = {
    "fft": (lambda x: real(torch.fft.fft(x)), (2, 5)),
    "fft along a dim, cut off": (lambda x: real(torch.fft.fft(x, n=3, dim=1)), (4, 2)),
    "fft, longer, orthonormal": (lambda x: real(torch.fft.fft(x, n=6, norm="ortho")), (2, 4)),
    "fft2, its real part": (lambda x: torch.fft.fft2(x, dim=(-1, -2)).real, (3, 4)),
    "fft2 of a given size": (lambda x: torch.fft.fft2(x, s=(2, 5)).imag, (3, 4)),
    "fftn": (lambda x: torch.fft.fftn(x, dim=(1, 2, 3)).real, (2, 3, 2)),
    "ifft": (lambda x: real(torch.fft.ifft(pairs(x))), (2, 6)),
    "ifft of a real value": (lambda x: torch.fft.ifft(x, norm="forward").real, (2, 5)),
    "ifft2": (lambda x: torch.fft.ifft2(pairs(x)).imag, (3, 4)),
    "rfft": (lambda x: real(torch.fft.rfft(x)), (2, 6)),
    "rfft of an odd size": (lambda x: real(torch.fft.rfft(x, norm="forward")), (2, 5)),
    "irfft": (lambda x: torch.fft.irfft(pairs(x)), (2, 8)),
    "irfft of an odd size": (lambda x: torch.fft.irfft(pairs(x), n=5, norm="ortho"), (2, 6)),
    "there and back": (lambda x: torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[-2:]), (3, 4)),
    "shifted": (lambda x: real(torch.fft.fftshift(torch.fft.fft(x), dim=-1)), (2, 4)),
    "by a complex filter": (lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=1) * FILTER, n=6, dim=1), (6, 3)),
    "times i": (lambda x: real(pairs(x) * 1j), (2, 4)),
    "over a complex number": (lambda x: real(pairs(x) / (1 - 2j)), (2, 4)),
    "times real numbers": (lambda x: real(2.0 * pairs(x) * torch.arange(1, 3).to(x)), (2, 4)),
    "rotary positions": (lambda x: real(pairs(x) * TURN), (3, 4)),
    "conjugate": (lambda x: real(torch.conj(pairs(x)).resolve_conj()), (2, 4)),
    "complex of two parts": (lambda x: real(torch.complex(x[:, :1], x[:, 1:]) * (0.5 + 1j)), (2, 3)),
    "mixed by einsum": (lambda x: real(torch.einsum("bik,iok->bok", pairs(x), MIXER)), (2, 8)),
    "complex matrix product": (lambda x: real(pairs(x) @ FILTER), (2, 8)),
    "complex layer": (lambda x: real(nn.functional.linear(pairs(x), FILTER, FILTER[:, 0])), (2, 6)),
    "moved and read": (lambda x: pairs(x).permute(0, 2, 1)[:, 1:].roll(1, -1).flip(-1).real, (3, 6)),
    "summed": (lambda x: real(pairs(x).sum(1, keepdim=True).mean(-1)), (3, 4)),
    "joined": (lambda x: real(torch.cat([pairs(x), x[..., :1]], -1)), (2, 4)),
    "split and stacked": (lambda x: real(torch.stack(pairs(x).chunk(2, -1), 1)), (2, 8)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_linear_op_has_the_relevance_of_its_matrix(name):
    """LRP-0, which multiplies and transposes exactly, against the op as one real matrix; and the gradient against autograd's."""
    op, shape = TRANSFORMS[name]
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(shape[-1], shape[-1]), Op(op), nn.Flatten(), nn.LazyLinear(4), nn.Tanh(), nn.Linear(4, 3)
    ).double()
    x = torch.randn(3, *shape, dtype=torch.float64)
    model(x)
    explainer = relprop.Explainer(model.eval(), x[:2], "attnlrp")
    explanation = explainer(x, 1, layers=("0", "1"))
    check_conservation(explanation)
    values = model[0](x).detach()
    _, moved = torch.autograd.functional.vjp(model[1], values, explanation.layers["1"] / divisor(model[1](values).detach()))
    torch.testing.assert_close(explanation.layers["0"], values * moved, rtol=1e-6, atol=1e-9)
    assert not any(
        node.meta["val"].is_complex() for node in explainer.module.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)
    )
    given = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(given)[:, 1].sum(), given)
    torch.testing.assert_close(relprop.explain(model, x, 1, method="gradient").relevance, gradient, **TIGHT)


def divisor(y):
    return torch.where(y == 0, 1.0, y)


class Op(nn.Module):
    def __init__(self, op):
        super().__init__()
        self.op = op

    def forward(self, x):
        return self.op(x)


METHODS = ("rap", "lrp-epsilon", "lrp-zplus", "lrp-alpha2-beta1", "lrp-gamma", "lrp-flat", "lrp-wsquare", "attnlrp", "cp-lrp")


def check_methods(model, x, methods):
    captured, target = relprop.capture(model.eval(), x[:2]), torch.tensor([0, 2, 1])
    for method in methods:
        check_conservation(captured.explainer(method)(x, target))


@pytest.mark.parametrize("name", ["ifft2", "irfft of an odd size", "by a complex filter", "complex layer"])
def test_every_rule_conserves(name):
    op, shape = TRANSFORMS[name]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(shape[-1], shape[-1]), nn.ReLU(), Op(op), nn.Flatten(), nn.LazyLinear(3)).double()
    x = torch.randn(3, *shape, dtype=torch.float64)
    model(x)
    check_methods(model, x, METHODS)


@pytest.mark.parametrize("name", ["fft2, its real part", "rotary positions", "times i", "irfft"])
def test_shares_by_the_weights_of_a_transform(name):
    """RAP's rule, which takes the positive weights and their size, not the transform alone."""
    op, shape = {
        "fft2, its real part": (lambda x: torch.fft.fft(x).real, (2, 5)),
        "rotary positions": (lambda x: real(pairs(x) * TURN), (3, 4)),
        "times i": (lambda x: real(pairs(x) * (1 - 2j)), (2, 4)),
        "irfft": (lambda x: torch.fft.irfft(pairs(x)), (2, 8)),
    }[name]
    check_affine(op, shape)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 12])
def test_the_matrix_of_a_transform_is_the_transform(size):
    for name, shape in (("fft_r2c", (2, size, 3)), ("fft_c2c", (2, size, 3, 2)), ("fft_c2r", (2, size // 2 + 1, 3, 2))):
        (case,) = overloads(f"relprop::{name}")
        generator = torch.Generator().manual_seed(0)
        given = {**case.arguments(), "self": torch.randn(shape, generator=generator, dtype=torch.float64)}
        for setting in (
            ({"last_dim_size": size},)
            if name == "fft_c2r"
            else ({"onesided": True, "forward": True}, {"onesided": False, "forward": False})
        ):
            for normalization in (0, 1, 2):
                call = case.call({**given, **{k: v for k, v in setting.items() if k in given}, "normalization": normalization})
                linear, _ = call.as_linear()
                torch.testing.assert_close(linear.forward(call.x, linear.weight.clone()), call.output)
                c = torch.randn(call.output.shape, generator=generator, dtype=torch.float64)
                torch.testing.assert_close(linear.transpose(c, linear.weight.clone()), linear.transpose(c, linear.weight))


def test_the_length_of_a_complex_value_shares_by_squares():
    p = probe(lambda x: pairs(x).abs(), (2, 4))
    for b in range(3):
        x = p.inputs[0][b].reshape(2, 2, 2)
        expected = p.relevance_out[b].unsqueeze(-1) * x.square() / x.square().sum(-1, keepdim=True)
        torch.testing.assert_close(p.relevance_in[0][b], expected.reshape(2, 4), **TIGHT)


@pytest.mark.parametrize(
    "op",
    [
        lambda x: pairs(x).angle(),
        lambda x: real(torch.exp(pairs(x))),
        lambda x: real(pairs(x) * pairs(x).conj()),
        lambda x: real(pairs(x) ** 2),
        lambda x: real(pairs(x) / (pairs(x.flip(1)) + 3)),
        lambda x: real(torch.polar(x.abs(), x)),
        lambda x: (pairs(x) @ pairs(x).mT).real,
        lambda x: real(torch.where(x[..., :2] > 0, pairs(x), 0.5)),
    ],
)
def test_what_is_not_linear_conserves(op):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), Op(op), nn.Flatten(), nn.LazyLinear(3)).double()
    x = torch.randn(3, 2, 4, dtype=torch.float64)
    model(x)
    check_methods(model, x, METHODS)


def test_an_op_without_a_form_is_named():
    model = nn.Sequential(nn.Linear(4, 4), Op(lambda x: pairs(x).tanh().abs()), nn.Linear(2, 3)).double()
    x = torch.randn(2, 4, dtype=torch.float64)
    with pytest.raises(relprop.errors.UnsupportedOpError, match=r"aten::tanh on complex values \(in 1\)"):
        relprop.Explainer(model, x)
    given = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(given)[:, 1].sum(), given)
    torch.testing.assert_close(relprop.explain(model, x, 1, method="gradient").relevance, gradient, **TIGHT)


def test_a_complex_output_of_a_module_has_its_relevance_on_its_parts():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), Op(torch.fft.rfft), Op(torch.view_as_real), nn.Flatten(), nn.Linear(6, 3)).double()
    explanation = relprop.explain(model, torch.randn(2, 4).double(), 1, method="lrp-epsilon", layers=("1",))
    assert explanation.layers["1"].shape == (2, 3, 2)


def test_ops_of_the_graph():
    """A filter of frequencies is two transforms and one product."""
    model = nn.Sequential(nn.Linear(3, 3), Op(TRANSFORMS["by a complex filter"][0]), nn.Flatten(), nn.Linear(18, 3)).double()
    graph = relprop.capture(model, torch.randn(2, 6, 3).double()).module.graph
    names = [op_name(node.target) for node in graph.nodes if node.op == "call_function"]
    assert [n for n in names if n.startswith("relprop")] == ["relprop::fft_r2c", "relprop::complex_product", "relprop::fft_c2r"]


class Spectrogram(nn.Module):
    """A waveform, its short-time Fourier transform, magnitudes, a convolution."""

    def __init__(self, **settings):
        super().__init__()
        self.settings = {"n_fft": 8, "hop_length": 4, "return_complex": True} | settings
        self.register_buffer("window", torch.hann_window(self.settings.get("win_length", 8)))
        self.conv, self.last = nn.Conv1d(5, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        z = torch.stft(x, window=self.window, **self.settings)
        power = z.abs().square() if z.is_complex() else z.square().sum(-1)
        return self.last(self.conv(power[:, :5].add(1e-3).log()).relu().mean(-1))


@pytest.mark.parametrize(
    "settings",
    [{}, {"center": False}, {"win_length": 6}, {"normalized": True}, {"onesided": False}, {"pad_mode": "constant"}],
    ids=str,
)
def test_short_time_transform(settings):
    torch.manual_seed(0)
    model, x = Spectrogram(**settings).double().eval(), torch.randn(3, 32, dtype=torch.float64)
    captured = relprop.capture(model, x[:2])
    for method in METHODS:
        explainer = captured.explainer(method)
        explanation = explainer(x, torch.tensor([0, 2, 1]))
        torch.testing.assert_close(explanation.logits, model(x), **TIGHT)
        check_conservation(explanation)
        torch.testing.assert_close(explainer(x[1:2], 2).relevance, explanation.relevance[1:2], **TIGHT)
    given = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(given)[:, 1].sum(), given)
    torch.testing.assert_close(relprop.explain(model, x, 1, method="gradient").relevance, gradient, **TIGHT)


def test_the_relevance_of_silence_is_finite():
    torch.manual_seed(0)
    model, x = Spectrogram(center=False).double().eval(), torch.randn(2, 32, dtype=torch.float64)
    x[:, :16] = 0
    for method in ("lrp-epsilon", "attnlrp", "input-x-gradient"):
        explanation = relprop.explain(model, x, 1, method=method)
        assert explanation.relevance.isfinite().all()
        assert math.isfinite(float(explanation.absorbed.sum()))
