"""Jobs in processes of their own, forked from one that has imported everything."""

import json
import os
import signal
import subprocess
import sys
import time

# One process imports everything once and forks a child for every command, so that a job takes a second, not five.
NURSERY = """
import functools, json, os, resource, signal, sys, time
import filelock, matplotlib.backends.backend_agg, matplotlib.figure, pyarrow.parquet, rich.table, typer
import sdediff as sd, sdediff.benchmark, sdediff.cli.app, sdediff.hub, sdediff.integrate, sdediff.jobs
from sdediff import cli
from sdediff.jobs import report, scoring

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
    scoring.scored = slowed(pause, scoring.scored)
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


def command(out, data="data.npy", model="model", **options):
    """The arguments of a job of six shards."""
    given = {"micro_batch": 2, "shard": 2, "trace": "exact", "rtol": 1.0, "atol": 1.0, **options}
    flags = [text for key, value in given.items() for text in (f"--{key.replace('_', '-')}", value) if text is not True]
    return ("likelihood", model, data, "--out", out, *flags)


def same(out, whole):
    assert (out / "likelihood.parquet").read_bytes() == whole[0]
    ours = json.loads((out / "summary.json").read_text())
    for summary in (ours, dict(whole[1])):
        summary["seconds"] = summary["machine"] = None
    assert ours == {**whole[1], "seconds": None, "machine": None}
    left = sorted(p.name for p in out.iterdir() if not p.name.startswith("."))
    assert left == ["journal.jsonl", "likelihood.parquet", "manifest.json", "report.html", "summary.json"]


def shards(out):
    return sorted(p.name for p in (out / "shards").glob("*.parquet"))


def until(condition, seconds=150):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
