"""The process of the command line: wrong calls get one sentence, and libraries keep silent."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from relprop.cli import app
from relprop.errors import LONGEST_MESSAGE
from tests.files import MODELS, ROOT, save_photos

DIGITS, LETTERS, NESTED = "9" * 5000, "a" * 300, "[" * 5000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model file and a photo, as the current one."""
    (tmp_path / "m.py").write_text(MODELS)
    save_photos(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([LETTERS], f"Error: {LETTERS} cannot be used: "),
        (["a.png", "-o", f"{LETTERS}.png"], f"Error: {LETTERS}.png cannot be used: "),
        (["a.png", "--model", f"{LETTERS}.py:f"], f"Error: {LETTERS}.py cannot be used: "),
        (["a.png", "--method", LETTERS], f"Error: Unknown method '{LETTERS}'"),
        (["a.png", "--target=--5"], "Error: There is no class '--5'"),
        (["a.png", "--target", DIGITS], "Error: The target '999"),
        (["a.png", "--target", f"top:{DIGITS}"], "Error: The target 'top:999"),
        (["a.png", "--dpi", DIGITS], "Error: Invalid value for '--dpi': "),
        (["a.png", "--option", "self=1"], "Error: Method 'rap' has no option 'self'"),
        (["a.png", "--option", "method=1"], "Error: Method 'rap' has no option 'method'"),
        (["a.png", "--option", f"variant={DIGITS}"], "Error: Option variant='999"),
        (["a.png", "--option", f"variant={NESTED}"], "Error: Option variant='[[["),
        (["a.png", "--option", f"{DIGITS}=1"], "Error: Method 'rap' has no option '999"),
        (["a.png", "--method", "smoothgrad", "--option", f"seed={DIGITS[:23]}"], "Error: Option seed of method 'smoothgrad' is"),
        (["a.png", "--method", "lrp-epsilon", "--option", f"epsilon={DIGITS[:400]}"], "Error: Option epsilon of method 'lrp-eps"),
        (["a.png", "--device", "hpu"], "Error: The device 'hpu' cannot be used here"),
        (["a.png", "--device", "privateuseone"], "Error: The device 'privateuseone' cannot be used here"),
        (["a.png", "--device", "meta"], "Error: The device 'meta' cannot be used here"),
        (["a.png", "--device", DIGITS], "Error: The device '999"),
        (["a.png", f"--{LETTERS}"], f"Error: No such option: --{LETTERS}"),
        ([], "Error: Missing argument 'PHOTO...'."),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_wrong_call_gets_one_sentence(arguments, said):
    given = {"--model": "m.py:small", "-o": "o.png"}
    defaults = [part for name, value in given.items() if name not in arguments for part in (name, value)]
    result = CliRunner().invoke(app, ["explain", *arguments, *defaults])
    assert result.exit_code != 0
    assert result.stderr.startswith(said), result.stderr
    assert "unforeseen" not in result.stderr
    assert result.stderr.count("\n") == 1
    assert len(result.stderr.rstrip("\n")) <= LONGEST_MESSAGE


def test_an_unknown_command_gets_one_sentence():
    result = CliRunner().invoke(app, ["explian"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: No such command 'explian'. Did you mean 'explain'? `root --help` lists what there is.\n"


def test_no_command_prints_the_help():
    assert "fit-patterns" in CliRunner().invoke(app, []).output


NOISY = """
import logging, warnings
warnings.warn("a warning of a library")
logging.getLogger("torch.somewhere").error("a log line of a library")
"""


def python(*arguments, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)


def test_libraries_write_nothing_to_stderr(folder):
    (folder / "m.py").write_text(NOISY + MODELS)
    name = r"猫 costs $5 and $\frac{$.png"
    (folder / "a.png").rename(folder / name)
    done = python("-m", "relprop", "explain", name, "--model", "m.py:small", "--target", "0", "-o", "out.png")
    assert (done.returncode, done.stderr) == (0, "")
    asked = python("-m", "relprop", "explain", name, "--model", "m.py:none", "-o", "out.png", PYTHONWARNINGS="default")
    assert "a warning of a library" in asked.stderr


UNNEEDED = (
    "matplotlib.pyplot",
    "torchvision",
    "timm",
    "transformers",
    "scipy",
    "skimage",
    "pandas",
    "pyarrow",
    "captum",
    "IPython",
)


@pytest.mark.usefixtures("folder")
def test_one_photo_loads_no_library_that_it_does_not_need():
    code = f"""
import gc, sys, relprop.cli
sys.argv = ["relprop", "explain", "a.png", "--model", "m.py:small", "-o", "out.png"]
try:
    relprop.cli.main()
except SystemExit as end:
    print(end.code or 0, gc.isenabled(), [name for name in {UNNEEDED} if name in sys.modules])
"""
    assert python("-c", code).stdout.splitlines()[-1] == "0 True []"
