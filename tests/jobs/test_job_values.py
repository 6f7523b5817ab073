"""The data-set job: values, data of every kind, errors of the mean."""

import numpy as np
import pytest
import torch
from pyarrow import parquet

import sdediff as sd
from sdediff.datasets import DataSet
from sdediff.jobs import JobError
from tests.jobs.networks import QUICK, network


def test_values_are_those_of_log_likelihood_each_row_once_and_the_tail_kept(job, rows):
    summary, columns, said = job(rows)
    assert columns["index"] == list(range(11))
    parts = [
        sd.log_likelihood(network(), torch.tensor(rows[i : i + 4]), index=list(range(i, min(i + 4, 11))), **QUICK)
        for i in (0, 4, 8)
    ]
    assert columns["log_prob"] == [v for part in parts for v in part.log_prob.tolist()]
    assert columns["calls"] == [v for part in parts for v in part.calls.tolist()]
    norms = [row.norm().item() for part in parts for row in part.latent.double()]
    np.testing.assert_allclose(columns["latent_norm"], norms, rtol=1e-12)
    assert (summary.samples, summary.left_out, summary.bits_per_dim, said) == (11, 0, None, [])


@pytest.mark.parametrize("micro_batch", [1, 7, 64])
def test_micro_batches_agree_in_float64(job, rows, micro_batch):
    model = network(dtype=torch.float64)
    options = {"trace": "hadamard", "probes": 2, "frozen": True, "model": model}
    one = job(rows, "one", **options)[1]
    other = job(rows, "other", micro_batch=micro_batch, **options)[1]
    np.testing.assert_allclose(one["log_prob"], other["log_prob"], atol=1e-9, rtol=0)


def test_means_and_their_errors(job, rows):
    summary, columns, _ = job(rows, trace="hadamard", probes=2, method="two_pass")
    values, errors = np.array(columns["log_prob"]), np.array(columns["std_error"])
    assert summary.log_prob == pytest.approx(values.mean(), rel=1e-12)
    assert summary.log_prob_std_error == pytest.approx(values.std(ddof=1) / 11**0.5, rel=1e-12)
    assert summary.probe_error == pytest.approx(np.sqrt((errors**2).sum()) / 11, rel=1e-12)
    assert summary.solver_error == pytest.approx(np.abs(columns["solver_error"]).mean(), rel=1e-12)
    assert summary.t0 is not None
    assert (summary.method, summary.settings["trace"], summary.settings["seed"]) == ("two_pass", "hadamard", 0)


def test_data_of_every_kind_gives_the_same_values(job, rows, tmp_path):
    import pyarrow as pa

    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "a.npz", x=rows)
    parquet.write_table(pa.table({"a": rows[:, 0], "b": rows[:, 1]}), tmp_path / "a.parquet")
    labelled = torch.utils.data.TensorDataset(torch.tensor(rows), torch.zeros(11))
    kinds = [torch.tensor(rows), DataSet(rows), labelled, tmp_path / "a.npy", str(tmp_path / "a.npz"),
             tmp_path / "a.parquet"]  # fmt: skip
    expected = job(rows, "array")[1]["log_prob"]
    for number, data in enumerate(kinds):
        assert job(data, f"kind{number}")[1]["log_prob"] == expected
    assert job(labelled, "few", limit=3)[1]["index"] == [0, 1, 2]


def test_conditions_of_as_many_rows_go_by_row(job, rows):
    class Pulled(torch.nn.Module):
        def forward(self, x, t, centre, width):
            return (x - centre) * width

    model = sd.ScoreModel(Pulled(), sd.VP())
    cond = {"centre": torch.linspace(-1, 1, 11)[:, None], "width": torch.tensor(0.5)}
    _, columns, _ = job(rows, model=model, cond=cond)
    direct = sd.log_likelihood(model, torch.from_numpy(rows), cond=cond, micro_batch=4, **QUICK)
    np.testing.assert_allclose(columns["log_prob"], direct.log_prob, rtol=0, atol=1e-9)
    with pytest.raises(JobError, match=r"settings\.cond"):
        job(rows, model=model, cond={**cond, "width": torch.tensor(0.6)})
