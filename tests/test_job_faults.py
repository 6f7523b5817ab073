"""Faults of the data-set job, injected into real processes: kills, signals, rivals, dead ranks, full disks."""

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

import sdediff as sd
from sdediff.nets import MLP

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked from one that has imported all")

# One process imports everything once and forks a child for every command, so that a job takes a second, not five.
NURSERY = """
import functools, json, os, resource, signal, sys, time
import filelock, matplotlib.backends.backend_agg, matplotlib.figure, pyarrow.parquet, rich.table, typer
import sdediff as sd, sdediff.benchmark, sdediff.cli.app, sdediff.hub, sdediff.integrate, sdediff.jobs
from sdediff import cli, likelihood
from sdediff.jobs import report

report._png(report._histogram(report.np.ones(2), "nats"))  # fonts are looked up once

def slowed(pause, score):
    @functools.wraps(score)
    def later(*a, **k):
        time.sleep(pause)
        return score(*a, **k)
    return later

def dying(at, after, replace):
    count = 0
    def counted(*a):
        nonlocal count
        count += 1
        if count == at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*a)
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
    return counted

def child(arguments, log, env, pause, limit, die):
    out = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(out, 1), os.dup2(out, 2)
    os.environ.update(env)
    likelihood.log_likelihood = slowed(pause, likelihood.log_likelihood)
    if die:
        os.replace = dying(*die, os.replace)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = ["sdediff", *arguments]
    code = cli.main(arguments)
    sys.stdout.flush()
    os._exit(code)

for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])), flush=True)
        continue
    pid = os.fork()
    if not pid:
        child(**order)
    print(pid, flush=True)
"""


class Process:
    """A command that runs: its pid, and after wait() its exit code and what it said."""

    def __init__(self, nursery, pid, log):
        self.nursery, self.pid, self.log = nursery, pid, log

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    def wait(self):
        code = self.nursery.ask({"wait": self.pid})
        return code, self.log.read_text(encoding="utf-8")


class Nursery:
    def __init__(self, home):
        self.home, self.count = home, 0
        script = home / "nursery.py"
        script.write_text(NURSERY)
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=home,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def ask(self, order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *arguments, env=None, pause=0.0, limit=None, die=None):
        self.count += 1
        log = self.home / f"log{self.count}"
        order = {"arguments": [str(a) for a in arguments], "log": str(log), "env": env or {}, "pause": pause}
        return Process(self, self.ask({**order, "limit": limit, "die": die}), log)

    def run(self, *arguments, **how):
        return self.start(*arguments, **how).wait()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    """A folder with two models and data, and a process that starts commands there."""
    home = tmp_path_factory.mktemp("faults")
    for seed, name in enumerate(("model", "other")):
        torch.manual_seed(seed)
        sd.save(sd.ScoreModel(MLP(2, width=8, blocks=1).eval(), sd.VP()), home / name)
    rows = np.random.default_rng(0).normal(size=(11, 2)).astype(np.float32)
    np.save(home / "data.npy", rows)
    np.save(home / "changed.npy", np.concatenate([rows[:-1], rows[-1:] + 1e-3]))
    np.save(home / "bad.npy", np.where(np.arange(11)[:, None] == 5, np.nan, rows))
    nursery = Nursery(home)
    yield nursery
    nursery.process.stdin.close()
    nursery.process.wait()
    nursery.process.stdout.close()


def command(out, data="data.npy", model="model", **options):
    """The arguments of a job of six shards."""
    given = {"micro_batch": 2, "trace": "exact", "rtol": 1.0, "atol": 1.0, **options}
    flags = [text for key, value in given.items() for text in (f"--{key.replace('_', '-')}", value) if text is not True]
    return ("likelihood", model, data, "--out", out, *flags)


@pytest.fixture(scope="module")
def whole(nursery):
    """The bytes of the Parquet file of an uninterrupted run, and its summary."""
    code, said = nursery.run(*command("whole"))
    assert code == 0, said
    out = nursery.home / "whole"
    return (out / "likelihood.parquet").read_bytes(), json.loads((out / "summary.json").read_text())


@pytest.fixture
def out(nursery, request):
    path = nursery.home / request.node.name.replace("/", "_")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def same(out, whole):
    assert (out / "likelihood.parquet").read_bytes() == whole[0]
    ours = json.loads((out / "summary.json").read_text())
    for summary in (ours, dict(whole[1])):
        summary["seconds"] = summary["machine"] = None
    assert ours == {**whole[1], "seconds": None, "machine": None}
    left = sorted(p.name for p in out.iterdir() if not p.name.startswith("."))
    assert left == ["likelihood.parquet", "manifest.json", "report.html", "summary.json"]


def shards(out):
    return sorted(p.name for p in (out / "shards").glob("*.parquet"))


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


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_and_the_same_bytes(nursery, whole, out):
    draws, kills = random.Random(0), 0
    while kills < 20:
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


