"""An explainer follows the weights of its model, or refuses."""

import copy

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.errors import ModelError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    return nn.Sequential(*layers).double().eval()


X = torch.randn(4, 3, 12, 12, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def _step(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), torch.arange(4)).backward()
        optimizer.step()
    model.eval()


def _load(model: nn.Module) -> None:
    model.load_state_dict({k: v + 0.1 if v.is_floating_point() else v for k, v in model.state_dict().items()})


def _assign(model: nn.Module) -> None:
    model.load_state_dict({k: v * 1.1 if v.is_floating_point() else v for k, v in model.state_dict().items()}, assign=True)


def _in_place(model: nn.Module) -> None:
    with torch.no_grad():
        model[0].weight.mul_(2)


def _replaced(model: nn.Module) -> None:
    model[5].weight = nn.Parameter(model[5].weight.detach() * 3)


def _data(model: nn.Module) -> None:
    model[0].weight.data = model[0].weight.data * 3


def _statistics(model: nn.Module) -> None:
    model[1].running_mean.add_(1)


def _data_in_place(model: nn.Module) -> None:
    model[0].weight.data.mul_(2)


def _data_in_other_places(model: nn.Module) -> None:
    weight = model[0].weight.data
    weight.copy_(weight.flip(0))


CHANGES = [_data_in_place, _data_in_other_places, _step, _load, _assign, _in_place, _replaced, _data, _statistics]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", ["lrp-epsilon", "rap", "gradient"])
def test_new_weights_are_followed(change, method):
    model = network()
    explainer = relprop.Explainer(model, X, method)
    explainer(X, 1)
    change(model)
    found, wanted = explainer(X, 1), relprop.Explainer(model, X, method)(X, 1)
    torch.testing.assert_close(explainer.logits(X), model(X).detach())
    assert torch.equal(found.relevance, wanted.relevance)


def _larger(model: nn.Module) -> None:
    model[5] = nn.Linear(8, 7).double()


def _longer(model: nn.Module) -> None:
    model.append(nn.ReLU())


def _shorter(model: nn.Module) -> None:
    del model[2]


REFUSED = {
    "a module replaced": (_larger, "modules of the model have changed"),
    "a module added": (_longer, "modules of the model have changed"),
    "a module taken away": (_shorter, "modules of the model have changed"),
    "another dtype": (lambda model: model.float(), "has the dtype torch.float32"),
    "another shape": (
        lambda model: setattr(model[5], "weight", nn.Parameter(torch.ones(6, 8).double())),
        r"has the shape \(6, 8\)",
    ),
    "a parameter taken away": (lambda model: setattr(model[5], "bias", None), "was taken away"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_structure_is_refused_in_one_sentence(name):
    change, message = REFUSED[name]
    model = network()
    explainer = relprop.Explainer(model, X)
    change(model)
    with pytest.raises(ModelError, match=message):
        explainer(X)


def test_nothing_is_captured_anew_where_nothing_changed(monkeypatch):
    model = network()
    explainer = relprop.Explainer(model, X)
    for module in ("explainer", "plans"):
        monkeypatch.setattr(f"relprop.{module}.record", lambda *_: pytest.fail("captured again"))
    explainer(X)
    explainer.logits(X)


def test_copies_do_not_follow():
    model = network()
    explainer = relprop.Explainer(model, X, "lrp-epsilon")
    before = explainer(X, 1).relevance
    copied, single = copy.deepcopy(explainer), relprop.Explainer(model, X, "lrp-epsilon").float()
    _in_place(model)
    assert torch.equal(copied(X, 1).relevance, before)
    torch.testing.assert_close(single(X.float(), 1).relevance.double(), before, rtol=1e-3, atol=1e-6)
    assert not torch.equal(explainer(X, 1).relevance, before)


def test_edits_of_weights_made_in_inference_mode_are_followed():
    with torch.inference_mode():
        model = network()
    explainer = relprop.Explainer(model, X)
    explainer(X)
    with torch.inference_mode():
        model[0].weight.mul_(2)
    torch.testing.assert_close(explainer(X).relevance, relprop.explain(model, X).relevance)


class Cached(nn.Module):
    """Fills a buffer anew where the input has another size, as models cache positions; another buffer counts calls, and is read."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.register_buffer("places", torch.zeros(1))
        self.register_buffer("state", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.places.shape[0] != x.shape[-1]:
            self.places = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype, device=x.device)
        self.state = self.state * 2
        return self.layer(x + self.places) * self.state


def test_buffers_that_the_model_fills_anew_are_not_watched():
    torch.manual_seed(0)
    model, x = Cached().double().eval(), torch.rand(2, 3, dtype=torch.float64)
    explainer = relprop.Explainer(model, x, "gradient")
    before = explainer(x, 1).relevance
    logits = model(x)  # puts a longer tensor in the buffer's place
    assert model.places.shape == (3,)
    torch.testing.assert_close(explainer.logits(x), 2 * logits)  # what it reads is followed: the state has doubled
    torch.testing.assert_close(explainer(x, 1).relevance, 2 * before)
    model.layer = nn.Linear(3, 5).double()
    with pytest.raises(ModelError, match="have changed since it was captured"):
        explainer(x)
