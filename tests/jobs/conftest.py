"""Jobs on few rows in this process, and a process that starts jobs in others."""

import json
import shutil

import numpy as np
import pytest
import torch
from pyarrow import parquet

import sdediff as sd
from sdediff.jobs.summary import MERGED
from sdediff.nets import MLP
from tests.jobs.networks import QUICK, network
from tests.jobs.nursery import Nursery, command


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(11, 2)).astype(np.float32)


@pytest.fixture
def job(tmp_path):
    """job(data, folder="out", model=..., **options) -> (summary, columns, lines said), quick by default."""

    def job(data, folder="out", model=None, **options):
        said = []
        given = {"micro_batch": 4, "progress": False, **QUICK, **options}
        summary = sd.likelihood_job(model or network(), data, tmp_path / folder, say=said.append, **given)
        return summary, parquet.read_table(tmp_path / folder / MERGED).to_pydict(), said

    job.out = tmp_path / "direct"
    return job


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
