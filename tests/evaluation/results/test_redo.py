"""Rows that failed are computed again where that is asked for, and nothing else changes."""

import os

import numpy as np
import pytest
from typer.testing import CliRunner

from relprop.cli import app
from relprop.evaluation import Observer, evaluate, forecast, read_maps
from tests.evaluation.test_run import StopError, stop_after
from tests.evaluation.world import evaluation, identities, make_world, rows, table

METRICS = ("segmentation", "gae", "complexity")
BROKEN = ("cat/000.png", "cow/001.png", "cow/009.png")


@pytest.fixture
def whole(world):
    """The results of a run on the undamaged images."""
    evaluate(evaluation(world, "whole", metrics=METRICS))
    return world / "whole"


@pytest.fixture
def broken(world):
    """The images that were damaged, and what was in them."""
    kept = {world / "images" / name: (world / "images" / name).read_bytes() for name in BROKEN}
    for path, content in kept.items():
        path.write_bytes(content[:60])
    return kept


def repair(broken):
    for path, content in broken.items():
        path.write_bytes(content)


def failed(folder):
    return [(row["method"], row["metric"], row["image"]) for row in rows(folder) if row["status"] == "failed"]


def test_a_repaired_image_is_computed_again_and_the_rows_are_those_of_a_run_without_failures(world, whole, broken):
    assert evaluate(evaluation(world, metrics=METRICS)).failed == 2 * (3 + 2 + 3)  # two of the images are of one group
    repair(broken)
    assert evaluate(evaluation(world, metrics=METRICS)).rows == 0
    summary = evaluate(evaluation(world, metrics=METRICS, redo_failed=True))
    assert (summary.rows, summary.failed, summary.reasons) == (16, 0, {})
    assert table(world / "results").equals(table(whole))
    assert len(list((world / "results" / "parts").glob("*.parquet"))) == 2
    assert evaluate(evaluation(world, metrics=METRICS, redo_failed=True)).rows == 0


def test_what_fails_again_says_so_once(world, broken):
    evaluate(evaluation(world, metrics=METRICS))
    before = identities(world / "results")
    (path, content), *_ = broken.items()
    path.write_bytes(content)
    summary = evaluate(evaluation(world, metrics=METRICS, redo_failed=True))
    assert (summary.rows, summary.failed) == (16, 12)  # its group has another image that is broken
    assert identities(world / "results") == before
    assert len(failed(world / "results")) == 12


def test_rows_that_have_not_failed_are_not_touched(world, broken):
    evaluate(evaluation(world, metrics=METRICS))
    good = [row for row in rows(world / "results") if row["status"] == "ok"]
    for path, content in broken.items():
        path.write_bytes(content)
    others = [path for path in (world / "images").rglob("*.png") if path not in broken]
    for path in others:
        path.write_bytes(b"no image")
    evaluate(evaluation(world, metrics=METRICS, redo_failed=True))
    found = rows(world / "results")
    assert all(row in found for row in good)
    assert {image for _, metric, image in failed(world / "results") if metric != "gae"} == set()


def test_only_the_methods_and_metrics_that_are_asked_for_are_computed_again(world, broken):
    evaluate(evaluation(world, metrics=METRICS))
    repair(broken)
    assert evaluate(evaluation(world, methods=("rap",), metrics=("complexity",), redo_failed=True)).rows == 3
    assert not [place for place in failed(world / "results") if place[:2] == ("rap", "complexity")]
    assert len(failed(world / "results")) == 13


def test_missing_and_failed_rows_go_together(world, whole, broken):
    """A run that was stopped, whose blocks lie in several files, and a metric that comes later."""
    with pytest.raises(StopError):
        evaluate(evaluation(world, metrics=("segmentation", "gae")), stop_after(2))
    repair(broken)
    evaluate(evaluation(world, metrics=METRICS, redo_failed=True))
    assert identities(world / "results") == identities(whole)
    assert sorted(map(str, rows(world / "results"))) == sorted(map(str, rows(whole)))


@pytest.mark.parametrize("writes", [1, 4, 5, 6, 7])
def test_ended_at_any_write_no_row_is_lost_or_twice_and_the_next_run_goes_on(world, broken, monkeypatch, writes):
    chosen = evaluation(world, methods=("gradient",), metrics=("complexity", "gae"))
    evaluate(chosen)
    repair(broken)
    before, right, left = identities(world / "results"), os.fsync, [writes]

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        right(handle)

    again = evaluation(world, methods=("gradient",), metrics=("complexity", "gae"), redo_failed=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(KeyboardInterrupt):
            evaluate(again)
    assert identities(world / "results") == before
    evaluate(again)
    assert identities(world / "results") == before
    assert failed(world / "results") == []


def test_the_maps_of_a_repaired_image_are_kept(world, broken):
    evaluate(evaluation(world, methods=("rap",), metrics=("complexity",), keep_maps=True))
    kept = {image: values for _, image, values in read_maps(world / "results")}
    assert len(kept) == 7
    repair(broken)
    (world / "images" / "cow" / "005.png").write_bytes(b"no image")
    evaluate(evaluation(world, methods=("rap",), metrics=("complexity",), keep_maps=True, redo_failed=True))
    found = [(image, values) for _, image, values in read_maps(world / "results")]
    assert len(found) == len(dict(found)) == 10
    assert np.array_equal(dict(found)["cow/005.png"], kept["cow/005.png"])


@pytest.mark.usefixtures("broken")
def test_a_forecast_and_the_progress_count_what_is_computed_again(world):
    evaluate(evaluation(world, methods=("rap",), metrics=("complexity",)))
    again = evaluation(world, methods=("rap",), metrics=("complexity",), redo_failed=True)
    (line,) = forecast(again)
    assert (line.units, line.images, line.done) == (2, 8, 2)
    seen = []
    evaluate(again, Observer(begin=lambda *counts: seen.append(counts)))
    assert seen == [(10, 2)]
    (line,) = forecast(evaluation(world, methods=("rap",), metrics=("complexity",)))
    assert line.units == 0


def test_the_command_line_computes_failed_rows_again(tmp_path):
    world = make_world(tmp_path)
    image = world / "images" / "dog" / "002.png"
    content = image.read_bytes()
    image.write_bytes(b"no image")
    where = ["--data", f"folder:{world / 'images'}", "-o", str(world / "results"), "--model", f"{world / 'm.py'}:small"]
    command = ["evaluate", *where, "--methods", "rap,gradient", "--metrics", "complexity", "--block", "4"]
    result = CliRunner().invoke(app, command)
    assert "20 new rows, 2 of them failed; --redo-failed computes those again" in result.stdout
    image.write_bytes(content)
    assert "Nothing was missing" in CliRunner().invoke(app, command).stdout
    assert "8 rows to compute" in CliRunner().invoke(app, [*command, "--redo-failed", "--dry-run"]).stdout
    result = CliRunner().invoke(app, [*command, "--redo-failed"])
    assert result.exit_code == 0, result.output
    assert "2 new rows →" in result.stdout
    assert failed(world / "results") == []
