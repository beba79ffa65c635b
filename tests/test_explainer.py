"""The public interface: targets, seeds, layers, inputs of every kind, what is left of the model, and what is refused."""

import dataclasses
import re

import pytest
import torch
from torch import nn

import relprop
from relprop.errors import CaptureError, InputError, ModelError, OptionError, TargetError, UnsupportedOpError
from relprop.ops.table import OPS
from tests.rules.reference import TIGHT, FixedBatch, check_conservation


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(16, 5)
    ).double()


X = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def explainer():
    return relprop.Explainer(small(), X[:1])


# --- targets, seeds, layers ------------------------------------------------------------------------------------------------------


def test_predicted_class_is_the_default(explainer):
    explanation = explainer(X)
    assert explanation.target.tolist() == explanation.logits.argmax(1).tolist()
    torch.testing.assert_close(explainer(X, explanation.target).relevance, explanation.relevance, rtol=0, atol=0)


def test_one_int_holds_for_all(explainer):
    assert explainer(X, 2).target.tolist() == [2, 2, 2]
    torch.testing.assert_close(explainer(X, torch.tensor(2)).relevance, explainer(X, [2, 2, 2]).relevance, rtol=0, atol=0)


def test_several_targets_share_a_pass(explainer):
    targets = torch.tensor([[0, 1], [4, 2], [3, 3]])
    several = explainer(X, targets, layers=["2"])
    assert several.relevance.shape == (3, 2, 2, 4, 4)
    assert several.absorbed.shape == (3, 2)
    assert several.heatmap().shape == (3, 2, 4, 4)
    check_conservation(several)
    for k in range(2):
        alone = explainer(X, targets[:, k], layers=["2"])
        torch.testing.assert_close(several.relevance[:, k], alone.relevance, **TIGHT)
        torch.testing.assert_close(several.layers["2"][:, k], alone.layers["2"], **TIGHT)


def test_seed_of_the_target_is_the_target(explainer):
    explanation = explainer(X, 1)
    seed = torch.zeros(3, 5).double()
    seed[:, 1] = explanation.logits[:, 1]
    seeded = explainer(X, output_relevance=seed)
    assert seeded.target is None
    torch.testing.assert_close(seeded.relevance, explanation.relevance, **TIGHT)
    twice = explainer(X, output_relevance=torch.stack([seed, 2 * seed], 1))
    torch.testing.assert_close(twice.relevance[:, 1], 2 * explanation.relevance, **TIGHT)


def test_layers_conserve_too(explainer):
    explanation = explainer(X, 0, layers=["2", "3", "0"])
    assert explanation.layers["2"].shape == (3, 4, 4, 4)
    assert explanation.layers["3"].shape == (3, 4, 2, 2)
    for relevance in explanation.layers.values():
        torch.testing.assert_close(relevance.flatten(1).sum(1), explanation.logits[:, 0], **TIGHT)


def test_heatmap_sums_channels(explainer):
    explanation = explainer(X)
    torch.testing.assert_close(explanation.heatmap(), explanation.relevance.sum(1))


def test_explain_is_the_explainer_once(explainer):
    torch.testing.assert_close(relprop.explain(small(), X, 3).relevance, explainer(X, 3).relevance, **TIGHT)


@pytest.mark.parametrize(
    "target",
    [5, -1, [0, 1], torch.zeros(3, 2, 2).long(), torch.zeros(3), "cat", [[0, 9]] * 3, torch.zeros(3, 0).long(), True, [], {}],
)
def test_targets_that_do_not_fit(explainer, target):
    with pytest.raises(TargetError):
        explainer(X, target)


@pytest.mark.parametrize(
    "seed", [torch.zeros(3, 4), torch.zeros(2, 5), torch.full((3, 5), torch.nan), [0.0], torch.zeros(3, 5) * 1j]
)
def test_seeds_that_do_not_fit(explainer, seed):
    with pytest.raises(TargetError):
        explainer(X, output_relevance=seed)


def test_target_and_seed_exclude_each_other(explainer):
    with pytest.raises(TargetError, match="not both"):
        explainer(X, 0, output_relevance=torch.zeros(3, 5))


@pytest.mark.parametrize("layers", ["0", None, [0]])
def test_layers_that_are_no_list_of_paths(explainer, layers):
    with pytest.raises(OptionError):
        explainer(X, layers=layers)


