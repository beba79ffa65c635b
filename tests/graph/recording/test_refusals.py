"""A model that cannot be recorded is refused in one sentence that says where, why, and what to do."""

import pytest
import torch
from torch import nn

import relprop
from relprop.errors import CaptureError, RelpropError, UnsupportedOpError


class Of(nn.Module):
    """A model whose forward is a function, between two dense layers."""

    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(4, 4), nn.Linear(4, 3), function
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.last(self.function(self.first(x)))


def through_numpy(x):
    return torch.from_numpy(x.detach().numpy()).sigmoid()


def raising(_):
    raise KeyError("no such key.")


def refused(model, x) -> str:
    with pytest.raises(RelpropError) as caught:
        relprop.capture(model, x)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_a_model_that_fails_on_its_inputs_says_so_and_where():
    text = refused(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(5, 3))), torch.rand(4, 4))
    assert text.startswith("The model itself fails on these inputs, in 1.0: RuntimeError: mat1 and mat2 shapes")
    assert "(4x4 and 5x3)" in text, "the shapes are those of the given inputs"
    assert text.endswith("; give inputs on which it runs.")


def test_a_model_that_raises_by_itself_names_its_line():
    text = refused(Of(raising), torch.rand(2, 4))
    assert "in the model itself: KeyError at " in text
    assert "test_refusals.py:" in text
    assert "(`raise KeyError(\"no such key.\")`): 'no such key.'; give inputs" in text


def test_wrong_arguments_are_named():
    assert "TypeError" in refused(Of(torch.relu), {"y": torch.rand(2, 4)})


def test_a_line_that_needs_values_is_named_with_what_to_do():
    text = refused(Of(through_numpy), torch.rand(2, 4))
    assert text.startswith("The model cannot be captured: ")
    assert "in through_numpy (`return torch.from_numpy(x.detach().numpy()).sigmoid()`)" in text
    assert "it runs on these inputs" in text
    assert text.endswith("or capture a part of the model without it.")


@pytest.mark.parametrize("function", [through_numpy, raising])
def test_a_refusal_leaves_everything_as_it_is(function):
    model, x = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(), Of(function)).train(), torch.randn(2, 4)
    before, state = x.clone(), torch.get_rng_state()
    refused(model, x)
    assert model[2].calls == 0
    assert model[1].training
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("register", [nn.Module.register_buffer, setattr])
def test_tensors_of_two_names_are_one_in_the_trial_and_stay_as_they_are(register):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Module(), nn.Module()
            register(self.a, "state", torch.zeros(1))
            register(self.b, "state", self.a.state)

        def forward(self, x):
            self.a.state += 1
            return through_numpy(x) if self.b.state == 1 else raising(x)

    model = Shared()
    assert "it runs on these inputs" in refused(model, torch.rand(2, 4))
    assert model.a.state == 0


def writes_out(x):
    wanted = torch.empty(2, 4), torch.empty(2, 4, dtype=torch.long)
    torch.sort(x, out=wanted)
    return wanted[0]


@pytest.mark.parametrize(
    ("model", "error", "where", "advice"),
    [
        (
            Of(lambda x: x[x > 0].sum() * x),
            UnsupportedOpError,
            "in the model itself",
            "capture a part of the model that does without it.",
        ),
        (
            Of(lambda x: x if x.sum() > 0 else -x),
            CaptureError,
            "in <lambda>",
            "take the check out, or write it with torch.where.",
        ),
        (
            Of(lambda x: x - x.mean(0)),
            UnsupportedOpError,
            "aten::mean",
            "change the model there so that it computes each sample by itself.",
        ),
        (Of(writes_out), UnsupportedOpError, "in the model itself", "write to one after the other."),
        (Of(lambda x: str(x.shape)), CaptureError, "last", "give inputs on which it runs."),
    ],
)
def test_every_refusal_says_what_to_do(model, error, where, advice):
    with pytest.raises(error) as caught:
        relprop.capture(model, torch.rand(2, 4))
    assert where in str(caught.value)
    assert str(caught.value).endswith(advice)


def test_a_result_without_tensors():
    class Speaks(nn.Module):
        def forward(self, _):
            return "a cat"

    assert refused(Speaks(), torch.rand(2, 4)).endswith("holds no tensor to explain; give a module whose forward returns one.")
