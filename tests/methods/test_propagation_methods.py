"""Methods as data: the registry, methods of one's own in Python and in TOML files, added constants, several targets, conservation."""

import dataclasses
import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typer.testing import CliRunner

import relprop
from relprop import rules
from relprop.cli import app
from relprop.errors import OptionError
from relprop.methods import METHODS, STARTS, Method, make_method
from tests.rules.reference import check_conservation

FAMILY = [
    name
    for name, entry in METHODS.items()
    if "patterns" not in entry.options and isinstance(method := entry.build(), Method) and method.needs is None
]


class Net(nn.Module):
    """Conv layers, a residual sum, BatchNorm, max pooling, an average, an added constant and two dense layers."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.block, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))

    def forward(self, x):
        y = self.features(x)
        return self.head((y + torch.relu(self.block(y)) + 0.5).mean((2, 3)))


@pytest.fixture(scope="module")
def problem():
    torch.manual_seed(0)
    return Net().double().eval(), torch.rand(2, 3, 8, 8).double()


def rules_of(explainer):
    return {
        (step.path, step.op.removeprefix("aten::")): step.rule
        for step in explainer.plan.steps
        if step.rule not in {"", "move", "pass"}
    }


@pytest.mark.parametrize("name", METHODS)
def test_every_entry_is_documented(name):
    entry = METHODS[name]
    assert entry.summary
    assert entry.source
    assert inspect.getdoc(entry.build)


def test_the_command_line_prints_every_method_and_option():
    printed = CliRunner().invoke(app, ["methods"]).output
    for name, entry in METHODS.items():
        assert name in printed
        assert all(f"--option {option}=" in printed for option in entry.options)


_OTHER_STARTS = {"rap-regional": "mean", "excitation-backprop": "one", "clrp": "clrp", "sglrp": "sglrp"}


@pytest.mark.parametrize("name", FAMILY)
def test_several_targets_and_conservation(problem, name):
    model, x = problem
    explainer = relprop.Explainer(model, x, name)
    targets = torch.tensor([[0, 3, 4], [2, 2, 1]])
    several = explainer(x, targets)
    for k in range(3):
        one = explainer(x, targets[:, k])
        torch.testing.assert_close(several.relevance[:, k], one.relevance, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(several.absorbed[:, k], one.absorbed, rtol=1e-9, atol=1e-12)
    if explainer.plan.method.conserves:
        check_conservation(several, start=_OTHER_STARTS.get(name, "logit"))


@pytest.mark.parametrize("start", STARTS)
def test_what_the_start_makes_of_the_logits_is_conserved(problem, start):
    model, x = problem
    several = relprop.explain(model, x, torch.tensor([[0, 3, 4], [2, 2, 1]]), method="lrp-epsilon", start=start)
    check_conservation(several, 1e-6, start)


def test_rules_by_role_op_and_path(problem):
    model, x = problem
    table = {"dense": rules.epsilon(), "conv": rules.gamma(0.1), "add": rules.split_sum("absolute")}
    method = relprop.Method(
        "mine", table, by_op={"mean": rules.zplus()}, by_path={"features": rules.flat(), "head.?": rules.wsquare()}
    )
    found = rules_of(relprop.Explainer(model, x, method))
    assert found[("features.0", "conv2d")] == "flat"
    assert found[("block", "conv2d")] == "gamma"
    assert found[("head.0", "linear")] == found[("head.2", "linear")] == "wsquare"
    assert found[("", "mean")] == "zplus"
    assert found[("", "add")] == "split by absolute"
    check_conservation(relprop.explain(model, x, 1, method=method))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Method("m", {"dens": rules.flat()}), "unknown role 'dens'. Did you mean 'dense'"),
        (lambda: Method("m", {"dense": rules.flat}), "must be a rule of relprop.rules or its name, not <function"),
    ],
)
def test_methods_that_cannot_be(build, message):
    with pytest.raises(OptionError, match=message):
        build()


def test_methods_that_do_not_fit_the_model(problem):
    table = {"dense": rules.epsilon(), "conv": rules.epsilon()}
    for more, message in (
        ({"by_path": {"blok": rules.flat()}}, "Did you mean 'block'"),
        ({"by_op": {"meen": rules.flat()}}, "Did you mean 'mean'"),
    ):
        with pytest.raises(OptionError, match=message):
            relprop.Explainer(*problem, relprop.Method("mine", table, **more))
    with pytest.raises(OptionError, match="is complete; it takes no options"):
        relprop.Explainer(*problem, relprop.Method("mine", table), epsilon=1)
    with pytest.raises(OptionError, match="must be a name, a TOML file"):
        relprop.Explainer(*problem, 3)


def written(folder, text):
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return path


def test_toml_equals_python(problem, tmp_path):
    path = written(
        tmp_path,
        """
        base = "epsilon-plus"
        bounds = [0.0, 1.0]
        [options]
        epsilon = 0.1
        constants = "leave out"
        [rules]
        conv = { rule = "gamma", gamma = 0.5 }
        pool = "zplus"
        [by_op]
        mean = "flat"
        [by_path]
        "features.0" = { rule = "zbox" }
        """,
    )
    table = {"dense": rules.epsilon(0.1), "conv": rules.gamma(0.5), "pool": rules.zplus()}
    method = relprop.Method("mine", table, by_op={"mean": rules.flat()}, by_path={"features.0": rules.zbox()}, bounds=(0.0, 1.0))
    model, x = problem
    found = relprop.explain(model, x, 1, method=path)
    torch.testing.assert_close(found.relevance, relprop.explain(model, x, 1, method=method).relevance, rtol=1e-9, atol=1e-12)
    assert found.method == "mine"
    other = relprop.explain(model, x, 1, method=str(path), epsilon=0.5)  # options of a call go before those of the file
    assert not torch.allclose(other.relevance, found.relevance)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = ", "is not valid TOML"),
        ("name = 'x'", "neither a base, such as"),
        ("base = 'lrp-epsilom'", "Unknown method 'lrp-epsilom'. Did you mean 'lrp-epsilon'"),
        ("base = 'gradient'", "does not propagate relevance by rules"),
        ("base = 'lrp-epsilon'\nrule = 1", "Unknown key 'rule'. Did you mean 'rules'"),
        ("base = 'lrp-epsilon'\nrules = 1", "rules must be a table, not 1"),
        ("base = 'lrp-epsilon'\nbounds = [1]", "bounds must be two numbers"),
        ("base = 'lrp-epsilon'\nbounds = [1, 0]", "low must not be above high"),
        ("base = 'lrp-epsilon'\n[options]\nepsilo = 1", "has no option 'epsilo'. Did you mean 'epsilon'"),
        ("base = 'lrp-epsilon'\n[rules]\nkonv = 'flat'", "unknown role 'konv'. Did you mean 'conv'"),
        ("base = 'lrp-epsilon'\n[rules]\nconv = 'flatt'", "unknown rule 'flatt'. Did you mean 'flat'"),
        ("base = 'lrp-epsilon'\n[rules]\nconv = 3", "conv must be a rule, such as"),
        ("base = 'lrp-epsilon'\n[rules]\nconv = {rule = 'gamma', gama = 1}", "has no option 'gama'. Did you mean 'gamma'"),
        ("base = 'lrp-epsilon'\n[rules]\nconv = {rule = 'gamma', gamma = 'x'}", "Option gamma='x' of rule 'gamma'"),
        ("base = 'lrp-epsilon'\n[rules]\nconv = {rule = 'gamma', gamma = -1}", "must not be negative"),
    ],
)
def test_toml_errors_say_where_and_what(problem, tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(OptionError, match=message) as error:
        relprop.Explainer(*problem, path)
    assert str(path) in str(error.value)


def test_toml_file_that_is_not_there(problem, tmp_path):
    with pytest.raises(OptionError, match="There is no method file"):
        relprop.Explainer(*problem, tmp_path / "absent.toml")


@pytest.mark.parametrize("name", ["lrp-epsilon", "lrp-zplus", "rap"])
def test_constants_absorb_their_share_or_are_left_out(name):
    torch.manual_seed(1)
    head = nn.Linear(4, 3, bias=False).double()

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.pre, self.head = nn.Linear(4, 4, bias=False).double(), head

        def forward(self, x):
            return self.head(torch.relu(self.pre(x)) + 0.5)

    x = torch.rand(2, 4).double()
    model = Shifted()
    both = [
        relprop.explain(model, x, 1, method=name, constants=c, add="positive", layers=("pre",)).layers["pre"]
        for c in ("leave out", "absorb")
    ]
    value = torch.relu(model.pre(x)).detach()
    torch.testing.assert_close(both[1], both[0] * value / (value + 0.5), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["lrp-epsilon", "lrp-alpha2-beta1", "attnlrp"])
@pytest.mark.parametrize(("choice", "rule"), [("zbox", rules.zbox()), ("flat", rules.flat()), ("wsquare", rules.wsquare())])
def test_the_first_layer_may_take_a_rule_of_its_own(problem, name, choice, rule):
    model, x = problem
    found = relprop.explain(model, x, method=name, input_rule=choice)
    composed = Method("composed", {**make_method(name, {}).rules, "input": rule}, by_op=make_method(name, {}).by_op)
    torch.testing.assert_close(found.relevance, relprop.explain(model, x, method=composed).relevance)
    check_conservation(found)


def test_deep_taylor_is_alpha1_beta0_without_biases_behind_the_box_rule(problem):
    model, x = problem
    options = {"bias": "leave out", "constants": "leave out", "input_rule": "zbox", "epsilon": 0.0}
    ours = relprop.explain(model, x, method="lrp-alpha1-beta0", **options)
    torch.testing.assert_close(ours.relevance, relprop.explain(model, x, method="deep-taylor").relevance)


class Token(nn.Module):
    """One attention layer on tokens behind a shifted input and position embeddings."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.head = nn.Linear(4, 6), nn.Linear(6, 18), nn.Linear(6, 3)
        self.position, self.shift = nn.Parameter(torch.randn(5, 6)), 0.5

    def forward(self, x):
        query, key, value = self.qkv(self.embed(x - self.shift) + self.position).chunk(3, -1)
        weights = (query @ key.mT / 6**0.5).softmax(-1)
        return self.head((weights @ value).mean(1))


