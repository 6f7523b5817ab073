"""The check that comes before likelihoods, recommendations and benchmarks, and what sampling compares for nothing."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.benchmark.tasks import Task
from sdediff.datasets import DataSet
from sdediff.wiring import misfit
from tests.wiring.networks import TARGET, data

RIGHT = TARGET.model(sd.VP())
WRONG = dataclasses.replace(RIGHT, predicts="eps")


def _job(model, folder, **options):
    return sd.likelihood_job(
        model, data()[:60].float(), folder, rtol=0.3, atol=0.3, probes=1, say=lambda _: None, **options
    )


def test_a_job_warns_once_and_its_bytes_are_the_same(tmp_path):
    with pytest.warns(sd.WiringWarning, match=r'write predicts="v".*60 rows, 1200 evaluations.*check=False'):
        _job(WRONG, tmp_path / "a")
    _job(WRONG, tmp_path / "a")  # a job that exists was checked when it began
    _job(WRONG, tmp_path / "b", check=False)
    a, b = ((tmp_path / name / "likelihood.parquet").read_bytes() for name in "ab")
    assert a == b
    _job(RIGHT, tmp_path / "c")


@pytest.mark.parametrize("rows", [torch.zeros(0, 2), torch.tensor(1.0), torch.zeros(4, 2, device="meta")])
def test_data_without_a_value_are_refused(rows):
    with pytest.raises(sd.Error, match="hold no rows: give samples"):
        sd.recommend(RIGHT, calls=4, starts=2, candidates=["ddim"], data=rows)


def test_a_recommendation_warns():
    options = {"calls": 4, "starts": 2, "candidates": ["ddim"]}
    with pytest.warns(sd.WiringWarning, match="read wrongly"):
        sd.recommend(WRONG, data=data()[:100].float(), **options)
    sd.recommend(WRONG, data=data()[:100].float(), check=False, **options)
    narrow = dataclasses.replace(RIGHT, sde=sd.VE(sigma_max=0.5), stats=sd.statistics(data()))
    with pytest.warns(sd.WiringWarning, match="sampling begins"):
        sd.recommend(narrow, **options)


def test_a_benchmark_warns_of_networks_of_the_user_s():
    net = RIGHT.net
    wrong = sd.ScoreModel(lambda x, t: net(x, t), sd.VP(), predicts="eps")
    task = Task("mine", wrong, data()[:200].float(), data()[200:400].float())
    options = {"solvers": ["ddim"], "calls": [3], "samples": 20, "distances": ["energy"]}
    with pytest.warns(sd.WiringWarning, match="read wrongly"):
        sd.bench([task], **options)
    sd.bench([task], check=False, **options)


def test_sampling_compares_the_ends_for_nothing():
    calls = []

    def net(x, t):
        calls.append(len(x))
        return torch.zeros_like(x)

    model = sd.ScoreModel(net, sd.VE(sigma_max=1.0), predicts="score", card={"data": {"range": [-10, 10]}})
    with pytest.warns(sd.WiringWarning, match="where sampling begins"):
        sd.sample(model, (2, 3), steps=4)
    assert calls == [2] * 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sd.sample(model, (2, 3), steps=4, start=0.5)  # asked for
        sd.sample(dataclasses.replace(model, card={"data": {"range": [-0.1, 0.1]}}), (2, 3), steps=4)


def test_bad_rows_are_left_to_the_job():
    x = data()[:100].numpy().copy()
    x[3] = np.nan
    assert misfit(RIGHT, DataSet(x, allow_bad=True)) is None
    assert 'predicts="v"' in misfit(WRONG, DataSet(x, allow_bad=True))


def test_what_cannot_be_checked_is_left_to_the_work():
    broken = sd.ScoreModel(lambda x, t: x * float("nan"), sd.VP())
    assert misfit(broken, data()) is None