def test_unknown_layer_suggests(explainer):
    with pytest.raises(OptionError, match="No module 'conv'"):
        explainer(X, layers=["conv"])


# --- inputs ----------------------------------------------------------------------------------------------------------------------


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.context, self.head = nn.Linear(4, 3), nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, image, context=None, scale=1.0):
        x = self.image(image)
        return self.head(torch.relu(x if context is None else x + scale * self.context(context)))


IMAGE, CONTEXT = torch.randn(3, 4).double(), torch.randn(3, 2).double()


def test_several_inputs_give_a_tuple():
    explanation = relprop.explain(Two().double(), (IMAGE, CONTEXT), 1)
    assert [r.shape for r in explanation.relevance] == [(3, 4), (3, 2)]
    check_conservation(explanation)


def test_keyword_inputs_give_a_dict():
    explanation = relprop.explain(Two().double(), {"context": CONTEXT, "image": IMAGE, "scale": 2.0}, 1)
    assert set(explanation.relevance) == {"context", "image"}
    total = sum(r.sum(1) for r in explanation.relevance.values()) + explanation.absorbed
    torch.testing.assert_close(total, explanation.logits[:, 1], **TIGHT)


def test_lists_of_arguments_and_batch_of_one():
    explainer = relprop.Explainer(Two().double(), [IMAGE[:1], CONTEXT[:1]])
    alone = explainer([IMAGE[:1], CONTEXT[:1]], 0).relevance
    torch.testing.assert_close(alone[0], explainer([IMAGE, CONTEXT], 0).relevance[0][:1], **TIGHT)


@dataclasses.dataclass
class ImageClassifierOutput:
    logits: torch.Tensor
    hidden_states: torch.Tensor | None = None


class Returning(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.layer, self.wrap = nn.Linear(4, 3), wrap

    def forward(self, x):
        return self.wrap(self.layer(x))


OUTPUTS = {
    "tuple of one": lambda y: (y,),
    "dict": lambda y: {"logits": y, "features": y * 2},
    "dict of one": lambda y: {"scores": y},
    "dataclass": ImageClassifierOutput,
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_with_logits(name):
    if name == "dataclass":
        torch.export.register_dataclass(ImageClassifierOutput, serialized_type_name="tests.ImageClassifierOutput")
    explanation = relprop.explain(Returning(OUTPUTS[name]).double(), IMAGE, 1)
    assert explanation.logits.shape == (3, 3)
    check_conservation(explanation)


def test_choice_of_an_output():
    model = Returning(lambda y: (y, y * 2)).double()
    with pytest.raises(CaptureError, match="output="):
        relprop.explain(model, IMAGE)
    first, second = (relprop.explain(model, IMAGE, 0, output=i).logits for i in (0, 1))
    torch.testing.assert_close(second, 2 * first)


def test_an_output_that_is_no_tensor():
    with pytest.raises(CaptureError, match="no tensor"):
        relprop.explain(Returning(lambda y: {"n": y.shape[1]}), IMAGE.float())


def test_integer_input_gets_a_note():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 3))
    explanation = relprop.explain(model, torch.tensor([[1, 2], [0, 4]]), 0)
    assert explanation.relevance.shape == (2, 2, 4)
    assert "not floating point" in explanation.notes[0]


@pytest.mark.parametrize("tokens_apart", [False, True])
def test_tokens_looked_up_with_time_first(tokens_apart):
    class TimeFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

        def forward(self, ids):
            found = self.words(ids.t().flatten()).unflatten(0, (3, -1)) if tokens_apart else self.words(ids.t())
            return self.head(found.relu().sum(0))

    model, ids = TimeFirst().double().eval(), torch.tensor([[1, 2, 5], [0, 4, 7]])
    plain = nn.Sequential(model.words, nn.ReLU(), SumTokens(), model.head)
    for method in ("rap", "lrp-epsilon"):
        found, expected = (relprop.explain(m, ids, 0, method=method) for m in (model, plain))
        relevance = found.relevance
        assert relevance.shape[0] == 2
        torch.testing.assert_close(relevance.reshape(2, 3, 4), expected.relevance)
        torch.testing.assert_close(relevance.reshape(2, -1).sum(1) + found.absorbed, found.logits[:, 0])


class SumTokens(nn.Module):
    def forward(self, x):
        return x.sum(1)