@pytest.fixture
def tokens():
    torch.manual_seed(3)
    return Token().double(), torch.rand(2, 5, 4).double()


@pytest.mark.parametrize("name", ["lrp-zplus", "lrp-alpha1-beta0", "deep-taylor", "clrp", "sglrp", "lrp-epsilon", "epsilon-plus"])
def test_attention_weights_take_half_or_nothing(tokens, name):
    model, x = tokens
    plans = {choice: str(relprop.Explainer(model, x, name, attention=choice).plan) for choice in ("half", "constant")}
    assert "softmax" in plans["half"]
    usual = "constant" if "epsilon" in name else "half"
    assert str(relprop.Explainer(model, x, name).plan) == plans[usual]
    found = {choice: relprop.explain(model, x, 1, method=name, attention=choice) for choice in plans}
    assert not torch.allclose(found["half"].relevance, found["constant"].relevance)
    if name not in {"clrp", "sglrp"}:
        for explanation in found.values():
            check_conservation(explanation)


def test_half_of_the_relevance_goes_to_the_attention_weights(tokens):
    model, x = tokens
    by_hand = make_method("lrp-zplus", {"attention": "constant"})
    rule = dataclasses.replace(by_hand.rules["attention"], all_operands=True)
    composed = dataclasses.replace(by_hand, rules={**by_hand.rules, "attention": rule})
    expected = relprop.explain(model, x, 1, method=composed).relevance
    torch.testing.assert_close(relprop.explain(model, x, 1, method="lrp-zplus").relevance, expected)


