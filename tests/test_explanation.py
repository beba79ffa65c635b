"""Explanations are saved in the format of the suffix."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import relprop
from relprop.errors import InputError, OutputError
from relprop.viz import plot_explanation, save_figure
from tests.figures import explanation
from tests.files import MODELS


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg", "jpg", "webp"])
def test_pictures_are_written_in_the_format_of_the_suffix(tmp_path, suffix):
    explanation().save(tmp_path / f"a.{suffix}")
    start = (tmp_path / f"a.{suffix}").read_bytes()[:200]
    assert {"png": b"PNG", "pdf": b"%PDF", "svg": b"<?xml", "jpg": b"\xff\xd8", "webp": b"WEBP"}[suffix] in start
    assert [path.name for path in tmp_path.iterdir()] == [f"a.{suffix}"]


def test_raw_files_hold_the_numbers(tmp_path):
    made = explanation(targets=2)
    made.save(tmp_path / "a.npy")
    assert np.array_equal(np.load(tmp_path / "a.npy"), made.relevance.numpy())
    made.save(tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    assert torch.equal(tensors["relevance"], made.relevance)
    assert set(tensors) == {"relevance", "inputs", "logits", "absorbed", "target"}


def test_unknown_suffixes_are_refused(tmp_path):
    for save in (
        lambda path: explanation().save(path),
        lambda path: save_figure(plot_explanation(explanation()), path),
    ):
        with pytest.raises(OutputError, match="suffix"):
            save(tmp_path / "a.xyz")
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_relevance_is_written_as_float32(tmp_path):
    half = relprop.explain(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)).eval().bfloat16(), torch.randn(1, 3, 4, 4).bfloat16())
    half.save(tmp_path / "a.npy")
    assert np.array_equal(np.load(tmp_path / "a.npy"), half.relevance.float().numpy())


@pytest.mark.parametrize(("conv", "shape"), [(nn.Conv3d, (1, 1, 6, 7, 8)), (nn.Conv1d, (1, 1, 9))])
@pytest.mark.parametrize("target", [None, [[0, 1]]])
def test_volumes_and_signals_make_pictures(tmp_path, conv, shape, target):
    net = nn.Sequential(conv(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).eval()
    inputs = torch.randn(shape)
    net(inputs)
    relprop.explain(net, inputs, target).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_what_has_no_picture_is_refused(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    with pytest.raises(InputError, match=r"these inputs have shape \(1, 1, 2, 2, 2, 2\)"):
        relprop.explain(net, torch.randn(1, 1, 2, 2, 2, 2)).save(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def net(classes=5):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)).eval()


X = torch.linspace(-1, 1, 4 * 3 * 6 * 6).reshape(4, 3, 6, 6)


def same(one, other):
    for name in ("relevance", "logits", "target", "absorbed", "inputs", "completeness_error"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name))
    assert one.layers.keys() == other.layers.keys()
    for path, part in one.layers.items():
        torch.testing.assert_close(part, other.layers[path])


@pytest.mark.parametrize("target", [None, [[0, 1], [1, 2], [3, 4], [0, 4]]])
@pytest.mark.parametrize("method", ["rap", "integrated-gradients"])
def test_samples_are_taken_out_and_joined_again(method, target):
    explainer = relprop.Explainer(net(), X[:1], method)
    layers = ["0"] if method == "rap" else []
    whole = explainer(X, target, layers=layers)
    assert (len(whole), len(whole[1:3]), len(whole[-1])) == (4, 2, 1)
    same(whole[2], whole[2:3])
    same(whole[-1], whole[3])
    same(relprop.concatenate(whole), whole)
    same(relprop.concatenate([whole[:1], whole[1:]]), whole)
    batches = zip(X.split(2), [None, None] if target is None else [target[:2], target[2:]], strict=True)
    same(relprop.concatenate(explainer(batch, part, layers=layers).cpu() for batch, part in batches), whole)


def test_samples_of_nested_inputs():
    class Two(nn.Module):
        def forward(self, batch):
            return batch["a"].flatten(1)[:, :3] * 2 + batch["b"]

    found = relprop.explain(Two(), {"a": torch.rand(2, 4, 2), "b": torch.rand(2, 3)})
    assert found[1].relevance["a"].shape == (1, 4, 2)
    joined = relprop.concatenate([found, found[:1]])
    assert torch.equal(joined.relevance["b"], torch.cat([found.relevance["b"], found.relevance["b"][:1]]))


def test_samples_that_are_not_there():
    made = relprop.explain(net(), X)
    with pytest.raises(IndexError):
        made[4]
    with pytest.raises(InputError, match="holds none of the 4 samples"):
        made[4:]
    with pytest.raises(InputError, match="not by str"):
        made["rap"]


def test_only_what_is_alike_is_joined():
    made = relprop.explain(net(), X)
    with pytest.raises(InputError, match="no explanation"):
        relprop.concatenate([])
    for other, what in (
        (relprop.explain(net(), X, method="gradient"), "method is gradient, and there rap"),
        (relprop.explain(net(4), X), r"logits of one sample is \(4,\), and there \(5,\)"),
        (relprop.explain(net(), X, "top:2"), "relevance of one sample"),
    ):
        with pytest.raises(InputError, match=f"Explanation 1 cannot join the first one: its {what}"):
            relprop.concatenate([made, other])


def test_everything_prints_in_one_line(tmp_path):
    explainer = relprop.Explainer(net(), X[:1])
    assert repr(explainer(X)) == f"Explanation('rap', relevance=(4, 3, 6, 6), target={explainer(X).target.tolist()})"
    assert repr(explainer) == "Explainer('rap', Sequential, input 0 batch×3×6×6, 5 ops)"
    assert repr(explainer.captured) == "Captured(Sequential, input 0 batch×3×6×6, 5 ops)"
    (tmp_path / "m.py").write_text(MODELS)
    assert "\n" not in repr(relprop.zoo.load(f"{tmp_path / 'm.py'}:small"))


def test_files_have_the_mode_of_any_new_file(tmp_path):
    made = relprop.explain(net(), X)
    (tmp_path / "plain").write_text("")
    for suffix in ("safetensors", "npy", "png"):
        made.save(tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").stat().st_mode == (tmp_path / "plain").stat().st_mode
