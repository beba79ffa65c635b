"""How targets are asked for: text, lists of one per sample, words, averages, traces, files, and what is refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import relprop
from relprop.errors import CaptureError, InputError, OptionError, TargetError
from relprop.targets import GRAMMAR, Binary, Box, Class, Classes, Contrast, Neuron, Output, Pixels, Similarity, read_target
from relprop.viz import plot_comparison
from relprop.zoo import import_torchvision, load
from tests.targets.networks import Detector, Tokens, X, classifier, segmentation, total

LABELS = ["tabby, tabby cat", "dog", "horse", "tiger cat", "boat"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("vector.npy", np.linspace(-1, 1, 5))
    np.save("mask.npy", np.eye(4, dtype=bool))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("class:3", Class(3)),
        ("class:tiger cat", Class("tiger cat")),
        ("classes:1,dog,3", Classes([1, "dog", 3])),
        ("classes:1,2:together=true", Classes([1, 2], together=True)),
        ("contrast:281,285", Contrast(281, 285)),
        (" Contrast:dog ", Contrast("dog")),
        ("contrast", Contrast()),
        ("output", Output()),
        ("output:1:reference=3.5", Output(1, reference=3.5)),
        ("output:reference=-2", Output(reference=-2.0)),
        ("binary:7", Binary(7)),
        ("box:17,3", Box(17, 3)),
        ("box", Box()),
        ("neuron:layer3,5", Neuron("layer3", 5)),
        ("neuron:layer3.0.conv1,5x1x2", Neuron("layer3.0.conv1", (5, 1, 2))),
        ("neuron:5", Neuron(None, 5)),
    ],
)
def test_text_is_read(text, target):
    assert read_target(text) == target


@pytest.mark.usefixtures("files")
def test_regions_and_files_are_read():
    assert read_target("pixels:15:point=100x120").point == (100, 120)
    assert read_target("pixels:boat:box=1x2x3x4").box == (1, 2, 3, 4)
    assert read_target("pixels:15:mask=mask.npy").mask.dtype == bool
    assert read_target("pixels").index is None
    assert read_target("similarity:vector.npy:measure=dot").measure == "dot"
    assert read_target("similarity:vector.npy").vector.shape == (5,)


@pytest.mark.parametrize("target", [None, 3, "3", "tabby", "top:3", [1, 2], torch.tensor([1])])
def test_everything_else_stays_as_it_is(target):
    assert read_target(target) is target


def test_a_class_goes_by_its_name_before_a_kind():
    assert read_target("output", ["input", "output"]) == "output"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("contrast:1,2,3", "'contrast:1,2,3' is not of the form 'contrast:A,B'"),
        ("class", "not of the form 'class:A'"),
        ("classes", "not of the form 'classes:A,B,…'"),
        ("classes:1:together=yes", "not of the form"),
        ("output:a", "not of the form 'output'"),
        ("output:reference=a", "not of the form"),
        ("pixels:15:point=3", "The point must be 2 integers, not"),
        ("pixels:15:point=axb", "not of the form 'pixels:A'"),
        ("pixels:15,point=3x4", "not of the form 'pixels:A'; a key follows a colon"),
        ("pixels:15:pint=3x4", r"has no option 'pint'; its options: point, box, mask\. Did you mean 'point'"),
        ("box:1,2:class=3", "has no option 'class'; it has none"),
        ("similarity:none.npy", "'none.npy' is no .npy file"),
        ("neuron", "not of the form 'neuron:LAYER,I'"),
    ],
)
def test_text_of_another_form_is_refused(text, message):
    with pytest.raises(TargetError, match=message):
        relprop.explain(segmentation(), X, text)


def test_the_grammar_lists_every_kind():
    for form, words in GRAMMAR:
        assert words
        assert read_target(form.split(":")[0], [form.split(":")[0]]) == form.split(":")[0]


@pytest.mark.parametrize(
    ("build", "options", "target", "message"),
    [
        (classifier, {}, Class(5), "The target '5' is out of range: the number goes from 0 to 4"),
        (classifier, {}, Class("dgo"), "has no class names"),
        (classifier, {"labels": LABELS}, Class("dgo"), "no class 'dgo'. Did you mean 'dog'"),
        (classifier, {}, Class(1.5), "A class is an index or a name, not 1.5"),
        (classifier, {}, Class(True), "A class is an index or a name, not True"),
        (classifier, {}, Classes([]), "takes a list of classes"),
        (classifier, {}, Classes("12"), "takes a list of classes"),
        (classifier, {}, Classes([1, 2, 1]), "names a class twice"),
        (classifier, {}, Contrast(1, 1), "both are class 1"),
        (classifier, {}, Contrast(1, 9), "from 0 to 4"),
        (lambda: classifier(classes=1), {}, Contrast(), "a single output; take Output"),
        (classifier, {}, Output(), "The model returns 5 numbers; name one of them"),
        (classifier, {}, Output(5), "from 0 to 4"),
        (lambda: classifier(nn.Softmax(1)), {}, Binary(1), "the model ends in a softmax; take Class"),
        (classifier, {}, Pixels(1), r"needs the output of a segmentation .*\(2, 5\)"),
        (classifier, {}, Box(1, 2), r"raw class logits of a detector, .*\(2, 5\); choose it with output="),
        (segmentation, {}, None, r"not \(batch, classes\); pass Pixels"),
        (segmentation, {}, Class(1), r"not \(batch, classes\); pass Pixels"),
        (segmentation, {}, Contrast(1, 2), r"Contrast needs an output \(batch, classes\)"),
        (segmentation, {}, Output(), "take Neuron"),
        (segmentation, {}, Similarity(torch.ones(3)), r"needs embeddings \(batch, features\)"),
        (segmentation, {}, Pixels(3), "from 0 to 2"),
        (segmentation, {}, Pixels(1, mask=torch.ones(8, 8)), r"The mask has shape \(8, 8\), and the model's output 4×4 pixels of 2 samples"),
        (segmentation, {}, Pixels(1, mask=torch.ones(3, 4, 4)), r"shape \(3, 4, 4\)"),
        (segmentation, {}, Pixels(1, mask=torch.zeros(4, 4)), "The mask of sample 0 is empty"),
        (segmentation, {}, Pixels(1, mask=2 * torch.ones(4, 4)), "booleans, or weights from 0 to 1"),
        (segmentation, {}, Pixels(1, mask=torch.full((4, 4), torch.nan)), "booleans, or weights from 0 to 1"),
        (segmentation, {}, Pixels(1, mask="all"), "The mask must be a tensor or an array, not str"),
        (segmentation, {}, Pixels(1, point=(1, 2), box=(0, 0, 1, 1)), "a mask, a point or a box, not point and box"),
        (segmentation, {}, Pixels(1, point=(4, 0)), "The point 4×0 lies outside of the output of 4×4"),
        (segmentation, {}, Pixels(1, point=(-1, 0)), "lies outside"),
        (segmentation, {}, Pixels(1, point=3), "The point must be 2 integers, not 3"),
        (segmentation, {}, Pixels(1, box=(2, 0, 2, 4)), "is empty or leaves the output, 4 columns by 4 rows"),
        (segmentation, {}, Pixels(1, box=(0, 0, 5, 4)), "is empty or leaves the output"),
        (segmentation, {}, Pixels(1), "Class 1 is predicted at no pixel of sample 0; the most frequent there: class 2, class 0. Give a mask"),
        (Detector, {"output": "heads.0.cls_logits"}, Box(16, 1), "There is no box 16; they go from 0 to 15"),
        (Detector, {"output": "heads.0.cls_logits"}, Box(1, 3), "from 0 to 2"),
        (classifier, {}, Similarity(torch.ones(4)), r"The vector has shape \(4,\); for these embeddings it must be \(5,\) or \(2, 5\)"),
        (classifier, {}, Similarity(torch.zeros(5)), "is zero, or holds NaN"),
        (classifier, {}, Similarity("text"), "must be a tensor or an array, not str"),
        (classifier, {}, Similarity(torch.ones(5), measure="cosin"), "is 'cosine' or 'dot', not 'cosin'"),
        (Tokens, {}, Neuron("nrom", 1), "no module 'nrom' with an output of its own. Did you mean 'norm'"),
        (classifier, {}, Output(1, reference=torch.nan), "The reference of an output is a number, not nan"),
        (classifier, {}, Output(1, reference="3"), "The reference of an output is a number, not '3'"),
        (Tokens, {}, Neuron(["norm"], 1), r"path of a module, not \['norm'\]"),
        (Tokens, {}, Neuron("norm", 1.5), "must be 2 integers, not 1.5"),
        (Tokens, {}, Neuron("norm", 6), "There is no channel 6; they go from 0 to 5"),
        (Tokens, {}, Neuron("norm", (4, 0)), "The unit 4×0 lies outside of the output of 4×6"),
        (Tokens, {}, Neuron("norm", (1,)), "The unit must be 2 integers"),
        (Tokens, {}, [Class(1)], "There are 1 targets for 2 samples"),
    ],
)  # fmt: skip
def test_every_misuse_gets_one_sentence(build, options, target, message):
    with pytest.raises(TargetError, match=message) as caught:
        relprop.explain(build(), X, target, **options)
    assert str(caught.value).endswith((".", "?"))


@pytest.mark.parametrize(
    ("method", "options", "target", "message"),
    [
        (
            "clrp",
            {},
            Contrast(),
            "compares the class with all others, and what is explained is no class among several; take lrp-zplus",
        ),
        ("abslrp", {}, Binary(1), "take abslrp-plain"),
        ("sglrp", {}, Similarity(torch.ones(5)), "take lrp-alpha1-beta0"),
        ("lrp-epsilon", {"start": "softmax"}, Neuron("0", 1), "take another start"),
        (
            "finer-cam",
            {},
            Contrast(),
            r"explains classes of an output \(batch, classes\); pass a class instead of class \d rather than",
        ),
        ("finer-cam", {}, Binary(1), "a label has none; take grad-cam"),
        (
            "rise",
            {},
            Output(1),
            "RISE weighs masks by the probability of a class, and what is explained has none; take score=logit",
        ),
    ],
)
def test_methods_that_need_several_classes_refuse_targets_without(method, options, target, message):
    with pytest.raises(TargetError, match=message):
        relprop.explain(classifier(), X, target, method=method, **options)


def test_integers_of_numpy_and_torch_are_integers():
    explainer = relprop.Explainer(classifier(), X, "gradient")
    assert torch.equal(explainer(X, Class(np.int64(3))).relevance, explainer(X, 3).relevance)
    ours, theirs = (explainer(X, Neuron("0", index)).relevance for index in (torch.tensor([1, 2, 3]), (1, np.int32(2), 3)))
    assert torch.equal(ours, theirs)
    assert explainer(X, Neuron("0", np.int64(1))).words == ("channel 1 of 0",) * 2


def test_a_map_of_one_logit_is_predicted_where_it_is_positive():
    model = segmentation(classes=1)
    found = relprop.explain(model, X, Pixels(0))
    logits = model(X)[:, 0]
    torch.testing.assert_close(found.value, torch.stack([one[one > 0].mean() for one in logits]).detach())


def test_the_only_number_needs_no_target():
    model = classifier(nn.Flatten(0), classes=1)
    found = relprop.explain(model, X)
    torch.testing.assert_close(found.value, model(X).detach())
    torch.testing.assert_close(found.probabilities, model(X).sigmoid().detach())


def test_an_explainer_holds_few_models_besides_its_own():
    explainer = relprop.Explainer(classifier(), X, "gradient")
    for reference in range(1, 20):
        explainer(X, Output(1, reference=reference))
    assert len(explainer._plans._readings) < 12
    assert explainer(X).target is not None


def test_boxes_go_by_the_names_in_the_config_of_a_detector():
    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.config = Detector(), SimpleNamespace(id2label={0: "cat", 1: "dog"})

        def forward(self, x):
            return self.model(x)["heads"][0]["cls_logits"]

    assert relprop.explain(Raw(), X, Box(3, "dog")).words == ("dog (class 1) at box 3",) * 2
    assert relprop.explain(Raw(), X, Box(3, 2)).words == ("no object (class 2) at box 3",) * 2
    assert relprop.explain(Raw(), X, "box:3,a", labels=["a", "b", "c"]).words == ("a (class 0) at box 3",) * 2
    with pytest.raises(InputError, match="There are 2 class names for a model of 3 classes"):
        relprop.capture(Raw(), X, labels=["a", "b"])


def test_one_target_per_sample():
    explainer = relprop.Explainer(classifier(), X, "lrp-epsilon", labels=LABELS)
    found = explainer(X, [Contrast("dog", "boat"), "output:2:reference=1"])
    assert found.words == ("dog (class 1) rather than boat (class 4)", "output 2 minus 1")
    torch.testing.assert_close(found.relevance[:1], explainer(X, Contrast(1, 4)).relevance[:1])
    torch.testing.assert_close(found.relevance[1:], explainer(X, Output(2, reference=1)).relevance[1:])
    torch.testing.assert_close(found.logits, classifier()(X).detach())
    with pytest.raises(
        TargetError, match="must read one output, and these read those of the model and '0'; explain them one by one"
    ):
        explainer(X, [Contrast(), "neuron:0,1"])
    assert explainer(X, ["dog", Contrast()]).target is None


def test_words_go_with_their_samples():
    explainer = relprop.Explainer(classifier(), X, labels=LABELS)
    found = explainer(X, [Class("dog"), "contrast:boat,horse"])
    assert found[1].words == ("boat (class 4) rather than horse (class 2)",)
    assert relprop.concatenate([found[1], found[0]]).words == found.words[::-1]
    assert "rather than" in repr(found[1])
    assert explainer(X, "tabby").words == ("tabby (class 0)",) * 2
    assert explainer(X, output_relevance=torch.ones(2, 5).double()).words == ()
    assert explainer(X, output_relevance=torch.ones(2, 5).double()).value is None


def test_pictures_say_what_is_explained(tmp_path):
    found = relprop.explain(classifier(), X, Contrast(1, 2))
    figure = found.plot()
    said = [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]
    assert any("class 1 rather than class 2" in text and "value" in text for text in said)
    assert "class 1 rather than class 2" in found._repr_html_()
    other = relprop.explain(classifier(), X, Contrast(1, 3))
    grid = plot_comparison({"rap": found, "same": found})
    assert any("class 1 rather than class 2" in text.get_text() for axes in grid.axes for text in axes.texts)
    with pytest.raises(InputError, match="is of another target than the first one"):
        plot_comparison({"rap": found, "other": other})
    found.save(tmp_path / "map.safetensors")
    assert (tmp_path / "map.safetensors").exists()


def test_averages_keep_the_pixels_of_the_input_itself():
    explainer = relprop.Explainer(segmentation(), X, "gradient", average={"noise": 0.5, "samples": 3})
    plain = relprop.explain(segmentation(), X, Pixels(2), method="gradient")
    assert explainer(X, Pixels(2)).words == plain.words
    moving = relprop.Explainer(segmentation(), X, "gradient", average={"shifts": 2})
    with pytest.raises(OptionError, match="moves what is explained, class 2 at the"):
        moving(X, Pixels(2))
    relprop.Explainer(classifier(), X, "gradient", average={"shifts": 2})(X, Contrast())


def test_traces_and_new_weights_follow_the_target():
    model = classifier()
    explainer = relprop.Explainer(model, X, "lrp-epsilon")
    before = explainer(X, Neuron("0", 1))
    assert str(explainer.trace(X, Neuron("0", 1), show=False))
    with torch.no_grad():
        model[0].weight.mul_(2)
    torch.testing.assert_close(explainer(X, Neuron("0", 1)).value + model[0].bias[1], 2 * before.value)
    single = explainer.float()
    assert single(X.float(), Neuron("0", 1)).relevance.dtype == torch.float32


def test_a_model_of_a_fixed_batch_takes_every_target():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = segmentation()

        def forward(self, x):
            return self.model(x.reshape(1, 3, 8, 8))

    mask = torch.rand(2, 4, 4)
    found = relprop.explain(Fixed(), X[:1], Pixels(1, mask=mask[:1]))
    torch.testing.assert_close(total(found), found.value)


def test_several_tensors_are_chosen_by_path():
    for output, shape in {"heads.0.cls_logits": (16, 3), "heads.0.bbox_regression": (16, 4), "features.0": (6, 4, 4)}.items():
        assert tuple(relprop.capture(Detector(), X, output=output).output.meta["val"].shape[1:]) == shape
    with pytest.raises(
        CaptureError, match=r"several tensors; choose one with output=…: 'heads.0.cls_logits', 'heads.0.bbox_regression', 'feat"
    ):
        relprop.capture(Detector(), X)
    with pytest.raises(CaptureError, match=r"no tensor 'heads.0.logits'.*Did you mean 'heads.0.cls_logits'"):
        relprop.capture(Detector(), X, output="heads.0.logits")


MODELS = """
import torch
from torch import nn
from relprop.zoo import Preprocessing