def test_integer_image_that_is_cast():
    class Casting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return self.layer(x.float() / 255)

    explanation = relprop.explain(Casting(), torch.randint(0, 255, (2, 4), dtype=torch.uint8), 0)
    assert explanation.relevance.shape == (2, 4)
    assert explanation.notes


def test_final_softmax_is_taken_off_with_a_note():
    model = nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1)).double()
    explanation = relprop.explain(model, IMAGE, 1)
    torch.testing.assert_close(explanation.logits, model[0](IMAGE).detach(), **TIGHT)
    assert any("softmax" in note for note in explanation.notes)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (X[:, :1], "captured for"),
        (X[0], "captured for"),
        (X.float(), "float32"),
        (X.long(), "int64"),
        (X[:0], "empty"),
        (X.masked_fill(X > 1, torch.nan), "NaN"),
        (X.masked_fill(X > 1, torch.inf), "infinite"),
        ((X, X), "Expected"),
        ({"x": X}, "Expected"),
        ("photo.jpg", "must be a tensor"),
        ([], "no tensor"),
        (torch.tensor(1.0), "batch"),
        (X.to("meta"), "meta device"),
        (X.to_sparse(), "to_dense"),
    ],
)
def test_inputs_that_do_not_fit(explainer, inputs, words):
    with pytest.raises(InputError, match=words):
        explainer(inputs)


# --- methods and options -----------------------------------------------------------------------------------------------------------


def test_unknown_method_suggests():
    with pytest.raises(OptionError, match=r"Unknown method 'rapp'.*'rap'"):
        relprop.Explainer(small(), X, "rapp")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"varient": "paper"}, "variant"),
        ({"variant": "papr"}, "paper"),
        ({"add": "postive"}, "positive"),
        ({"low": 0.0}, "both"),
        ({"low": "0", "high": 1.0}, "must be"),
        ({"start": 3}, "must be one of"),
        ({"low": -torch.inf, "high": 1.0}, "finite"),
        ({"low": 1.0, "high": torch.tensor(0.0)}, "above"),
    ],
)
def test_unknown_options_suggest(options, words):
    with pytest.raises(OptionError, match=words):
        relprop.Explainer(small(), X, **options)


# --- models that are refused -------------------------------------------------------------------------------------------------------


def test_a_model_that_is_none():
    with pytest.raises(ModelError, match=r"torch\.nn\.Module"):
        relprop.Explainer(lambda x: x, X)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_broken_weights_are_named(value):
    model = small()
    with torch.no_grad():
        model[6].weight[0, 0] = value
    with pytest.raises(InputError, match=r"6\.weight"):
        relprop.Explainer(model, X)


@pytest.mark.parametrize("model", [nn.LazyLinear(3), nn.Linear(4, 3, device="meta")], ids=["lazy", "meta"])
def test_weights_without_values_are_named(model):
    with pytest.raises(InputError, match=r"'weight' has no values"):
        relprop.Explainer(model, IMAGE)


def test_bounds_of_another_shape_are_refused():
    explainer = relprop.Explainer(small(), X, low=torch.zeros(7), high=torch.ones(7))
    with pytest.raises(OptionError, match=r"shape \(7,\).*2×4×4"):
        explainer(X)


