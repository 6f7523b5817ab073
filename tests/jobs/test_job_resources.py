"""The data-set job: memory, the disk, threads."""

import json
import tracemalloc

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.jobs import JobError
from sdediff.jobs.blocks import Blocks
from sdediff.jobs.inputs import data_set
from sdediff.jobs.summary import MERGED
from tests.jobs.networks import network


def test_out_of_memory_halves_the_micro_batch_says_it_once_and_notes_it(job, rows, tmp_path):
    inner = network(dtype=torch.float64)
    expected = job(rows, "enough", model=inner, micro_batch=8)[1]["log_prob"]

    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = inner.net

        def forward(self, x, t):
            if len(x) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.net(x, t)

    model = sd.ScoreModel(Small().eval(), inner.sde)
    summary, columns, said = job(rows, model=model, micro_batch=8)
    assert said == [f"memory ran out: {n} samples at a time from here on" for n in (4, 2)]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["notes"] == {"micro_batch": 2}
    assert summary.micro_batch == 2
    np.testing.assert_allclose(columns["log_prob"], expected, atol=1e-9, rtol=0)


def test_no_memory_for_one_sample_is_an_error_and_others_are_not_taken_for_it(job, rows):
    def broken(x, t):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(JobError, match="one sample at a time"):
        job(rows, model=sd.ScoreModel(broken, sd.VP()))

    def other(x, t):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        job(rows, "other", model=sd.ScoreModel(other, sd.VP()))


def _identity(data):
    blocks = Blocks(data)
    return blocks.identity(blocks.digests(range(len(data)), len(data)))


def test_a_million_rows_stay_on_the_disk(tmp_path):
    held = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.float32, (1_000_000, 8))
    held[::1000] = 1.5
    held.flush()
    size = held.nbytes
    del held
    tracemalloc.start()
    try:
        data = data_set(tmp_path / "big.npy")
        first = _identity(data)
        data.tensor(index=range(64))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(data) == 1_000_000
    assert peak < size / 2
    changed = np.lib.format.open_memmap(tmp_path / "big.npy", "r+")
    changed[-1, -1] = 2.0
    changed.flush()
    assert _identity(data_set(tmp_path / "big.npy")) != first


def test_threads_come_from_the_manifest_and_go_back(job, rows, tmp_path):
    seen, before = [], torch.get_num_threads()
    inner = network()

    def net(x, t):
        seen.append(torch.get_num_threads())
        return inner.net(x, t)

    job(rows, model=sd.ScoreModel(net, sd.VP()), num_threads=2)
    assert set(seen) == {2}
    assert torch.get_num_threads() == before
    (tmp_path / "out" / MERGED).unlink()
    seen.clear()
    job(rows, model=sd.ScoreModel(net, sd.VP()))
    assert set(seen) == {2}
