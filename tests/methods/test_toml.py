"""Methods from TOML files, from the command line; and the page that describes them."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import relprop
from relprop import rules
from relprop.cli import app
from relprop.errors import OptionError
from relprop.images import open_photo
from relprop.methods.toml import _KEYS
from relprop.ops.op import Role
from relprop.rules import RULES
from relprop.zoo import load
from tests.files import MODELS, ROOT, save_photos

PAGE = (ROOT / "docs" / "toml.md").read_text("utf-8")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model file, a photo and the page's example, as the current one."""
    (tmp_path / "m.py").write_text(MODELS)
    save_photos(tmp_path, "cat.png")
    (tmp_path / "mine.toml").write_text(re.findall(r"```toml[^\n]*\n(.*?)```", PAGE, re.DOTALL)[0], "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [*arguments, "--model", "m.py:large"])


def explained(**options):
    loaded = load("m.py:large")
    inputs = loaded.preprocessing.tensor(open_photo("cat.png").image)[None]
    return relprop.explain(loaded.model, inputs, method="mine.toml", **options).relevance[0].numpy()


def test_the_page_tells_every_key_role_and_rule_with_its_defaults():
    tables = PAGE.split("## Rules")
    assert all(f"`{key}`" in tables[0] or f"`[{key}]`" in tables[0] for key in _KEYS)
    assert all(f"`{role}`" in tables[0] for role in set(Role) - {Role.SHAPE, Role.BLOCK})
    rows = {cells[1].strip(" `"): cells[2] for cells in (line.split("|") for line in tables[1].splitlines()) if len(cells) > 3}
    for name, make in RULES.items():
        for option, parameter in inspect.signature(make).parameters.items():
            written = re.search(rf"`{option} = ([^`]+)`", rows[name])
            assert written, f"{name}: {option} is missing"
            told = {"true": True, "false": False}.get(written[1], written[1].strip('"'))
            assert type(parameter.default)(told) == parameter.default


@pytest.mark.usefixtures("folder")
def test_the_example_explains_a_photo():
    result = run("explain", "cat.png", "--method", "mine.toml", "--npy", "-o", "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("out").iterdir()) == ["cat-mine.npy", "cat-mine.png"]
    relevance = np.load("out/cat-mine.npy")
    np.testing.assert_allclose(relevance, explained(), rtol=1e-5, atol=1e-8)
    plain = run("explain", "cat.png", "--method", "epsilon-plus", "--npy", "-o", "out")
    assert plain.exit_code == 0
    assert not np.allclose(relevance, np.load("out/cat-epsilon-plus.npy"))


@pytest.mark.usefixtures("folder")
def test_a_file_in_another_folder_names_pictures_by_its_own_name():
    Path("sub").mkdir()
    Path("mine.toml").rename("sub/mine.toml")
    result = run("explain", "cat.png", "--method", "sub/mine.toml", "-o", "out")
    assert result.exit_code == 0, result.output
    assert [path.name for path in Path("out").iterdir()] == ["cat-mine.png"]


@pytest.mark.usefixtures("folder")
def test_options_of_the_command_line_go_before_the_files():
    result = run("explain", "cat.png", "--method", "mine.toml", "--option", "epsilon=0.5", "--npy", "-o", "out.png")
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(np.load("out.npy"), explained(epsilon=0.5), rtol=1e-5, atol=1e-8)
    assert not np.allclose(np.load("out.npy"), explained())


@pytest.mark.usefixtures("folder")
def test_inspect_shows_its_rules():
    result = run("inspect", "--method", "mine.toml")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.startswith(("features", "classifier"))}
    assert rows["features.0"][3] == "zbox"
    assert rows["features.2"][3] == "alpha2-beta1"
    assert rows["classifier"][3] == "epsilon"


@pytest.mark.usefixtures("folder")
def test_compare_draws_it_beside_others():
    arguments = ("--methods", "epsilon-plus,mine.toml", "--option", "mine.toml:epsilon=0.01", "-o", "out.png")
    result = run("compare", "cat.png", *arguments)
    assert result.exit_code == 0, result.output
    assert "2 explanations" in result.stdout


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = ", "is not valid TOML"),
        ('name = "x"', "neither a base, such as"),
        ('bas = "rap"', "Did you mean 'base'"),
        ("base = 3", "base must be a string"),
        ('base = "epsilon-pluss"', "Did you mean 'epsilon-plus'"),
        ('base = "gradient"', "does not propagate relevance by rules"),
        ('base = "rap"\nrules = "zplus"', "rules must be a table"),
        ('base = "rap"\nbounds = [1.0]', "bounds must be two numbers"),
        ('base = "rap"\nbounds = [1.0, 0.0]', "low must not be above high"),
        ('base = "rap"\nfold_batchnorm = 1', "fold_batchnorm must be true or false"),
        ('base = "rap"\n[options]\nstrat = "signed"', "Did you mean 'start'"),
        ('base = "rap"\n[rules]\nconv = "gama"', "unknown rule 'gama'. Did you mean 'gamma'"),
        ('base = "rap"\n[rules]\nconv = 3', "[rules] conv must be a rule"),
        ('base = "rap"\n[rules]\nconv = { rule = "gamma", gama = 1.0 }', "Did you mean 'gamma'"),
        ('base = "rap"\n[rules]\nconv = { rule = "gamma", gamma = -1.0 }', "must not be negative"),
        ('base = "rap"\n[rules]\nconf = "gamma"', "unknown role 'conf'. Did you mean 'conv'"),
        ('base = "rap"\n[by_op]\nconv2 = "gamma"', "there is no op 'conv2'"),
        ('base = "rap"\n[by_path]\n"feature.0" = "gamma"', "no dense or conv layer lies in 'feature.0'"),
    ],
)
def test_every_mistake_gets_one_sentence(text, message):
    Path("bad.toml").write_text(text, "utf-8")
    for arguments in (("explain", "cat.png", "--method", "bad.toml", "-o", "out.png"), ("inspect", "--method", "bad.toml")):
        result = run(*arguments)
        assert result.exit_code == 1, result.output
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert result.stdout == ""
    assert not Path("out.png").exists()


