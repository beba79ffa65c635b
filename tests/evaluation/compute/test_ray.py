"""A real Ray cluster on this machine: the rows of the local engine, also where workers die."""

import os
import signal
import sys

import pytest

from relprop.errors import OptionError
from relprop.evaluation import Observer, evaluate
from relprop.evaluation.compute import ray_engine
from tests.evaluation.test_run import close
from tests.evaluation.world import evaluation, identities, make_world, rows

pytestmark = pytest.mark.usefixtures("cluster")
METRICS = ("segmentation", "lerf:per_step=4:steps=60", "gae")


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="the engine ray needs the extra `ray`")
    if sys.platform == "win32":
        pytest.skip("processes are killed by their number here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False, logging_level="error")
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("ray"), 20)
    evaluate(evaluation(world, "local", metrics=METRICS))
    return world


def processes(monkeypatch):
    """The numbers of all processes of actors that a run starts."""
    found, right = [], ray_engine.Crew.hire

    def hire(self):
        actor = right(self)
        found.append(self.ray.get(actor.process.remote()))
        return actor

    monkeypatch.setattr(ray_engine.Crew, "hire", hire)
    return found


def test_a_killed_worker_is_replaced_and_the_rows_are_those_of_the_local_engine(big, monkeypatch):
    started, units = processes(monkeypatch), []

    def advance(*_):
        units.append(1)
        if len(units) == 2:
            os.kill(started[0], signal.SIGKILL)

    evaluate(evaluation(big, metrics=METRICS, engine="ray", workers=2), Observer(advance=advance))
    assert len(started) == 3
    assert len(set(started)) == 3
    assert identities(big / "results") == identities(big / "local")
    close(big / "results", big / "local")


def test_a_unit_of_which_workers_keep_dying_fails_and_the_rest_is_done(big, monkeypatch):
    started, right = processes(monkeypatch), ray_engine.RemoteWorker.compute

    def compute(self, task, following):
        return os._exit(1) if task.block == 1 else right(self, task, following)

    monkeypatch.setattr(ray_engine.RemoteWorker, "compute", compute)
    settings = {"methods": ("gradient",), "metrics": ("segmentation",), "limit": 12}
    summary = evaluate(evaluation(big, "deadly", engine="ray", workers=1, **settings))
    assert len(started) == 1 + ray_engine.DEATHS
    assert (summary.rows, summary.failed) == (12, 4)
    found = rows(big / "deadly")
    assert [row["status"] for row in found] == ["ok"] * 4 + ["failed"] * 4 + ["ok"] * 4
    assert {row["reason"] for row in found[4:8]} == {"3 workers died while they computed this block."}


def test_more_workers_than_there_are_is_refused(big):
    with pytest.raises(OptionError, match="has 2 CPUs for 3 workers"):
        evaluate(evaluation(big, "many", methods=("gradient",), metrics=("segmentation",), engine="ray", workers=3))


def test_the_actors_get_the_device_of_the_settings(world):
    from relprop.evaluation.prepare import prepare
    from relprop.evaluation.run import _checker

    worker = _checker(prepare(evaluation(world, engine="ray", device="cuda")), {})
    assert worker.evaluation.device == "cuda"  # what the actors compute on
    assert worker.device.type == "cpu"  # where this process checks models
