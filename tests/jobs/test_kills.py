"""Faults of the data-set job, injected into real processes: kills, signals, rivals."""

import os
import random
import shlex
import shutil
import signal
import socket
import time

import pytest
from pyarrow import parquet

from tests.jobs.nursery import command, same, shards, until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked from one that has imported all")


@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_at_random_moments_and_the_same_bytes(nursery, whole, out, count):
    draws, kills = random.Random(0), 0
    while kills < count:
        process = nursery.start(*command(out), pause=0.02)
        time.sleep(draws.uniform(0, 1.2))
        process.kill()
        if process.wait()[0] == -signal.SIGKILL:
            kills += 1
            for name in shards(out):  # what is there is whole
                assert parquet.read_table(out / "shards" / name).num_rows in (1, 2)
        else:
            same(out, whole)
            shutil.rmtree(out)
    code, said = nursery.run(*command(out))
    assert code == 0, said
    same(out, whole)


def test_a_kill_before_and_after_every_file_that_appears(nursery, whole, out):
    # 1 the lock's holder, 2 the manifest, 3..8 shards, 9 the result, 10 its hash, 11 the journal, 12 the summary
    for at in (2, 3, 9, 10, 11):
        code, said = nursery.run(*command(out), die=(at, at % 2 == 0))
        assert code == -signal.SIGKILL, said
        code, said = nursery.run(*command(out))
        assert code == 0, said
        same(out, whole)
        shutil.rmtree(out)


def test_a_resumed_run_says_how_far_it_was_and_does_only_the_rest(nursery, whole, out):
    process = nursery.start(*command(out), pause=0.2)
    until(lambda: len(shards(out)) >= 3)
    process.kill()
    process.wait()
    # A kill may come between a shard and its line in the journal: without its line it is computed again.
    finished = (out / "journal.jsonl").read_text().count("\n")
    times = {name: (out / "shards" / name).stat().st_mtime_ns for name in shards(out)[:finished]}
    other = nursery.start(*command(out), pause=0.05)
    until(lambda: len(shards(out)) > len(times))
    assert all((out / "shards" / name).stat().st_mtime_ns == then for name, then in times.items())
    code, said = other.wait()
    assert code == 0
    done = 2 * len(times)
    assert f"begun before: {len(times)} of 6 shards, {done} of 11 rows, are done" in said
    assert f"taking the lock over from process {process.pid} on {socket.gethostname()}" in said
    same(out, whole)
    code, said = nursery.run(*command(out))
    assert code == 0
    assert "all 11 rows are done" in said
    same(out, whole)


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_state_that_the_said_command_resumes(nursery, whole, out, number, expected):
    process = nursery.start(*command(out), pause=0.2)
    until(lambda: len(shards(out)) >= 2)
    process.kill(number)
    code, said = process.wait()
    assert code == expected, said
    done = (out / "journal.jsonl").read_text().count("\n")
    line = said.strip().splitlines()[-1]
    assert f"interrupted: {done} of 6 shards, {2 * done} of 11 rows, are done; go on with: sdediff like" in line
    assert [p for p in (out / "shards").iterdir() if p.suffix != ".parquet"] == []
    code, said = nursery.run(*shlex.split(line.partition("go on with: sdediff ")[2]))
    assert code == 0, said
    same(out, whole)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"data": "changed.npy"}, "data.sha256"), ({"model": "other"}, "model.sha256"), ({"seed": 1}, "settings.seed"),
     ({"rtol": 0.001}, "settings.rtol"), ({"dtype": "float64"}, "settings.dtype")],
)  # fmt: skip
def test_a_changed_job_is_refused(nursery, out, change, field):
    process = nursery.start(*command(out), pause=0.1)
    until(lambda: (out / "journal.jsonl").exists() and (out / "journal.jsonl").read_text().endswith("\n"))
    process.kill()
    process.wait()
    before = shards(out)
    code, said = nursery.run(*command(out, **change))
    assert code == 2, said
    refused = said.splitlines()[-1]
    assert f"{field} is " in refused
    assert " there and " in refused
    assert shards(out) == before


def test_a_second_job_is_refused_by_the_name_of_the_first(nursery, whole, out):
    first = nursery.start(*command(out), pause=1.0)
    until(lambda: len(shards(out)) >= 1)
    first.kill(signal.SIGSTOP)
    code, said = nursery.run(*command(out))
    first.kill(signal.SIGCONT)
    assert code == 2
    assert f"is held by process {first.pid} on {socket.gethostname()}" in said
    assert "--part" in said
    code, said = first.wait()
    assert code == 0, said
    same(out, whole)