@pytest.mark.usefixtures("folder")
def test_a_missing_file_is_named():
    result = run("explain", "cat.png", "--method", "nix.toml", "-o", "out.png")
    assert "There is no method file nix.toml" in result.stderr


@pytest.mark.parametrize("name", ["attnlrp", "abslrp"])
def test_methods_of_the_registry_can_be_written_by_rule_names_alone(name, tmp_path):
    page = (ROOT / "docs" / "extending.md").read_text("utf-8")
    (text,) = re.findall(rf"`{name}\.toml`[^`]*```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "own.toml").write_text(text)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(2), nn.LayerNorm(9), nn.Flatten()
    )
    model = nn.Sequential(model, nn.Linear(36, 4)).eval()
    captured = relprop.capture(model, torch.randn(2, 3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    own, named = captured.explainer(tmp_path / "own.toml"), captured.explainer(name)
    assert torch.equal(own(x, 1).relevance, named(x, 1).relevance)
    assert own.method.conserves == named.method.conserves


def test_a_rule_of_ones_own_is_used_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("relprop.rules.registry.RULES", dict(RULES))
    relprop.register_rule("halved", lambda share=0.5: rules.epsilon(epsilon=share))
    (tmp_path / "own.toml").write_text("[rules]\ndense = { rule = 'halved', share = 0.25 }\n")
    method = relprop.methods.read_method(tmp_path / "own.toml")
    assert method.rules[Role.DENSE].name == "epsilon"
    assert relprop.Method("mine", {"dense": "halved"}).rules[Role.DENSE].name == "epsilon"
    (tmp_path / "own.toml").write_text("[rules]\ndense = { rule = 'halved', shar = 0.25 }\n")
    with pytest.raises(OptionError, match=r"\[rules\] dense: Rule 'halved' has no option 'shar'. Did you mean 'share'"):
        relprop.methods.read_method(tmp_path / "own.toml")


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("epsilon", rules.flat, "already is a rule 'epsilon'"),
        ("", rules.flat, "must be a text"),
        ("own", "flat", "made by a function, not str"),
        ("own", lambda: "flat", "returns a relprop.rules.Rule, not str"),
        ("own", lambda share: rules.flat(), "option 'share' has no default"),
    ],
)
def test_nonsense_is_no_rule(name, make, reason):
    with pytest.raises(OptionError, match=reason):
        relprop.register_rule(name, make)