@pytest.mark.slow
def test_a_kill_before_and_after_every_file_that_appears(nursery, whole, out):
    # 1 the lock's holder, 2 the manifest, 3..8 shards, 9 the whole, 10 its result, 11 the summary, 12 the page
    for at in (2, 3, 8, 9, 10, 11, 12):
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
    times = {name: (out / "shards" / name).stat().st_mtime_ns for name in shards(out)}
    other = nursery.start(*command(out), pause=0.05)
    until(lambda: len(shards(out)) > len(times))
    assert all((out / "shards" / name).stat().st_mtime_ns == then for name, then in times.items())
    code, said = other.wait()
    assert code == 0
    done = 2 * len(times)
    assert f"begun before: {len(times)} of 6 shards, {done} of 11 samples, are done" in said
    assert f"taking the lock over from process {process.pid} on {socket.gethostname()}" in said
    same(out, whole)
    code, said = nursery.run(*command(out))
    assert code == 0
    assert "all 11 samples are done" in said
    same(out, whole)


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_state_that_the_said_command_resumes(nursery, whole, out, number, expected):
    process = nursery.start(*command(out), pause=0.2)
    until(lambda: len(shards(out)) >= 2)
    process.kill(number)
    code, said = process.wait()
    assert code == expected, said
    done = len(shards(out))
    line = said.strip().splitlines()[-1]
    assert f"interrupted: {done} of 6 shards, {2 * done} of 11 samples, are done; go on with: sdediff like" in line
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
    until(lambda: len(shards(out)) >= 1)
    process.kill()
    process.wait()
    before = shards(out)
    code, said = nursery.run(*command(out, **change))
    assert (code, said.count("\n")) == (2, 1), said
    assert f"{field} is " in said
    assert " there and " in said
    assert shards(out) == before


def test_a_second_job_is_refused_by_the_name_of_the_first(nursery, whole, out):
    first = nursery.start(*command(out), pause=1.0)
    until(lambda: len(shards(out)) >= 1)
    code, said = nursery.run(*command(out))
    assert code == 2
    assert f"is held by process {first.pid} on {socket.gethostname()}" in said
    assert "--join" in said
    code, said = first.wait()
    assert code == 0, said
    same(out, whole)


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


def test_a_disk_that_is_full_leaves_finished_shards_and_resumes(nursery, whole, out):
    small = len(whole[0])
    code, said = nursery.run(*command(out), limit=1000)  # not even the manifest
    assert (code, said.count("\n")) == (2, 1), said
    assert "cannot be written" in said
    for limit in (2000, small - 1):  # no shard; every shard, but not all of them in one
        code, said = nursery.run(*command(out), limit=limit)
        assert (code, "cannot be written" in said) == (2, True), said
    assert len(shards(out)) == 6
    assert all(parquet.read_table(out / "shards" / name).num_rows for name in shards(out))
    assert not list(out.glob("*.parquet"))
    assert not list(out.rglob("*.part"))
    code, said = nursery.run(*command(out))
    assert code == 0, said
    same(out, whole)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(nursery, out):
    out.mkdir(mode=0o500)
    code, said = nursery.run(*command(out))
    out.chmod(0o700)
    assert (code, said.count("\n")) == (2, 1)
    assert "--out" in said


def test_a_damaged_shard_is_computed_again(nursery, whole, out):
    process = nursery.start(*command(out), pause=0.1)
    until(lambda: len(shards(out)) >= 2)
    process.kill()
    process.wait()
    first = out / "shards" / shards(out)[0]
    first.write_bytes(first.read_bytes()[:-40])
    code, said = nursery.run(*command(out))
    assert code == 0
    assert "is damaged or of another job: it is computed again" in said
    same(out, whole)


def test_a_bad_row_is_named_and_the_mean_waits_for_leave(nursery, out):
    code, said = nursery.run(*command(out, data="bad.npy"))
    assert (code, said.count("\n")) == (2, 1), said
    assert "row 5 holds NaN" in said
    assert "--skip-bad" in said
    columns = parquet.read_table(out / "likelihood.parquet").to_pydict()
    assert [i for i, v in enumerate(columns["log_prob"]) if v is None] == [5]
    code, said = nursery.run(*command(out, data="bad.npy"), "--skip-bad")
    assert code == 0
    assert "1 left out" in said


def test_two_models_are_compared(nursery, out):
    code, said = nursery.run(*command(out), "--compare", "other", "--json")
    assert code == 0, said
    found = json.loads(said)["compare"]
    one, two = (parquet.read_table(f / "likelihood.parquet").to_pydict() for f in (out, out / "compared"))
    difference = np.subtract(two["log_prob"], one["log_prob"])
    assert found["log_prob"] == pytest.approx(difference.mean())
    assert (found["model"], found["samples"]) == ("other", 11)


@pytest.mark.slow
def test_torchrun_shares_a_job(nursery, whole, out):
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sdediff"]
    arguments = [str(a) for a in command(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*run, *arguments], cwd=nursery.home, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    same(out, whole)
