"""The data-set job by several ranks, real processes: shared, and with a dead one."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.nursery import command, same, shards, until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked from one that has imported all")


def held_within_a_shard(process, out):
    """Whether the process, which stands still then, has begun a shard and not finished it; if not, it goes on."""
    process.kill(signal.SIGSTOP)
    until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZ")
    for claim in (out / "shards").glob("*.claim"):
        with contextlib.suppress(FileNotFoundError):  # others go on, and release theirs
            if str(process.pid) in claim.read_text() and not claim.with_suffix(".parquet").exists():
                return True
    process.kill(signal.SIGCONT)
    return False


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_a_job_and_give_the_bytes_of_one(nursery, whole, out, size):
    env = {"WORLD_SIZE": str(size), "MASTER_ADDR": "localhost"}
    ranks = [
        nursery.start(*command(out), env={**env, "RANK": str(r), "LOCAL_RANK": str(r)}, pause=0.05) for r in range(size)
    ]
    ends = [rank.wait() for rank in ranks]
    assert [code for code, _ in ends] == [0] * size, ends
    assert all(said == "" for _, said in ends[1:])  # the first speaks for all
    same(out, whole)


@pytest.mark.parametrize("killed", [0, 1])
def test_the_others_take_a_dead_rank_s_shards(nursery, whole, out, killed):
    ranks = [nursery.start(*command(out), "--join", pause=0.3) for _ in range(3)]
    until(lambda: len(shards(out)) >= 2)
    until(lambda: held_within_a_shard(ranks[killed], out))
    ranks[killed].kill()
    ends = [rank.wait() for rank in ranks]
    assert [code for code, _ in ends] == [-signal.SIGKILL if i == killed else 0 for i in range(3)], ends
    assert f"over from process {ranks[killed].pid}" in "".join(said for _, said in ends)
    same(out, whole)


def test_torchrun_shares_a_job(nursery, whole, out):
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sdediff"]
    arguments = [str(a) for a in command(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*run, *arguments], cwd=nursery.home, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    same(out, whole)
