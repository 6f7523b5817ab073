"""Faults of the data-set job, injected into real processes: full disks, damaged shards, bad rows."""

import json
import os

import numpy as np
import pytest
from pyarrow import parquet

from tests.jobs.nursery import command, same, shards, until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked from one that has imported all")


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
