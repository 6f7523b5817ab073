"""`--dry-run`: what a job would take, from one micro-batch, and nothing written."""

import json

import numpy as np
import pytest

import sdediff as sd
from sdediff.jobs import estimate, likelihood_work, samples_work
from tests.cli.output import parsed


def test_a_likelihood_is_estimated_and_not_begun(run, tmp_path):
    out = tmp_path / "out"
    words = ("likelihood", "points", "points.npy", "--rtol", 1, "--atol", 1, "--micro-batch", 8, "--out", out)
    said = parsed(run(*words, "--dry-run", "--json"))
    assert (said["units"], said["micro_batch"], said["slots"]) == (30, 8, 1)
    assert said["shards"] == -(-30 // said["shard"])
    assert said["seconds"] == pytest.approx(30 * said["unit_seconds"])
    assert not out.exists()
    said = parsed(run(*words, "--shard", 8, "--part", "1/2", "--workers", 2, "--dry-run", "--json"))
    assert (said["shards"], said["slots"]) == (4, 4)
    assert said["elapsed"] == pytest.approx(8 * said["unit_seconds"])
    assert not out.exists()


def test_samples_are_estimated_and_not_drawn(run, tmp_path):
    words = ("sample", "points", "-n", 5000, "--calls", 2, "--out", tmp_path / "out", "--dry-run")
    said = parsed(run(*words, "--json"))
    assert (said["units"], said["micro_batch"], said["bytes"]) == (5000, 256, 5000 * 2 * 4)
    code, out, _ = run(*words)
    assert code == 0
    assert "estimated from one micro-batch" in out
    assert not (tmp_path / "out").exists()


def test_an_estimate_needs_no_command(home):
    model = str(home / "points")
    rows = np.load(home / "points.npy")
    found = estimate(likelihood_work(model, rows, settings=sd.LikelihoodSettings(rtol=1.0, atol=1.0)), 16)
    assert (found.units, found.slots, json.loads(json.dumps(found.to_dict()))["units"]) == (30, 1, 30)
    assert estimate(samples_work(model, samples=600, calls=2), 64, shard=128, slots=2).shards == 5


def test_a_dry_run_refuses_what_the_job_would(run, tmp_path):
    words = ("likelihood", "points", "points.npy", "--out", tmp_path, "--dry-run")
    code, _, err = run(*words, "--shard", 65)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("sdediff: --shard: shard=65 is not a multiple of micro_batch=64: write 128")
    assert "--part: part=2/2" in run(*words, "--part", "2/2")[2]
    assert "wide.npy has samples of shape (3,)" in run("likelihood", "points", "wide.npy", "--dry-run")[2]
