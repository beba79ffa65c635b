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
def test_only_images_make_pictures(tmp_path, conv, shape, target):
    net = nn.Sequential(conv(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).eval()
    inputs = torch.randn(shape)
    net(inputs)
    made = relprop.explain(net, inputs, target)
    with pytest.raises(InputError, match="Only explanations of images can be drawn"):
        made.save(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
