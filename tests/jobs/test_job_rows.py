"""The data-set job: rows that are left out, flagged or few."""

import math

import numpy as np
import pytest
import torch

import sdediff as sd
from tests.jobs.networks import network


def test_a_sample_that_needs_more_steps_than_are_allowed_is_counted_and_left_out(job, rows):
    class Ripples(torch.nn.Module):
        def forward(self, x, t):
            wild = (x[:, :1] > 8).to(x)
            return x + wild * torch.sin(300 * x)

    hard = rows.copy()
    hard[5, 0] = 12.0
    model = sd.ScoreModel(Ripples(), sd.VP())
    summary, columns, _ = job(hard, model=model, rtol=1e-4, atol=1e-4, max_steps=25)
    assert columns["status"] == ["step limit" if i == 5 else "ok" for i in range(11)]
    assert summary.statuses == {"ok": 10, "step limit": 1}
    assert summary.left_out == 1
    assert summary.log_prob == pytest.approx(np.delete(columns["log_prob"], 5).mean())


def test_bad_rows_are_named_the_others_scored_and_the_mean_refused(job, rows):
    clean = job(rows, "clean", model=network(dtype=torch.float64))[1]["log_prob"]
    rows[5, 1] = np.nan
    rows[8] = np.inf
    summary, columns, _ = job(rows, model=network(dtype=torch.float64))
    assert "row 5 holds NaN or Inf (2 such rows of 11)" in summary.refused
    assert (summary.log_prob, summary.bad_rows, summary.left_out) == (None, (5, 8), 2)
    assert [i for i, v in enumerate(columns["log_prob"]) if v is None] == [5, 8]
    assert {columns["status"][i] for i in (5, 8)} == {"bad row"}
    good = [i for i in range(11) if i not in (5, 8)]
    np.testing.assert_allclose([columns["log_prob"][i] for i in good], [clean[i] for i in good], atol=1e-9)
    again, _, said = job(rows, model=network(dtype=torch.float64), skip_bad=True)
    assert again.refused is None
    assert again.log_prob == pytest.approx(np.mean([clean[i] for i in good]))
    assert said == ["begun before: all 11 rows are done"]


def test_a_sample_on_which_the_network_fails_is_flagged_and_left_out(job, rows):
    rows[6] = 50.0
    inner = network()

    class Failing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = inner.net

        def forward(self, x, t):
            far = (x.abs().amax(1, keepdim=True) > 30).to(x.dtype)
            return self.net(x, t) * torch.where(far > 0, torch.nan, 1.0)

    fails = sd.ScoreModel(Failing().eval(), inner.sde)
    summary, columns, _ = job(rows, model=fails)
    assert "t=" in columns["status"][6] or "finite" in columns["status"][6]
    assert [word for i, word in enumerate(columns["status"]) if i != 6] == ["ok"] * 10
    assert (summary.left_out, columns["log_prob"][6]) == (1, None)
    assert summary.log_prob == pytest.approx(np.mean([v for v in columns["log_prob"] if v is not None]))
    assert sum(summary.statuses.values()) == 11


@pytest.mark.parametrize("shape", [(1, 2), (5, 1), (5,), (2, 1, 4, 4)])
def test_one_sample_and_one_dimension(job, shape):
    x = np.random.default_rng(1).normal(size=shape)
    summary, columns, _ = job(x, model=network(max(1, math.prod(shape[1:]))))
    assert len(columns["index"]) == shape[0]
    assert math.isfinite(summary.log_prob)
    assert (summary.log_prob_std_error is None) == (shape[0] == 1)
