"""The data-set job in parts, by independent processes: SLURM's arrays, torchrun's ranks, a part that dies."""

import os
import signal
import subprocess
import sys

import pytest

from sdediff.jobs import JobError
from sdediff.jobs.part import Part
from tests.jobs.nursery import command, same, shards, until

processes = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked from one that has imported all")


@processes
@pytest.mark.parametrize("size", [2, 3])
def test_parts_share_a_job_and_give_the_bytes_of_one(nursery, whole, out, size):
    env = {"WORLD_SIZE": str(size), "MASTER_ADDR": "localhost"}
    ranks = [nursery.start(*command(out), env={**env, "RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(size)]
    ends = [rank.wait() for rank in ranks]
    assert [code for code, _ in ends] == [0] * size, ends
    printed = [said for _, said in ends if "log p (nats)" in said]
    assert len(printed) == 1  # by the one that ends last
    assert sum("the part that ends last writes the result" in said for _, said in ends) == size - 1
    same(out, whole)


@processes
def test_a_part_that_died_is_run_again_alone(nursery, whole, out):
    first = nursery.start(*command(out), "--part", "0/2", pause=0.3)
    until(lambda: len(shards(out)) >= 1)
    first.kill()
    assert first.wait()[0] == -signal.SIGKILL
    code, said = nursery.run(*command(out), "--part", "1/2")
    assert code == 0, said
    assert "part 1/2" in said
    done = {name: (out / "shards" / name).stat().st_mtime_ns for name in shards(out)}
    assert {"000001.parquet", "000003.parquet", "000005.parquet"} <= set(done)
    code, said = nursery.run(*command(out), "--part", "0/2")
    assert code == 0, said
    assert "begun before" in said
    same(out, whole)


@processes
def test_the_same_part_twice_at_once_is_refused(nursery, out):
    first = nursery.start(*command(out), "--part", "0/2", pause=1.0)
    until(lambda: len(shards(out)) >= 1)
    first.kill(signal.SIGSTOP)  # it holds the part for as long as the other takes to notice
    code, said = nursery.run(*command(out), "--part", "0/2")
    assert (code, f"is held by process {first.pid}" in said) == (2, True), said
    first.kill()
    first.wait()


@processes
def test_torchrun_shares_a_job(nursery, whole, out):
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sdediff"]
    arguments = [str(a) for a in command(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*run, *arguments], cwd=nursery.home, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    same(out, whole)


@pytest.mark.parametrize("text", ["8/8", "-1/2", "0/0", "a/b", "3", "", "1/2/3"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(JobError, match="part="):
        Part.of(text)


def test_parts_divide_the_shards():
    numbers = sorted(n for i in range(4) for n in Part.of(f"{i}/4").mine(11))
    assert numbers == list(range(11))
