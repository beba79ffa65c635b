"""A Ray cluster that a run starts is reachable from this machine alone."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import psutil
from pathlib import Path
from relprop.evaluation import Evaluation, choices, models
from relprop.evaluation.compute.ray_engine import _cluster
chosen = Evaluation("folder:.", models("m"), choices("rap"), choices("gae"), Path("r"), engine="ray", workers=1)
with _cluster(chosen) as ray:
    actor = ray.remote(type("Idle", (), {"name": lambda self: 1})).remote()
    ray.get(actor.name.remote())
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    print(*{link.laddr.ip for one in family for link in one.net_connections("inet") if link.status == "LISTEN"})
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes of others are not seen")
def test_its_sockets_listen_on_the_loopback_interface_only():
    pytest.importorskip("ray", reason="the engine ray needs the extra `ray`")
    pytest.importorskip("psutil")
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=env, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    addresses = done.stdout.split()
    assert addresses
    assert not [address for address in addresses if not address.removeprefix("::ffff:").startswith("127.") and address != "::1"]
