"""Models that go to other processes by their names, with what was set on them since they were loaded."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.jobs import JobError, Recipe, likelihood_work
from sdediff.jobs.names import NamedModel, recipe_for
from tests.jobs.networks import QUICK

N = 11


class Shifted(torch.nn.Module):
    """A network with a condition of one number a sample."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x, t, shift=0.0):
        return self.weight * (x - torch.as_tensor(shift).to(x).reshape(-1, 1))


def shifted():
    """The factory of the tests' model."""
    return sd.ScoreModel(Shifted().eval(), sd.VP())


@pytest.fixture
def points(tmp_path):
    rows = np.random.default_rng(0).normal(size=(N, 2))
    np.save(tmp_path / "points.npy", rows)
    return rows


def conditioned(points):
    """The model with statistics and a name of a condition that has a row a sample, and the condition."""
    model = sd.load("tests.jobs.test_named_models:shifted")
    stats = sd.statistics(torch.tensor(points))
    return replace(model, stats=stats, per_sample=("shift",)), {"shift": np.linspace(-1, 1, N)}


def test_conditions_and_statistics_reach_worker_processes(tmp_path, points):
    model, cond = conditioned(points)
    options = {"micro_batch": 4, "progress": False, "num_threads": 1, "say": print, "check": False, **QUICK}
    path = str(tmp_path / "points.npy")
    sd.likelihood_job(model, path, tmp_path / "one", cond=cond, prior="full", **options)
    sd.likelihood_job(model, path, tmp_path / "two", cond=cond, prior="full", workers=1, **options)
    one, two = ((tmp_path / name / "likelihood.parquet").read_bytes() for name in ("one", "two"))
    assert one == two
    plain = sd.load("tests.jobs.test_named_models:shifted")
    sd.likelihood_job(plain, path, tmp_path / "three", **options)
    assert (tmp_path / "three/likelihood.parquet").read_bytes() != one


def test_a_name_carries_what_was_set_since_it_was_loaded(points):
    model, cond = conditioned(points)
    changed = sd.guidance.clip(model.given(**cond), -2, 2)
    named = NamedModel.of(changed)
    again = named.load(None, None)
    assert again.changes == changed.changes
    assert torch.equal(again.stats.mean, model.stats.mean)
    torch.testing.assert_close(again.cond["shift"], torch.tensor(cond["shift"]), rtol=0, atol=0)
    x = torch.ones(N, 2)
    assert torch.equal(again(x, 0.3).x0, changed(x, 0.3).x0)


def test_a_process_that_makes_another_work_of_the_names_refuses_it(tmp_path, points):
    model = replace(sd.load("tests.jobs.test_named_models:shifted"), predicts="v")
    arguments = {"data": str(tmp_path / "points.npy"), "settings": None, "threads": 1}
    work = likelihood_work(model, **arguments)
    recipe = recipe_for("workers", "sdediff.jobs.likelihood:likelihood_work", {"model": model, **arguments})
    assert isinstance(recipe, Recipe)
    with pytest.raises(JobError, match=r"model\.predicts is \"v\" here and \"eps\" there: write a factory"):
        recipe.of(work).work()
    made = recipe_for("workers", recipe.make, {"model": shifted_by_name(), **arguments})
    assert made.of(likelihood_work(shifted_by_name(), **arguments)).work().units == N


def shifted_by_name():
    return sd.load("tests.jobs.test_named_models:shifted")


def test_functions_without_a_name_do_not_travel():
    model = sd.guidance.map_prediction(shifted_by_name(), lambda prediction, m: prediction)
    assert NamedModel.of(model) is None
    with pytest.raises(JobError, match="model= is a ScoreModel, which the processes of engine='workers' cannot load"):
        recipe_for("workers", "a:b", {"model": model, "data": "digits", "threads": 1})
