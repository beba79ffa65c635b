"""A seed fixes every draw of a call: maps repeat in threads, and the global generators are never written."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

import relprop
from relprop import draws
from relprop.metrics.randomization import randomized_models
from tests.methods.models import Plain, images, made
from tests.methods.quick import quick

RANDOM = ["smoothgrad", "vargrad", "expected-gradients", "kernel-shap", "lime", "rise", "random"]


def numpy_global_state():
    return np.random.get_state()  # noqa: NPY002 - what must not be used is watched


@pytest.fixture
def untouched():
    """Fail where a test leaves a global generator in another state."""
    torch.manual_seed(5)
    torch_state, numpy_state = torch.get_rng_state(), numpy_global_state()
    yield
    assert torch.equal(torch_state, torch.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip(numpy_state, numpy_global_state(), strict=True))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", RANDOM)
def test_eight_threads_find_the_map_of_one(name):
    explainer = relprop.Explainer(made(Plain), images(1), name, **quick(name, 16))
    inputs = [images(2) + i / 8 for i in range(8)]
    alone, found = [explainer(x).relevance for x in inputs], dict[int, list[torch.Tensor]]()

    def work(index):
        found[index] = [explainer(inputs[index]).relevance for _ in range(2)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(alone[i], repeated) for i in range(8) for repeated in found[i])


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", RANDOM)
def test_global_generators_outlive_a_failure(name, monkeypatch):
    explainer = relprop.Explainer(made(Plain), images(1), name, **quick(name, 16))

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(draws, "normal", fail)
    monkeypatch.setattr(draws, "uniform", fail)
    monkeypatch.setattr(draws, "permutation", fail)
    with pytest.raises(KeyboardInterrupt):
        explainer(images(1))


@pytest.mark.parametrize("name", ["smoothgrad", "vargrad", "expected-gradients", "kernel-shap", "lime", "rise"])
def test_draws_depend_on_the_seed_and_not_on_inner_batches(name):
    model, x = made(Plain), images(2)

    def found(**options):
        return relprop.explain(model, x, 1, method=name, **{**quick(name, 16), **options}).relevance

    torch.testing.assert_close(found(internal_batch_size=1), found(internal_batch_size=3), rtol=1e-6, atol=1e-9)
    assert not torch.allclose(found(seed=0), found(seed=1))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("reinit", ["normal", "reset"])
def test_randomized_models_are_the_same_in_threads(reinit):
    with torch.random.fork_rng():
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))

    def weights():
        return [copy.state_dict() for _, copy in randomized_models(model, mode="independent", reinit=reinit)]

    alone, found = weights(), []
    threads = [threading.Thread(target=lambda: found.append(weights())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for states in found:
        for one, other in zip(alone, states, strict=True):
            assert all(torch.equal(one[key], other[key]) for key in one)


def drawn():
    layers = [nn.Linear(3, 4), nn.LSTM(3, 4), nn.Embedding(5, 2)]
    values = [
        torch.randn(3),
        torch.rand(2, 2),
        torch.randperm(5),
        torch.randint(3, (4,)),
        torch.randint(1, 9, (4,)),
        torch.bernoulli(torch.full((5,), 0.5)),
        torch.normal(torch.zeros(20), 1.0),
        torch.randn_like(torch.zeros(3)),
        nn.init.trunc_normal_(torch.empty(20)),
        nn.init.orthogonal_(torch.empty(4, 4)),
        nn.init.sparse_(torch.empty(4, 4), 0.5),
    ]
    return [*(tensor for layer in layers for tensor in layer.state_dict().values()), *values]


def test_random_ops_draw_what_a_global_seed_gives():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = drawn()
    state = torch.get_rng_state()
    with draws.DrawFrom(draws.generator(3)):
        found = drawn()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
