"""Explainers that are copied, change their dtype or device, and are asked for logits alone."""

import copy
import pickle

import pytest
import torch
from torch import nn

import relprop
from relprop.errors import InputError, OptionError, OutputError
from tests.rules.reference import TIGHT, FixedBatch

X = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Casting(nn.Module):
    """BatchNorm that folds and one that stays, constants that name a dtype, a cast, and a constant mask."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(4 * 36, 5)

    def forward(self, x):
        x = self.norm(self.first(x))
        x = x * torch.full((6, 1, 1), 0.5, dtype=x.dtype) + torch.zeros(x.shape[0], 1, 6, 6, dtype=torch.float32)
        x = x[:, torch.tensor([True, False, True, True, False, True])].to(x.dtype)
        return self.head(torch.cat([x[:, :2], torch.ones(x.shape[0], 2, 6, 6) * x[:, 2:]], 1).flatten(1))


def model():
    torch.manual_seed(0)
    net = Casting()
    for norm in (net.first[1], net.norm):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return net


METHODS = ["rap", "lrp-epsilon", "abslrp", "input-x-gradient"]


@pytest.mark.parametrize("method", METHODS)
def test_a_copy_explains_alike_and_is_its_own(method):
    explainer = relprop.Explainer(model(), X, method)
    expected = explainer(X, 1)
    copied = copy.deepcopy(explainer)
    assert str(copied.plan) == str(explainer.plan)
    torch.testing.assert_close(copied(X, 1).relevance, expected.relevance, rtol=0, atol=0)
    with torch.no_grad():
        for tensor in copied.buffers():
            tensor.zero_()
    torch.testing.assert_close(explainer(X, 1).relevance, expected.relevance, rtol=0, atol=0)
    assert copied(X, 1).relevance.abs().sum() == 0


def test_a_copy_inside_a_module_and_of_a_copy():
    outer = nn.ModuleDict({"explainer": relprop.Explainer(model(), X)})
    expected = outer["explainer"](X, 1).relevance
    again = copy.deepcopy(copy.deepcopy(outer))
    torch.testing.assert_close(again["explainer"](X, 1).relevance, expected, rtol=0, atol=0)


def test_pickling_is_refused_in_one_sentence():
    with pytest.raises(OutputError, match="cannot be pickled"):
        pickle.dumps(relprop.Explainer(model(), X))


@pytest.mark.parametrize("method", METHODS)
def test_double_explains_as_a_double_model_does(method):
    explainer = relprop.Explainer(model(), X, method)
    kept = copy.deepcopy(explainer)
    assert explainer.double() is explainer
    captured_double = relprop.Explainer(model().double(), X.double(), method)
    found, expected = explainer(X.double(), 1), captured_double(X.double(), 1)
    assert found.relevance.dtype == found.logits.dtype == torch.float64
    # folded weights were rounded to single precision before
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.relevance, expected.relevance, rtol=1e-3, atol=1e-5)
    with pytest.raises(InputError, match=r"float32.*float64"):
        explainer(X)
    assert kept(X, 1).relevance.dtype == torch.float32
    back = explainer.to(torch.float32)(X, 1)
    torch.testing.assert_close(back.relevance, kept(X, 1).relevance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_after_the_capture(dtype):
    explainer = relprop.Explainer(model(), X)
    expected = explainer.logits(X)
    explanation = explainer.to(dtype)(X.to(dtype), 1)
    assert explanation.relevance.dtype == torch.float32
    assert torch.isfinite(explanation.relevance).all()
    torch.testing.assert_close(explanation.logits.float(), expected, rtol=0.1, atol=0.1)


def test_the_model_keeps_its_dtype():
    net = model()
    relprop.Explainer(net, X).double()
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_moving_to_a_device_moves_every_tensor():
    explainer = relprop.Explainer(model(), X).to("cpu")
    assert explainer(X, 1).relevance.shape == X.shape
    assert {tensor.device.type for tensor in explainer.to("meta").buffers()} == {"meta"}


@pytest.mark.parametrize("method", ["rap", "gradient"])
def test_logits_alone(method):
    net = model().eval()
    explainer = relprop.Explainer(net, X, method)
    torch.testing.assert_close(explainer.logits(X), net(X).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(explainer.logits(X), explainer(X).logits, rtol=0, atol=0)
    with pytest.raises(InputError, match="NaN"):
        explainer.logits(X * torch.nan)


def test_logits_and_trace_of_a_fixed_batch_hold_every_sample(capsys):
    x = torch.randn(3, 4, dtype=torch.float64)
    net = FixedBatch().double()
    explainer = relprop.Explainer(net, x)
    torch.testing.assert_close(explainer.logits(x), torch.cat([net(x[i : i + 1]) for i in range(3)]).detach(), **TIGHT)
    target = torch.tensor([0, 1, 1])
    table = explainer.trace(x, target)
    logit = explainer.logits(x).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(table.rows[0].received, logit, **TIGHT)
    assert table.worst.deviation <= 1e-9
    assert str(table) in capsys.readouterr().out


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("first", ["rap", "grad-cam"])  # which fold BatchNorm, and do not
def test_another_method_on_the_same_capture(first, method, monkeypatch):
    net = model()
    expected = relprop.Explainer(net, X, method)(X, 1).relevance
    explainer = relprop.Explainer(net, X, first)
    monkeypatch.setattr("relprop.graph.capture.record_model", lambda *_: pytest.fail("captured again"))
    other = relprop.Explainer(explainer.captured, method)
    torch.testing.assert_close(other(X, 1).relevance, expected, rtol=0, atol=0)
    assert other.plan.method.name == method
    assert explainer.plan.method.name == first


def test_another_method_has_the_dtype_of_the_explainer_and_leaves_it_alone():
    explainer = relprop.Explainer(model(), X, "rap").double()
    other = explainer.captured.explainer("lrp-alpha-beta", alpha=2.0, beta=1.0)
    wanted = relprop.Explainer(model(), X, "lrp-alpha-beta", alpha=2.0, beta=1.0).double()
    torch.testing.assert_close(other(X.double(), 1).relevance, wanted(X.double(), 1).relevance, rtol=0, atol=0)
    other.float()(X, 1)
    assert explainer(X.double(), 1).relevance.dtype == torch.float64
    copied = relprop.Explainer(copy.deepcopy(explainer).captured, "lrp-epsilon")
    assert copied(X.double(), 1).relevance.dtype == torch.float64


def test_another_method_that_does_not_exist():
    with pytest.raises(OptionError, match="rap"):
        relprop.capture(model(), X).explainer("rapp")
