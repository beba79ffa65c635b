import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import relprop
from tests.methods.models import Attending, Hidden, Plain, images, made


def by_hand(model: Hidden, x: Tensor, target: int, back) -> Tensor:
    """The gradient of ``Hidden`` written out, with ``back(R, pre-activation)`` at every ReLU."""
    a = model.first(x)
    h = a.clamp(min=0)
    b = model.second(h)
    c = h + b.clamp(min=0)
    r = back(model.last.weight[target].expand(len(x), -1), c)
    r_h = r + back(r, b) @ model.second.weight
    return back(r_h, a) @ model.first.weight


RULES = {
    "gradient": lambda r, z: r * (z > 0),
    "guided-backprop": lambda r, z: r.clamp(min=0) * (z > 0),
    "deconvnet": lambda r, _: r.clamp(min=0),
}


@pytest.mark.parametrize("name", RULES)
def test_reused_and_functional_relus_follow_the_formula(name: str) -> None:
    model, x = made(Hidden), images(2).flatten()[:30].reshape(5, 6)
    for target in range(4):
        with torch.no_grad():
            expected = by_hand(model, x, target, RULES[name])
        torch.testing.assert_close(relprop.explain(model, x, target, method=name).relevance, expected)


@pytest.mark.parametrize(("name", "peer"), [("guided-backprop", "GuidedBackprop"), ("deconvnet", "Deconvolution")])
@pytest.mark.filterwarnings("ignore:Setting")
def test_the_same_as_captum_where_captum_sees_every_relu(name: str, peer: str) -> None:
    captum = pytest.importorskip("captum.attr")
    model, x = made(Plain), images()
    expected = getattr(captum, peer)(model).attribute(x.clone().requires_grad_(), target=2)
    torch.testing.assert_close(relprop.explain(model, x, 2, method=name).relevance, expected)


class Written(nn.Module):
    """ReLU in other words."""

    def __init__(self, rectify) -> None:
        super().__init__()
        self.linear, self.last, self.rectify = nn.Linear(6, 8).double(), nn.Linear(8, 3).double(), rectify

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.rectify(self.linear(x)))


@pytest.mark.parametrize(
    "rectify",
    [torch.relu, lambda x: x.clamp(min=0), lambda x: x.clamp_min(0), lambda x: F.hardtanh(x, 0, 1e9), lambda x: x.relu_()],
)
@pytest.mark.parametrize("name", ["guided-backprop", "deconvnet"])
def test_relu_in_other_words_is_recognized(name: str, rectify) -> None:
    model = Written(rectify)
    x = images(1).flatten()[:24].reshape(4, 6)
    r = model.last.weight[1].clamp(min=0) * (
        (model.linear(x) > 0) if name == "guided-backprop" else torch.ones(4, 8, dtype=x.dtype)
    )
    torch.testing.assert_close(relprop.explain(model, x, 1, method=name).relevance, (r @ model.linear.weight).detach())


def test_relatives_of_relu_are_treated_by_their_derivative_and_noted() -> None:
    model = Written(F.gelu)
    x = images(1).flatten()[:24].reshape(4, 6)
    z = model.linear(x).detach().requires_grad_()
    slope = torch.autograd.grad(F.gelu(z).sum(), z)[0]
    expected = ((model.last.weight[1].clamp(min=0) * slope) @ model.linear.weight).detach()
    result = relprop.explain(model, x, 1, method="guided-backprop")
    torch.testing.assert_close(result.relevance, expected)
    assert any("gelu" in note for note in result.notes)
    assert any("gelu" in note for note in relprop.explain(made(Attending), images(1), method="deconvnet").notes)


def test_a_model_without_rectifier_says_so() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.Sigmoid(), nn.Linear(3, 2)).double()
    result = relprop.explain(model, images(1).flatten()[:6].reshape(1, 6), 0, method="guided-backprop")
    assert any("no rectifier" in note for note in result.notes)
