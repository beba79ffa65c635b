"""``relprop fit-patterns`` and baselines on the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from relprop.cli import app
from relprop.methods.pattern_fit import load_patterns

FACTORY = """
import torch
from torch import nn
from relprop.zoo import Preprocessing

def small():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    return model, Preprocessing(size=(8, 8), resize=(8, 8), scale=255.0, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)), ("a", "b", "c")
"""


@pytest.fixture
def job(tmp_path: Path) -> list[str]:
    (tmp_path / "model.py").write_text(FACTORY)
    generator = np.random.default_rng(0)
    for i in range(12):
        path = tmp_path / "data" / f"class{i % 2}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return ["--model", f"{tmp_path / 'model.py'}:small", "--data", str(tmp_path / "data"), "-o", str(tmp_path / "p.safetensors")]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_patterns_are_fitted_and_explain_photos(job: list[str], tmp_path: Path) -> None:
    code, said = run("fit-patterns", *job, "--batch-size", "5")
    assert code == 0, said
    assert "12 images" in said.replace("\n", " ")
    assert set(load_patterns(tmp_path / "p.safetensors")) == {"0/linear", "0/relu", "3/linear"}
    photo = str(tmp_path / "data" / "class0" / "00.png")
    for method, option in (
        ("pattern-attribution", f"patterns={tmp_path / 'p.safetensors'}"),
        ("integrated-gradients", "steps=3"),
    ):
        code, said = run(
            "explain", photo, *job[:2], "--method", method, "--option", option, "-o", str(tmp_path / f"{method}.png")
        )
        assert code == 0, said
        assert (tmp_path / f"{method}.png").stat().st_size > 0


def test_an_interrupted_fit_goes_on_and_gives_the_same(job: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import relprop.cli.fit_patterns as command
    from relprop.methods.pattern_fit import PatternFit

    monkeypatch.setattr(command, "_BATCHES_BETWEEN_SAVES", 1)
    run("fit-patterns", *job, "--batch-size", "3")
    whole = load_patterns(tmp_path / "p.safetensors")
    (tmp_path / "p.safetensors").unlink()
    update, calls = PatternFit.update, []

    def breaking(self: PatternFit, inputs: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("power cut")
        update(self, inputs)

    monkeypatch.setattr(PatternFit, "update", breaking)
    code, _ = run("fit-patterns", *job, "--batch-size", "3")
    assert code == 1
    assert not (tmp_path / "p.safetensors").exists()
    code, said = run("fit-patterns", *job, "--batch-size", "3")
    assert code == 0
    assert "2 of 4 batches are done" in said
    assert len(calls) == 5
    assert not list(tmp_path.glob("*.partial*"))
    for key, value in load_patterns(tmp_path / "p.safetensors").items():
        torch.testing.assert_close(value, whole[key], rtol=1e-5, atol=1e-6)


def test_sums_of_other_images_are_not_mixed_in(job: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import relprop.cli.fit_patterns as command

    monkeypatch.setattr(command, "_BATCHES_BETWEEN_SAVES", 1)
    monkeypatch.setattr(command, "save_patterns", lambda *_: (_ for _ in ()).throw(RuntimeError("power cut")))
    assert run("fit-patterns", *job, "--batch-size", "3")[0] == 1
    assert list(tmp_path.glob("*.partial*"))
    monkeypatch.undo()
    code, said = run("fit-patterns", *job, "--batch-size", "3", "--limit", "6")
    assert code == 0
    assert "starting anew" in said
    assert "6 images" in said


def test_images_that_cannot_be_read_are_left_out_and_counted(job: list[str], tmp_path: Path) -> None:
    (tmp_path / "data" / "broken.png").write_bytes(b"nothing")
    code, said = run("fit-patterns", *job)
    assert code == 0
    assert "1 of 13 images could not be read" in said.replace("\n", " ")


def test_bad_arguments_are_refused_in_one_sentence(job: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, expected in (
        ([*job[:2], "--data", str(tmp_path / "nowhere"), *job[4:]], "no folder"),
        ([*job[:2], "--data", str(tmp_path / "empty"), *job[4:]], "no images"),
        ([*job[:4], "-o", str(tmp_path / "p.bin")], "safetensors"),
    ):
        code, said = run("fit-patterns", *arguments)
        assert code == 1
        assert expected in said
        assert "Traceback" not in said