def pixels():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1))
    return model, Preprocessing(size=(16, 16), resize=16), ["wall", "cat", "dog"]

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    def forward(self, x):
        return {"out": self.body(x), "aux": [x.mean((2, 3))]}

def two():
    torch.manual_seed(0)
    return Two(), Preprocessing(size=(16, 16), resize=16)
"""


@pytest.fixture
def shell(tmp_path, monkeypatch):
    from PIL import Image
    from typer.testing import CliRunner

    from relprop.cli import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text(MODELS)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save("a.png")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_the_command_line_takes_every_target(shell):
    result = shell("explain", "a.png", "--model", "m.py:pixels", "--target", "pixels:cat:point=3x4", "--json", "-o", "out")
    assert result.exit_code == 0, result.output
    assert "cat (class 1) at pixel 3×4 (value" in " ".join(result.stdout.split())
    record = json.loads(next(iter(Path("out").glob("*.json"))).read_text())
    assert record["explained"][0]["target"] == "cat (class 1) at pixel 3×4"
    explained = record["explained"][0]
    assert explained["relevance"] + explained["absorbed"] == pytest.approx(explained["value"], rel=1e-4)
    assert record["predicted"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare", "a.png", "--methods", "rap,gradient", "--target", "contrast:0,1", "-o", "grid.png"), "2 explanations"),
        (("explain", "a.png", "--method", "rap,gradient", "--target", "neuron:body.0,1", "--html", "page.html"), "1 photo"),
        (("explain", "a.png", "--target", "output:2:reference=0.5", "--signs", "-o", "signs"), "output 2 minus 0.5"),
    ],
)
def test_every_command_takes_a_target_and_a_tensor(shell, arguments, said):
    result = shell(*arguments, "--model", "m.py:two", "--tensor", "out")
    assert result.exit_code == 0, result.output
    assert said in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "contrast:0,1", "--target", "2"), "'contrast:0,1' has one map of its own; give it alone"),
        (("--target", "contrast:0,1", "--against", "2"), "write --target contrast:A,B"),
        (("--tensor", "logits"), "no tensor 'logits'; choose one with output=…: 'out', 'aux.0'"),
    ],
)
def test_wrong_targets_on_the_command_line_get_one_sentence(shell, arguments, message):
    result = shell(
        "explain", "a.png", "--model", "m.py:two", *(arguments if "--tensor" in arguments else ("--tensor", "out", *arguments))
    )
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())


def test_a_segmentation_of_torchvision_goes_by_its_name(shell):
    models = import_torchvision().models.segmentation
    torch.manual_seed(0)
    model = models.fcn_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    torch.save(model.state_dict(), "fcn.pth")
    result = shell(
        *("explain", "a.png", "--model", "torchvision:fcn_resnet50=fcn.pth", "--size", "32", "--method", "gradient"),
        *("--target", "pixels:cat:point=3x4", "-o", "out"),
    )
    assert result.exit_code == 0, result.output
    assert "cat (class 8) at pixel 3×4" in " ".join(result.stdout.split())
    loaded = load("torchvision:lraspp_mobilenet_v3_large", pretrained=False)
    assert (loaded.output, loaded.labels[8], loaded.preprocessing.size) == ("out", "cat", (520, 520))
