"""Kills under Ray: of the driver, of a node's raylet while another joins late. The bytes are those of one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sdediff.jobs import Recipe
from tests.jobs.nursery import shards, until
from tests.jobs.squares import compute, squares

pytestmark = [pytest.mark.extras, pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
UNITS = 80


def slow_squares(count, seconds):
    """The squares, with a pause before each micro-batch."""
    work = squares(count)
    batch = work.batch

    def pausing(content, units):
        time.sleep(seconds)
        return batch(content, units)

    work.batch = pausing
    return work


def drive(out, address):
    """The job of a driver process: twenty shards of two micro-batches of 0.3 s."""
    from sdediff.jobs.ray_tasks import RayTasks

    recipe = Recipe("tests.jobs.test_ray_kills:slow_squares", {"count": UNITS, "seconds": 0.3})
    compute(squares(UNITS), Path(out), engine=RayTasks(recipe, None, address, print))


def started(out, address):
    """A driver process."""
    code = f"from tests.jobs.test_ray_kills import drive; drive({str(out)!r}, {address!r})"
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ))


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes on this machine, with a core each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster, cluster.add_node(num_cpus=1)
    cluster.shutdown()


@pytest.fixture
def whole(tmp_path):
    compute(squares(UNITS), tmp_path / "whole")
    return (tmp_path / "whole/squares.parquet").read_bytes()


def test_a_raylet_is_killed_and_another_node_joins_late(cluster, whole, tmp_path):
    nodes, second = cluster
    out = tmp_path / "out"
    driver = started(out, nodes.address)
    until(lambda: len(shards(out)) >= 3)
    os.kill(second.all_processes["raylet"][0].process.pid, signal.SIGKILL)
    nodes.add_node(num_cpus=1)
    assert driver.wait(300) == 0
    assert (out / "squares.parquet").read_bytes() == whole


def test_a_driver_is_killed_and_its_job_goes_on_with_another(cluster, whole, tmp_path):
    nodes, _ = cluster
    out = tmp_path / "out"
    first = started(out, nodes.address)
    until(lambda: len(shards(out)) >= 3)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    kept = {name: (out / "shards" / name).stat().st_mtime_ns for name in shards(out)}
    second = started(out, nodes.address)
    until(lambda: len(shards(out)) > len(kept))
    now = {name: (out / "shards" / name).stat().st_mtime_ns for name in kept}
    assert sum(now[name] == kept[name] for name in kept) >= len(kept) - 1  # the last may have lacked its line
    assert second.wait(300) == 0
    assert (out / "squares.parquet").read_bytes() == whole