@pytest.mark.parametrize("name", ["lrp-epsilon", "attnlrp", "lrp-zplus"])
def test_constants_that_prepare_the_input_take_nothing(tokens, name):
    """The relevance of an input that the model shifts is that of the shifted input; position embeddings take their share."""
    model, x = tokens
    shifted = relprop.explain(model, x, 1, method=name)
    model.shift = 0.0
    torch.testing.assert_close(shifted.relevance, relprop.explain(model, x - 0.5, 1, method=name).relevance)
    left_out = relprop.explain(model, x - 0.5, 1, method=name, constants="leave out")
    assert not torch.allclose(shifted.relevance, left_out.relevance)


def sums_of(explainer):
    return [str(s.rule) for s in explainer.plan.steps if s.role in {"add", "bias"} and s.rule]


@pytest.mark.parametrize("name", ["lrp-epsilon", "epsilon-plus", "lrp-gamma"])
def test_sums_split_otherwise_in_models_with_attention(problem, tokens, name, tmp_path):
    assert set(sums_of(relprop.Explainer(*problem, name))) == {"split by signed"}
    assert set(sums_of(relprop.Explainer(*tokens, name))) == {"split by absolute"}
    assert set(sums_of(relprop.Explainer(*tokens, name, add="signed"))) == {"split by signed"}
    found = relprop.explain(*tokens, 1, method=name)
    torch.testing.assert_close(found.relevance, relprop.explain(*tokens, 1, method=name, add="absolute").relevance)
    check_conservation(found)
    path = written(
        tmp_path,
        f"""
        base = "{name}"
        [rules]
        bias = {{ rule = "split", treatment = "positive" }}
    """,
    )
    assert set(sums_of(relprop.Explainer(*tokens, path))) == {"split by positive"}


