"""The caller's context changes no result, and is the same afterwards."""

import contextlib
import threading

import pytest
import torch
from torch import nn

import relprop
from relprop.context import own_context
from tests.methods.models import made

METHODS = ["rap", "attnlrp", "gradient", "deeplift", "grad-cam", "smoothgrad"]
OPTIONS = {"smoothgrad": {"samples": 3}}


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


CONTEXTS = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
}


class Net(nn.Sequential):
    def __init__(self):
        head = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
        super().__init__(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), *head)
        self.float()


def state():
    modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
    return *modes, torch.get_default_dtype()


def batch():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_results_equal_those_outside(context, method):
    model, x, options = made(Net).float(), batch(), OPTIONS.get(method, {})
    explainer = relprop.Explainer(model, x, method, **options)
    expected, logits = explainer(x).relevance, explainer.logits(x)
    with context():
        before = state()
        made_inside = x.clone()
        found = [
            explainer(x).relevance,
            explainer(made_inside).relevance,
            relprop.explain(model, made_inside, method=method, **options).relevance,
        ]
        assert torch.equal(explainer.logits(x), logits)
        assert state() == before
    for relevance in found:
        assert not relevance.is_inference()
        torch.testing.assert_close(relevance, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_traces_moves_and_copies_work_in_any_context(context):
    model, x = made(Net).float(), batch()
    explainer = relprop.Explainer(model, x)
    expected, worst = explainer(x, 1).relevance, explainer.trace(x, 1).worst.deviation
    with context():
        assert explainer.trace(x, 1).worst.deviation == worst
        doubled = relprop.Explainer(model, x).double()
    torch.testing.assert_close(doubled(x.double(), 1).relevance.float(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_models_targets_and_options_may_be_made_in_inference_mode(method):
    model, x = made(Net).float(), batch()
    with torch.inference_mode():
        built = Net()
        built.load_state_dict(model.state_dict())
        built.eval()
        weights, inside = torch.eye(5)[[1, 2]], x.clone()
    options = OPTIONS.get(method, {})
    expected = relprop.explain(model, x, torch.tensor([1, 2]), method=method, **options).relevance
    found = relprop.explain(built, inside, method=method, output_relevance=weights, **options)
    if method in {"gradient", "grad-cam", "deeplift", "smoothgrad"}:  # where relevance of one is the class itself
        torch.testing.assert_close(found.relevance, expected)
    assert torch.equal(relprop.explain(built, x, torch.tensor([1, 2]), method=method, **options).relevance, expected)
    assert all(tensor.is_inference() for tensor in built.parameters())


def test_a_baseline_may_be_made_in_inference_mode():
    model, x = made(Net).float(), batch()
    with torch.inference_mode():
        baseline = torch.full((3, 8, 8), 0.5)
    for method in ("deeplift", "integrated-gradients"):
        found = relprop.explain(model, x, method=method, baseline=baseline).relevance
        torch.testing.assert_close(found, relprop.explain(model, x, method=method, baseline=0.5).relevance)


class Shifted(nn.Sequential):
    def forward(self, x):
        return super().forward(x + 0.1) + 0.3


@pytest.mark.parametrize("options", [{"low": -4.123, "high": 4.321}, {"add": "signed"}, {"add": "positive"}], ids=str)
def test_numbers_keep_their_precision_under_any_default_dtype(options):
    """Bounds and constants that are numbers."""
    model, x = made(lambda: Shifted(Net(), nn.ReLU(), nn.Linear(5, 5))).float(), batch()
    explainer = relprop.Explainer(model, x, "lrp-epsilon" if "add" in options else "rap", **options)
    expected = explainer(x)
    with default_dtype(torch.float16):
        found = explainer(x)
    assert torch.equal(found.relevance, expected.relevance)
    assert torch.equal(found.absorbed, expected.absorbed)


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_a_failure_leaves_the_context_as_it_was(context):
    explainer = relprop.Explainer(made(Net).float(), batch(), "gradient")
    with context():
        before = state()
        with pytest.raises(relprop.RelpropError):
            explainer(torch.zeros(2, 4, 8, 8, dtype=torch.float32))
        with pytest.raises(relprop.RelpropError):
            relprop.explain(nn.Identity(), "nothing")
        with pytest.raises(KeyboardInterrupt), own_context():
            raise KeyboardInterrupt
        assert state() == before


def test_threads_keep_their_own_contexts():
    """One thread explains in autocast while another predicts in inference mode."""
    model, x = made(Net).float(), batch()
    explainer = relprop.Explainer(model, x, "gradient")
    expected, right = explainer(x).relevance, []

    def work(context):
        with context():
            before = state()
            same = [torch.equal(explainer(x).relevance, expected) and state() == before for _ in range(5)]
        right.append(all(same))

    threads = [threading.Thread(target=work, args=(CONTEXTS[name],)) for name in ("autocast", "inference_mode") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 8
