"""Real processes: killed at any moment, interrupted, out of files, and what the terminal says."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from typer.testing import CliRunner

from relprop.cli import app
from relprop.cli.evaluate import RunProgress
from tests.evaluation.world import identities, make_world, rows, table

METHODS = "rap,smoothgrad:samples=8"
# background jobs of a shell, and what they start, ignore Ctrl-C unless told otherwise
PROGRAM = "import signal, relprop.cli as c; signal.signal(signal.SIGINT, signal.default_int_handler); c.main()"
METRICS = "segmentation,lerf:per_step=2:steps=120,gae"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the other processes have, so that numbers are the same to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A world of twenty images, and an uninterrupted run."""
    world = make_world(tmp_path_factory.mktemp("big"), 20)
    assert CliRunner().invoke(app, arguments(world, "whole")).exit_code == 0
    return world


def arguments(world, name, *more):
    where = ["--data", f"folder:{world / 'images'}", "--data-option", f"masks={world / 'masks'}", "-o", str(world / name)]
    what = ["--model", f"{world / 'm.py'}:small", "--methods", METHODS, "--metrics", METRICS]
    return ["evaluate", *where, *what, "--block", "4", "--batch-size", "2", *more]


def start(world, name):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments(world, name)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )


def wait_for_parts(process, folder, count):
    """Wait until so many parts were written; whether the process still runs then."""
    while process.poll() is None and len(list((folder / "parts").glob("[!.]*.parquet"))) < count:
        time.sleep(0.002)
    return process.poll() is None


def test_killed_twice_a_run_ends_like_one_that_was_not(big):
    for parts in (1, 4):
        process = start(big, "killed")
        assert wait_for_parts(process, big / "killed", parts)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        seen = identities(big / "killed")
        assert len(seen) == len(set(seen))
    assert 0 < len(seen) < len(identities(big / "whole"))
    result = CliRunner().invoke(app, arguments(big, "killed"))
    assert result.exit_code == 0
    assert "images are stored already" in result.stderr
    assert table(big / "killed").equals(table(big / "whole"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_cleanly(big, number):
    name = f"interrupted{number}"
    process = start(big, name)
    assert wait_for_parts(process, big / name, 1)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "Interrupted; what was finished is in" in said
    assert "Traceback" not in said
    assert not [path for path in (big / name).rglob(".*") if path.name != ".lock"]
    assert 0 < len(identities(big / name)) < len(identities(big / "whole"))


def test_an_interrupt_that_a_library_swallows_comes_again(tmp_path):
    with RunProgress(tmp_path) as progress:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            progress.observer.advance(1, "a pair")


def test_a_dry_run_says_what_is_missing_and_writes_nothing(big):
    result = CliRunner().invoke(app, arguments(big, "dry", "--dry-run"))
    assert result.exit_code == 0
    assert "90 rows to compute, about" in result.stdout
    assert "measured in this process on 4 images of each pair" in result.stdout
    assert not (big / "dry").exists()
    result = CliRunner().invoke(app, [*arguments(big, "whole", "--dry-run"), "--methods", "gradient"])
    assert "45 rows to compute" in result.stdout  # the two methods that are there need nothing


def test_the_summary_counts_failures(tmp_path):
    world = make_world(tmp_path)
    (world / "images" / "dog" / "002.png").write_bytes(b"no image")
    result = CliRunner().invoke(app, arguments(world, "results"))
    assert result.exit_code == 0
    assert "44 new rows, 6 failed" in result.stdout.replace(" of them", "")
    assert result.stderr.count("1 failed row of") == 6
    assert sum(row["status"] == "failed" for row in rows(world / "results")) == 6
    again = CliRunner().invoke(app, arguments(world, "results"))
    assert "Nothing was missing" in again.stdout


def test_a_mistake_is_one_sentence(tmp_path):
    world = make_world(tmp_path, 4)
    result = CliRunner().invoke(app, [*arguments(world, "results"), "--device", "qpu"])
    assert result.exit_code == 1
    assert "The device 'qpu' cannot be used here" in result.stderr
    result = CliRunner().invoke(app, ["evaluate", "-o", str(tmp_path / "r")])
    assert "The command line must say data, models, methods, metrics." in result.stderr