@pytest.mark.parametrize("name", ["attnlrp", "cp-lrp"])
def test_published_transformer_methods_split_sums_by_signed_value(tokens, name):
    assert set(sums_of(relprop.Explainer(*tokens, name))) == {"split by signed"}


def test_max_pooling_of_abslrp_follows_the_model(tmp_path):
    class Pooled(nn.Module):
        def __init__(self, *, residual: bool) -> None:
            super().__init__()
            self.conv, self.head, self.residual = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 4 * 4, 5), residual

        def forward(self, x: Tensor) -> Tensor:
            h = F.max_pool2d(F.relu(self.conv(x)), 2)
            return self.head((h + F.relu(h) if self.residual else h).flatten(1))

    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    file = tmp_path / "own.toml"
    file.write_text('base = "abslrp-plain"\n[rules]\nselect = {rule = "abslrp", max_pooling = "weighted"}\n', "utf-8")
    for residual, usual in ((False, "weighted"), (True, "divided")):
        torch.manual_seed(0)
        model = Pooled(residual=residual).double().eval()
        maps = {
            name: relprop.explain(model, x, 1, method="abslrp-plain", max_pooling=name).relevance
            for name in ("usual", "divided", "weighted")
        }
        torch.testing.assert_close(maps["usual"], maps[usual])
        assert not torch.allclose(maps["divided"], maps["weighted"])
        torch.testing.assert_close(relprop.explain(model, x, 1, method=file).relevance, maps["weighted"])


def test_rules_with_attention_that_cannot_be():
    with pytest.raises(OptionError, match="unknown role 'adds'"):
        Method("m", {"dense": rules.flat()}, with_attention={"adds": rules.flat()})
    with pytest.raises(OptionError, match=r"with_attention\['add'\]: unknown rule 'flatt'. Did you mean 'flat'"):
        Method("m", {"dense": rules.flat()}, with_attention={"add": "flatt"})