class Unexportable(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        y = self.layer(x)
        if y.sum() > 0:  # the line that breaks it
            return y
        return -y


def test_a_model_that_cannot_be_exported_names_the_line(capsys):
    with pytest.raises(CaptureError, match=r"test_explainer\.py:\d+.*y\.sum\(\) > 0") as caught:
        relprop.Explainer(Unexportable(), IMAGE.float())
    assert "\n" not in str(caught.value)
    assert not capsys.readouterr().err  # torch prints a draft of the graph


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("convert", [torch.jit.script, lambda model: torch.jit.freeze(torch.jit.trace(model.eval(), X))])
def test_scripted_models_are_refused(convert):
    with pytest.raises(CaptureError, match=r"\(module '1'\) cannot be captured; give the nn\.Module"):
        relprop.Explainer(nn.Sequential(nn.Identity(), convert(small())), X[:1])


def test_an_example_that_does_not_fit_the_model():
    with pytest.raises(CaptureError, match=r"fails on these inputs, in 0: RuntimeError: Given groups=1"):
        relprop.Explainer(small(), X[:, :1])


class Comparing(nn.Module):
    def forward(self, x):
        return (x > 0).to(x.dtype)


def test_an_output_of_comparisons_is_refused():
    with pytest.raises(UnsupportedOpError, match="comparisons"):
        relprop.Explainer(nn.Sequential(nn.Linear(4, 4), Comparing()), IMAGE.float())


class Choosing(nn.Module):
    def forward(self, x):
        return x.masked_select(x > 0).sum().expand(x.shape[0], 2)


def test_a_size_that_depends_on_values_is_refused():
    with pytest.raises(UnsupportedOpError, match=r"size of what aten::masked_select \(in 1\)"):
        relprop.Explainer(nn.Sequential(nn.Linear(4, 4), Choosing()), IMAGE.float())


class Bicubic(nn.Module):
    def forward(self, x):
        return nn.functional.grid_sample(
            x.reshape(-1, 1, 2, 2), torch.zeros(len(x), 1, 4, 2).to(x), "bicubic", align_corners=False
        ).flatten(1)


def test_a_call_that_the_table_does_not_cover_says_why():
    with pytest.raises(UnsupportedOpError, match=r"grid_sampler with mode='bicubic' \(in 1\)"):
        relprop.Explainer(nn.Sequential(nn.Linear(4, 4), Bicubic(), nn.Linear(4, 2)), IMAGE.float())


class Odd(nn.Module):
    def forward(self, x):
        return x.digamma()


@pytest.mark.parametrize("reduce", ["add", "multiply"])
def test_scatter_that_does_not_overwrite_is_refused(reduce):
    class Scattering(nn.Module):
        def forward(self, x):
            return x.scatter(1, torch.zeros_like(x[:, :1], dtype=torch.long), 2.0, reduce=reduce)

    model = nn.Sequential(nn.Linear(4, 4), Scattering(), nn.Linear(4, 2)).double()
    with pytest.raises(UnsupportedOpError, match=rf"scatter with reduce='{reduce}' \(in 1\)"):
        relprop.Explainer(model, IMAGE)


def test_ops_without_a_rule_are_all_listed():
    model = nn.Sequential(nn.Linear(4, 4), Odd(), nn.Linear(4, 4), nn.ModuleDict({"inner": Odd()})["inner"], nn.Linear(4, 2))
    with pytest.raises(UnsupportedOpError) as caught:
        relprop.Explainer(model, IMAGE.float())
    message = str(caught.value)
    assert "2 ops" in message
    assert message.count("aten::digamma") == 2
    assert re.search(r"in 1\).*in 3\)", message)
    assert "register_op" in message


def test_registered_op_works():
    seen = []

    def backward(call, relevance):
        seen.append(call.function)
        return {"self": relevance}

    try:
        relprop.register_op("aten::digamma", backward, needs=())
        model = nn.Sequential(nn.Linear(4, 4), Odd(), nn.Linear(4, 2)).double()
        for method in ("rap", "lrp-epsilon", "abslrp-plain"):
            explanation = relprop.explain(model, IMAGE, 0, method=method)
            assert seen.pop() is torch.ops.aten.digamma.default, method
            if method != "abslrp-plain":
                check_conservation(explanation)
    finally:
        OPS.pop("aten::digamma", None)


def test_registering_nonsense():
    with pytest.raises(OptionError, match="namespace"):
        relprop.register_op("digamma")
    with pytest.raises(OptionError, match="Unknown role"):
        relprop.register_op("aten::digamma", role="activtion")
    with pytest.raises(OptionError, match="linear"):
        relprop.register_op("aten::digamma", role="conv")


class Mixing(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


def test_a_model_that_mixes_samples_is_refused():
    with pytest.raises(UnsupportedOpError, match="mix"):
        relprop.Explainer(nn.Sequential(nn.Linear(4, 4), Mixing(), nn.Linear(4, 2)), IMAGE.float())


def test_a_fixed_batch_runs_one_sample_at_a_time():
    explainer = relprop.Explainer(FixedBatch().double(), IMAGE)
    explanation = explainer(IMAGE, torch.tensor([0, 1, 0]))
    assert explanation.relevance.shape == (3, 4)
    assert any("one at a time" in note for note in explanation.notes)
    check_conservation(explanation)
    for target in (None, 1, torch.tensor([[0, 1]] * 3)):
        check_conservation(explainer(IMAGE, target))
    with pytest.raises(TargetError):
        explainer(IMAGE, torch.tensor([0, 1]))


# --- the plan and the trace --------------------------------------------------------------------------------------------------------


def test_plan_prints_every_op(explainer):
    lines = str(explainer.plan).splitlines()
    assert lines[0].split() == ["module", "op", "role", "rule", "output"]
    table = {line.split()[0]: line.split()[1:] for line in lines[2:]}
    assert table["0"] == ["conv2d", "input", "zbox", "B×4×4×4"]
    assert table["6"] == ["linear", "output", "absolute", "B×5"]
    assert table["3"][:2] == ["max_pool2d", "select"]
    assert "1" not in table  # BatchNorm is folded


def test_trace_conserves_at_every_op(explainer, capsys):
    table = explainer.trace(X, 1)
    printed = capsys.readouterr().out
    assert printed.strip() == str(table).strip()
    assert "conv2d" in printed


# --- what is left of the model -------------------------------------------------------------------------------------------------------


def state_of(model):
    return {
        "tensors": {name: (t.data_ptr(), t.detach().clone(), t._version) for name, t in model.state_dict(keep_vars=True).items()},
        "training": [m.training for m in model.modules()],
        "gradients": [(p.requires_grad, p.grad) for p in model.parameters()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
    }


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model = small().train(training)
    model[3].eval()
    model[0].weight.requires_grad_(False)
    before = state_of(model)
    explainer = relprop.Explainer(model, X)
    explainer(X, layers=["2"])
    after = state_of(model)
    for key in ("training", "gradients", "hooks", "attributes"):
        assert after[key] == before[key]
    for name, (address, tensor, version) in after["tensors"].items():
        assert version == before["tensors"][name][2], name
        torch.testing.assert_close(tensor, before["tensors"][name][1], rtol=0, atol=0)
        assert address == model.state_dict()[name].data_ptr()


def test_a_model_in_training_mode_is_explained_in_evaluation_mode():
    torch.testing.assert_close(
        relprop.explain(small().train(), X, 0).relevance, relprop.explain(small().eval(), X, 0).relevance, rtol=0, atol=0
    )


def test_weights_are_shared_where_nothing_folds():
    model = small()
    explainer = relprop.Explainer(model, X)
    pointers = {b.data_ptr() for b in explainer.buffers()}
    assert model[6].weight.data_ptr() in pointers
    assert model[0].weight.data_ptr() not in pointers
    assert not list(explainer.parameters())


def test_inputs_are_left_as_they_were(explainer):
    x = X.clone().requires_grad_()
    explainer(x)
    torch.testing.assert_close(x.detach(), X, rtol=0, atol=0)
    assert x.grad is None


def test_nothing_requires_a_gradient(explainer):
    explanation = explainer(X)
    assert not explanation.relevance.requires_grad
    assert not explanation.logits.requires_grad


def test_a_failed_capture_leaves_the_model_alone():
    model = Unexportable().train()
    with pytest.raises(CaptureError):
        relprop.Explainer(model, IMAGE.float())
    assert model.training
    assert model.layer.training


# --- elsewhere ---------------------------------------------------------------------------------------------------------------------


def test_half_precision():
    model, x = small().bfloat16(), X.bfloat16()
    explanation = relprop.explain(model, x, 0)
    assert explanation.relevance.dtype == explanation.logits.dtype == torch.float32
    assert torch.isfinite(explanation.relevance).all()


def test_channels_last_is_the_same(explainer):
    torch.testing.assert_close(
        explainer(X.to(memory_format=torch.channels_last), 1).relevance, explainer(X, 1).relevance, **TIGHT
    )


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(backend):
    explainer = relprop.Explainer(small(), X)
    expected = explainer(X, 1)
    compiled = torch.compile(explainer, backend=backend)
    torch.testing.assert_close(compiled(X, 1).relevance, expected.relevance, **TIGHT)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_moves_to_a_device_and_leaves_the_model():
    model = small()
    explainer = relprop.Explainer(model, X)
    expected = explainer(X, 1).relevance
    moved = explainer.to("cuda")
    torch.testing.assert_close(moved(X.cuda(), 1).relevance.cpu(), expected, rtol=1e-6, atol=1e-8)
    assert model[0].weight.device.type == "cpu"
