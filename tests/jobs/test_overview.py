"""`jobs status`, `verify` and `merge`: what a folder holds, and parts from several folders."""

import json
import shutil

import numpy as np
import pytest

import sdediff as sd
from sdediff import cli
from sdediff.jobs import JobError, job_status, merge_jobs, verify_job
from tests.jobs.networks import QUICK, network
from tests.jobs.squares import compute, squares


def test_status_counts_shards_and_units(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        compute(squares(stop=17), tmp_path)
    status = job_status(tmp_path)
    assert (status.shards_done, status.shards, status.units_done, status.units, status.finished) == (
        4,
        10,
        16,
        40,
        False,
    )
    assert status.seconds_left == pytest.approx(status.seconds * 24 / 16, abs=0.01)
    compute(squares(), tmp_path)
    status = job_status(tmp_path)
    assert (status.shards_done, status.units_done, status.finished, status.seconds_left) == (10, 40, True, 0.0)
    with pytest.raises(JobError, match="holds no job"):
        job_status(tmp_path / "nowhere")


def test_verify_names_what_is_damaged_and_changes_nothing(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        compute(squares(stop=17), tmp_path)
    assert verify_job(tmp_path) == []
    shard = tmp_path / "shards/000002.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert [str(shard) in text for text in verify_job(tmp_path)] == [True]
    assert cli.main(["jobs", "verify", str(tmp_path)]) == 1
    assert "000002.parquet is missing or damaged" in capsys.readouterr().err
    compute(squares(), tmp_path)
    assert cli.main(["jobs", "verify", str(tmp_path)]) == 0
    result = tmp_path / "squares.parquet"
    result.write_bytes(result.read_bytes()[:-1])
    assert "is not what was written" in verify_job(tmp_path)[0]
    assert cli.main(["jobs", "status", str(tmp_path), "--json"]) == 0
    capsys.readouterr()


def test_parts_in_several_folders_are_merged(tmp_path, capsys):
    rows = np.random.default_rng(0).normal(size=(11, 2)).astype(np.float32)
    options = {"micro_batch": 2, "shard": 2, "progress": False, "say": lambda _: None, **QUICK}
    sd.likelihood_job(network(), rows, tmp_path / "whole", **options)
    folders = [tmp_path / f"part{i}" for i in range(2)]
    for i, folder in enumerate(folders):
        assert sd.likelihood_job(network(), rows, folder, part=f"{i}/2", **options) is None
    with pytest.raises(JobError, match="lacks 3 of 6 shards, the first of them 1"):
        merge_jobs(folders[0])
    other = tmp_path / "other"
    sd.likelihood_job(network(), rows, other, part="1/2", **{**options, "rtol": 0.5})
    with pytest.raises(JobError, match=r"settings\.rtol is"):
        merge_jobs(folders[0], [other])
    shutil.copytree(folders[0], tmp_path / "copy")
    assert cli.main(["jobs", "merge", *map(str, folders)]) == 0
    assert capsys.readouterr().out.strip() == str(folders[0] / "likelihood.parquet")
    assert (folders[0] / "likelihood.parquet").read_bytes() == (tmp_path / "whole/likelihood.parquet").read_bytes()
    one, two = (json.loads((f / "manifest.json").read_text()) for f in (folders[0], tmp_path / "whole"))
    assert one["data"] == two["data"]
