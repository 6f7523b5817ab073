"""Guided models that evaluate other networks beside their own: each stays itself while it is counted and timed."""

import pytest
import torch

import sdediff as sd
from sdediff import guidance
from sdediff.benchmark.contenders.watched import Watch
from tests.guidance.mixtures import F64, PROCESS, parts


def _autoguided():
    return guidance.autoguidance(parts(2).model(PROCESS), parts(1).model(PROCESS), 1.5)


def _product():
    return guidance.product([parts(2).model(PROCESS), parts(1).model(PROCESS)])


@pytest.mark.parametrize("make", [_autoguided, _product])
def test_a_sweep_measures_the_model_that_it_was_given(make):
    """Heun's error against the exact flow vanishes with its steps, which that of another model does not."""
    data = parts(2).sample(64)
    report = sd.bench(
        {"guided": make()}, data=data, solvers=["heun"], grids=["log_snr"], calls=[39, 159], seeds=1, samples=32,
        distances=["energy"], check=False, likelihoods=0, dtype=F64,
    )  # fmt: skip
    coarse, fine = [row for row in report.rows if not row.real]
    assert fine.quality["error_median"].value < 1e-3
    assert fine.quality["error_median"].value < 0.15 * coarse.quality["error_median"].value
    assert fine.calls == 2 * 159  # both networks, once a prediction each


@pytest.mark.parametrize("make", [_autoguided, _product])
def test_a_contender_gets_the_model_that_it_was_given(make):
    model, x = make(), torch.tensor([[-0.7], [0.4]], dtype=F64)
    watch = Watch(model, 10, torch.device("cpu"))
    torch.testing.assert_close(watch.model(x, 0.5).x0, model(x, 0.5).x0, rtol=0, atol=0)
    assert watch.calls == 1
    assert watch.network.calls == 2


def test_speed_runs_every_network(monkeypatch):
    called = []
    model = _autoguided().map_net(lambda net: lambda x, t, **cond: called.append(net) or net(x, t, **cond))
    (found, *_) = sd.benchmark.speed.speeds(model, ["ddim"], (2, 1), 3, repeats=1).rows
    assert len({id(net) for net in called}) == 2
    assert found.calls == 2 * 3
