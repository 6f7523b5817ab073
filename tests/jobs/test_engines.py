"""Engines: worker processes and Ray give the bytes of this process, and outlive the death of a worker."""

import os
import signal

import pytest
from pyarrow import parquet

from sdediff.jobs import JobError, Recipe, Workers
from sdediff.jobs.engine_names import engine_name
from tests.jobs.squares import compute, squares

RECIPE = Recipe("tests.jobs.squares:make_squares", {"count": 40})


def worker_that_ends_once(count, folder):
    """The squares; the first process that computes unit 16 is killed."""
    work = squares(count)
    batch = work.batch

    def dying(content, units):
        if 16 in units and not os.path.exists(f"{folder}/died"):
            open(f"{folder}/died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch(content, units)

    work.batch = dying
    return work


def failing_workers(count):
    """The squares, half of which cannot be computed; not one of the first."""
    return squares(count, breaks=range(20, 28))


def dead_workers(count):
    """A work that ends its process."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_give_the_bytes_of_one_process(tmp_path):
    compute(squares(), tmp_path / "one")
    compute(squares(), tmp_path / "two", engine=Workers(RECIPE, 2, print))
    assert (tmp_path / "one/squares.parquet").read_bytes() == (tmp_path / "two/squares.parquet").read_bytes()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills by signal")
def test_a_worker_that_is_killed_is_replaced(tmp_path):
    compute(squares(), tmp_path / "one")
    said = []
    recipe = Recipe("tests.jobs.test_engines:worker_that_ends_once", {"count": 40, "folder": str(tmp_path)})
    compute(squares(), tmp_path / "two", engine=Workers(recipe, 2, said.append))
    assert said == ["a worker ended before its shard was finished: new workers compute it again"]
    assert (tmp_path / "one/squares.parquet").read_bytes() == (tmp_path / "two/squares.parquet").read_bytes()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills by signal")
def test_workers_that_all_end_are_an_error(tmp_path):
    recipe = Recipe("tests.jobs.test_engines:dead_workers", {"count": 40})
    with pytest.raises(JobError, match="3 times in a row before a shard was finished"):
        compute(squares(), tmp_path, engine=Workers(recipe, 1, lambda _: None))


def test_shards_that_fail_in_workers_are_reported_after_the_others_are_kept(tmp_path):
    recipe = Recipe("tests.jobs.test_engines:failing_workers", {"count": 40})
    with pytest.raises(JobError, match="shard 5: ValueError: this unit breaks"):
        compute(squares(), tmp_path, engine=Workers(recipe, 1, print))
    assert len(list((tmp_path / "shards").iterdir())) >= 5
    compute(squares(), tmp_path)
    assert parquet.read_table(tmp_path / "squares.parquet").num_rows == 40


@pytest.mark.parametrize(
    ("engine", "workers", "address", "words"),
    [("rya", None, None, "ray"), ("local", 2, None, "workers=2 has no effect"), ("workers", None, None, "give workers"),
     (None, 2, "auto", "write engine='ray'")],
)  # fmt: skip
def test_engines_that_do_not_fit_their_options_are_refused(engine, workers, address, words):
    with pytest.raises(JobError, match=words):
        engine_name(engine, workers, address)


@pytest.fixture(scope="module")
def ray():
    """A cluster on this machine: one for all tests, which each job finds connected."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.extras
def test_ray_gives_the_bytes_of_one_process(ray, tmp_path):
    from sdediff.jobs.ray_tasks import RayTasks

    compute(squares(), tmp_path / "one")
    compute(squares(), tmp_path / "two", engine=RayTasks(RECIPE, None, None, print))
    assert (tmp_path / "one/squares.parquet").read_bytes() == (tmp_path / "two/squares.parquet").read_bytes()


@pytest.mark.extras
def test_a_worker_of_ray_that_is_killed_is_begun_again(ray, tmp_path):
    from sdediff.jobs.ray_tasks import RayTasks

    recipe = Recipe("tests.jobs.test_engines:worker_that_ends_once", {"count": 40, "folder": str(tmp_path)})
    compute(squares(), tmp_path / "one")
    compute(squares(), tmp_path / "two", engine=RayTasks(recipe, None, None, print))
    assert (tmp_path / "died").exists()
    assert (tmp_path / "one/squares.parquet").read_bytes() == (tmp_path / "two/squares.parquet").read_bytes()


@pytest.mark.extras
def test_failures_under_ray_are_reported_after_the_others_are_kept(ray, tmp_path):
    from sdediff.jobs.ray_tasks import RayTasks

    recipe = Recipe("tests.jobs.test_engines:failing_workers", {"count": 40})
    with pytest.raises(JobError, match="shard 5: ValueError: this unit breaks"):
        compute(squares(), tmp_path, engine=RayTasks(recipe, None, None, print))
    assert len(list((tmp_path / "shards").iterdir())) >= 5
