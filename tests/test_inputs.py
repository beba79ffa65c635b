"""Inputs as people have them: dicts, lists and tuples of tensors, nested."""

from collections import UserDict

import pytest
import torch
from torch import nn

import relprop
from relprop.errors import CaptureError, InputError
from relprop.inputs import Inputs, as_inputs

X = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
METHODS = ["rap", "lrp-epsilon", "gradient", "smoothgrad"]


def made(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind().double().eval()


class Both(nn.Module):
    """Two plain inputs."""

    def __init__(self):
        super().__init__()
        self.f, self.g = nn.Linear(12, 5), nn.Linear(4, 5)

    def forward(self, image, values):
        return self.f(image.flatten(1)).relu() + self.g(values)


class ByDict(Both):
    def forward(self, batch):
        return super().forward(batch["image"], batch["more"]["values"])


class ByList(Both):
    def forward(self, parts, scale=1.0):
        return super().forward(parts[0], parts[1][0] * scale)


def nested_dict():
    return {"image": X, "more": {"values": Y, "name": "kept"}}


CASES = {
    "the dict itself": (ByDict, nested_dict()),
    "a dict by keyword": (ByDict, {"batch": nested_dict()}),
    "a dict in a tuple": (ByDict, (nested_dict(),)),
    "a list in a tuple": (ByList, ([X, (Y,)],)),
    "a list by keyword": (ByList, {"parts": [X, (Y,)], "scale": 1.0}),
    "a list with a number": (ByList, ([X, (Y,)], 1.0)),
}


def tensors_in(value):
    return [part for _, part in Inputs((value,)).tensors]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_relevance_is_that_of_plain_inputs_in_the_structure_that_was_given(case, method):
    kind, given = case
    expected = relprop.explain(made(Both), (X, Y), method=method)
    found = relprop.explain(made(kind), given, method=method)
    parts = tensors_in(found.relevance)
    assert len(parts) == 2
    for part, wanted in zip(parts, expected.relevance, strict=True):
        torch.testing.assert_close(part, wanted)
    torch.testing.assert_close(tensors_in(found.inputs), [X, Y])


def test_the_structure_comes_back():
    found = relprop.explain(made(ByDict), nested_dict()).relevance
    assert list(found) == ["image", "more"]
    assert found["more"]["name"] == "kept"
    assert relprop.explain(made(ByDict), {"batch": nested_dict()}).relevance.keys() == {"batch"}
    parts, number = relprop.explain(made(ByList), ([X, (Y,)], 1.0)).relevance
    assert isinstance(parts, list)
    assert isinstance(parts[1], tuple)
    assert number == 1.0
    assert relprop.explain(made(ByList), {"parts": [X, (Y,)], "scale": 1.0}).relevance.keys() == {"parts"}


def test_nested_batches_have_any_size_and_several_targets(tmp_path):
    explainer = relprop.Explainer(made(ByDict), nested_dict())
    one = explainer({"image": X[:1], "more": {"values": Y[:1], "name": "kept"}}, torch.tensor([[0, 3]]))
    assert one.relevance["image"].shape == (1, 2, 3, 2, 2)
    assert one.heatmap().shape == (1, 2, 2, 2)
    one.save(tmp_path / "a.safetensors")
    from safetensors.torch import load_file

    assert {"relevance.image", "relevance.more.values", "inputs.image"} <= load_file(tmp_path / "a.safetensors").keys()


class OneAtATime(ByDict):
    def forward(self, batch):
        if batch["image"].shape[0] == 1:
            return super().forward(batch).reshape(1, 5)
        return torch.cat([self({"image": x[None], "more": {"values": y[None]}}) for x, y in zip(batch["image"], Y, strict=True)])


def test_samples_that_run_one_by_one_are_joined_in_their_structure():
    found = relprop.explain(made(OneAtATime), nested_dict(), 1).relevance
    expected = relprop.explain(made(ByDict), nested_dict(), 1).relevance
    torch.testing.assert_close(found["image"], expected["image"])
    torch.testing.assert_close(found["more"]["values"], expected["more"]["values"])
    assert found["more"]["name"] == "kept"


def test_a_dict_is_keyword_arguments_where_the_model_has_them():
    for model, given in ((made(Both), {"image": X, "values": Y}), (made(Both), {"values": Y, "image": X})):
        assert relprop.explain(model, given).relevance.keys() == {"image", "values"}


def test_names_say_where_a_tensor_is():
    names = [name for name, _ in Inputs((X, {"image": X}), {"batch": {"image": [X]}, "mask": Y}).tensors]
    assert names == ["input 0", "input 1['image']", "batch['image'][0]", "mask"]


def test_calls_are_rebuilt_from_flat_values():
    given = Inputs((X, [Y, "name"]), {"more": {"z": X}})
    args, kwargs = given.call(lambda *args, **kwargs: (args, kwargs), range(4))
    assert args == (0, [1, 2])
    assert kwargs == {"more": {"z": 3}}


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"image": X, "more": {"values": Y.float(), "name": "kept"}}, r"more.*values.* is torch.float32"),
        ({"image": X, "more": {"values": Y}}, "Expected the inputs"),
        ({"image": X, "more": {"values": Y, "name": "other"}}, "captured with 'kept'"),
        ({"image": X, "more": {"values": "none", "name": "kept"}}, "captured with a tensor"),
        ({"image": X, "more": UserDict(values=Y, name="kept")}, "UserDict of tensors; pass a plain dict"),
        ({"image": X[0], "more": {"values": Y[0], "name": "kept"}}, r"add the batch dimension with unsqueeze\(0\)"),
        ({"image": X / 0, "more": {"values": Y, "name": "kept"}}, "input 0.*image.* holds NaN"),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(inputs, said):
    explainer = relprop.Explainer(made(ByDict), nested_dict())
    with pytest.raises(InputError, match=said):
        explainer(inputs)


def test_an_example_without_a_batch_is_told_to_add_one():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(1), nn.Linear(4 * 36, 5)).eval()
    with pytest.raises(CaptureError, match=r"shape \(3, 8, 8\) is one image, add the batch dimension with unsqueeze\(0\)"):
        relprop.explain(model, torch.randn(3, 8, 8))


def test_inputs_without_a_tensor_are_refused():
    with pytest.raises(InputError, match="hold no tensor"):
        as_inputs({"batch": {"image": None}})
