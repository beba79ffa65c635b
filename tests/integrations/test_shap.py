"""Explanations for shap: by a stand-in of its class, and by shap itself where it is installed."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

import relprop
from relprop.errors import InputError, ModelError
from tests.methods.models import Plain, images, made


def test_values_and_base_add_up_and_channels_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    shap = ModuleType("shap")
    shap.Explanation = SimpleNamespace
    monkeypatch.setitem(sys.modules, "shap", shap)
    model, x = made(Plain), images(2)
    explainer = relprop.Explainer(model, x, "deeplift", baselines=images(3) * 0.1)
    one = explainer(x, 1).to_shap()
    assert one.values.shape == one.data.shape == (2, 16, 16, 3)
    np.testing.assert_allclose(one.values.sum((1, 2, 3)) + one.base_values, model(x)[:, 1].detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(one.data, x.permute(0, 2, 3, 1).float().numpy())
    several = explainer(x, torch.tensor([[1, 4], [0, 2]])).to_shap(["first", "second"])
    assert several.values.shape == (2, 16, 16, 3, 2)
    assert several.base_values.shape == (2, 2)
    assert several.output_names == ["first", "second"]
    np.testing.assert_allclose(several.values[0, ..., 0], one.values[0], rtol=1e-5)


def test_shap_itself_takes_it() -> None:
    shap = pytest.importorskip("shap", reason="shap is not installed")
    model, x = made(Plain), images(2)
    found = relprop.explain(model, x, 1, method="deeplift").to_shap()
    assert isinstance(found, shap.Explanation)
    assert found.shape == (2, 16, 16, 3)


def test_without_shap_or_with_several_inputs_one_sentence_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    found = relprop.explain(made(Plain), images(1), 1, method="gradient")
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(ModelError, match=r"relprop\[shap\]"):
        found.to_shap()
    monkeypatch.setitem(sys.modules, "shap", ModuleType("shap"))

    class Two(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a * b

    several = relprop.explain(Two(), (torch.rand(2, 3), torch.rand(2, 3)), 1, method="gradient")
    with pytest.raises(InputError, match="several inputs"):
        several.to_shap()
