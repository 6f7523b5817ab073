"""A sweep that is killed, by the command, goes on to the same bytes."""

import os
import random
import signal
import time

import pytest

from sdediff.benchmark import Report
from tests.jobs.nursery import shards, until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked from one that has imported all")


def command(out):
    """A sweep of forty cells."""
    return (
        "bench", "--targets", "target_m", "--solvers", "ddim,ancestral", "--calls", "3,4", "--samples", 20,
        "--seeds", 8, "--distances", "energy", "--out", out,
    )  # fmt: skip


def test_a_killed_sweep_goes_on_to_the_same_bytes(nursery, tmp_path):
    code, said = nursery.run(*command(tmp_path / "whole"))
    assert code == 0, said
    whole = (tmp_path / "whole" / "cells.parquet").read_bytes()
    out, draws = tmp_path / "out", random.Random(0)
    for least in (3, 12, 25):
        process = nursery.start(*command(out))
        until(lambda least=least: len(shards(out)) >= least)
        time.sleep(draws.uniform(0, 0.05))
        process.kill()
        assert process.wait()[0] == -signal.SIGKILL
        assert least <= len(Report.load(out).cells) < 40
    code, said = nursery.run(*command(out))
    assert code == 0, said
    assert "begun before" in said
    assert (out / "cells.parquet").read_bytes() == whole
