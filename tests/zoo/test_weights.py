"""Weights files of odd states: loaded right, or refused in one sentence that names the tensor."""

import argparse
import json
import struct

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from relprop.errors import ModelError
from relprop.zoo import load
from relprop.zoo.weights import load_weights, read_state, read_weights


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))


def quantized(tensor):
    return torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (quantized, "is quantized"),
        (lambda tensor: tensor.to_sparse(), "is sparse"),
        (lambda tensor: tensor.to("meta"), "is on the meta device"),
        (lambda tensor: torch.full_like(tensor, float("nan")), "holds NaN"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_values_are_refused(tmp_path, change, message):
    state = small_model().state_dict()
    state["3.weight"] = change(state["3.weight"])
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=rf"w\.pth cannot be used: 3\.weight {message}"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64])
@pytest.mark.filterwarnings("ignore")
def test_other_kinds_of_numbers_are_refused(tmp_path, dtype):
    model = small_model()
    save_file({key: (value * 10).to(dtype) for key, value in model.state_dict().items()}, tmp_path / "w.safetensors")
    before = model[0].weight.clone()
    with pytest.raises(ModelError, match=rf"of another kind of number 0\.weight \({dtype} for torch\.float32\)"):
        load_weights(model, read_state(tmp_path / "w.safetensors"), "w")
    assert torch.equal(model[0].weight, before)


def test_only_buffers_may_be_infinite():
    model, state = small_model(), small_model().state_dict()
    state["1.running_var"][0] = float("inf")
    load_weights(model, state, "w")
    state["0.weight"][0] = float("inf")
    with pytest.raises(ModelError, match=r"with infinite values 0\.weight"):
        load_weights(model, state, "w")


def test_a_pytorch_file_is_one_whatever_its_suffix(tmp_path):
    state = small_model().state_dict()
    torch.save(state, tmp_path / "w.safetensors")
    assert read_state(tmp_path / "w.safetensors").keys() == state.keys()


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_called_what_it_is(tmp_path):
    torch.jit.save(torch.jit.trace(small_model().eval(), torch.zeros(1, 3, 3, 3)), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="is a TorchScript archive"):
        read_state(tmp_path / "w.pt")


def test_a_checkpoint_that_holds_itself_and_an_impossible_shape(tmp_path):
    checkpoint = {}
    checkpoint["state_dict"] = checkpoint
    torch.save(checkpoint, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="no state dict"):
        read_state(tmp_path / "w.pth")
    header = json.dumps({"a": {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelError, match="corrupt"):
        read_state(tmp_path / "w.safetensors")


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema", "ema_state_dict"])
def test_averaged_weights_are_taken_and_said(tmp_path, averaged):
    torch.save({"state_dict": {"w": torch.zeros(1)}, averaged: {"module.w": torch.ones(1)}}, tmp_path / "w.pth")
    found = read_weights(tmp_path / "w.pth")
    assert found.state["module.w"].item() == 1
    assert found.notes == ("w.pth holds averaged (EMA) weights beside the plain ones; the averaged ones are taken",)


class Unknown:
    """Any object but a plain container of arguments stays refused."""


def test_checkpoints_that_keep_their_arguments_are_read_as_those_of_idsds(tmp_path):
    model = small_model()
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    kept = {"epoch": 30, "state_dict": state, "args": argparse.Namespace(lr=0.001, model="resnet50")}
    torch.save(kept, tmp_path / "w.pth.tar")
    load_weights(model, read_state(tmp_path / "w.pth.tar"), "w")
    torch.save({**kept, "args": Unknown()}, tmp_path / "other.pth.tar")
    with pytest.raises(ModelError, match="holds Python objects"):
        read_state(tmp_path / "other.pth.tar")


def test_an_entry_called_ema_without_weights_is_passed_over(tmp_path):
    torch.save({"state_dict": {"w": torch.zeros(1)}, "ema": {"decay": 0.99}}, tmp_path / "w.pth")
    found = read_weights(tmp_path / "w.pth")
    assert found.state["w"].item() == 0
    assert found.notes == ()


def test_the_note_of_averaged_weights_reaches_the_loaded_model(tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(3, 2)\n")
    state = nn.Linear(3, 2).state_dict()
    torch.save({"model": state, "model_ema": nn.Linear(3, 2).state_dict()}, tmp_path / "w.pth")
    loaded = load(f"{tmp_path}/net.py:make", tmp_path / "w.pth")
    assert "the averaged ones are taken" in loaded.notes[-1]


@pytest.mark.parametrize("prefix", ["backbone.", "net.", "encoder."])
def test_a_prefix_in_the_file_or_in_the_model_is_named(prefix):
    state = {key: value for key, value in small_model().state_dict().items() if not key.startswith("3.")}
    with pytest.raises(ModelError, match=rf"the names in the file begin with '{prefix}', without which 6 of them fit"):
        load_weights(small_model(), {prefix + key: value for key, value in state.items()}, "w")
    whole = nn.ModuleDict({prefix[:-1]: small_model()})
    with pytest.raises(ModelError, match=rf"the names in the model begin with '{prefix}', without which 6 of them fit"):
        load_weights(whole, state, "w")
