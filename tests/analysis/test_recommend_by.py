"""What a recommendation is chosen by: figures of the error, or the distance of stochastic samples to data."""

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.analysis import recommend
from sdediff.cli import main
from sdediff.metrics import energy_distance
from sdediff.nets import MLP

FEW = ["ddim", "dpmpp_2m"]
NOISY = [("ancestral", "log_snr"), ("ddim", "log_snr"), ("dpmpp_2m_sde", "log_snr"), ("euler_maruyama", "uniform")]


@pytest.fixture(scope="module")
def target():
    return sd.target("target_m")


@pytest.fixture(scope="module")
def by_distance(target):
    model, data = target.model(sd.VP()), target.sample(600, seed=4)
    return recommend(model, (2,), calls=8, data=data, candidates=NOISY, starts=200, by="distance", check=False)


@pytest.mark.parametrize(("by", "figure"), [("median", "error"), ("q90", "q90"), ("rms", "rms")])
def test_the_least_of_a_figure_is_chosen(target, by, figure):
    best = recommend(target.model(sd.VP()), (2,), calls=5, candidates=FEW, starts=40, by=by, check=False)
    full = [row for row in best.candidates if row.starts == 40]
    assert getattr(full[0], figure) == min(getattr(row, figure) for row in full)
    assert best.by == by


def test_with_data_the_distance_is_shown_beside_the_error(target):
    model, data = target.model(sd.VP()), target.sample(300, seed=4)
    best = recommend(model, (2,), calls=5, candidates=["ddim"], starts=30, data=data, check=False, dtype=torch.float64)
    x = sd.sample(model, (30, 2), solver=best.solver, grid=best.times, dtype=torch.float64)
    expected = energy_distance(x, data)
    row = best.candidates[0]
    assert (row.distance, row.distance_error) == pytest.approx((expected.value, expected.std_error), rel=1e-6)
    assert "to the data" in str(best)


def test_stochastic_solvers_are_chosen_by_their_distance_to_the_data(target, by_distance):
    rows = [row for row in by_distance.candidates if row.starts]
    assert {row.solver for row in rows} == {"ancestral", "ddim", "dpmpp_2m_sde", "euler_maruyama"}
    assert [row.error is None for row in rows] == [row.solver != "ddim" for row in rows]
    least = min(rows, key=lambda row: row.distance)
    assert rows[0].distance <= least.distance + least.distance_error
    near = [row for row in rows if row.distance <= least.distance + least.distance_error]
    assert rows[0].gaussian == min(row.gaussian for row in near)
    [ancestral] = [row for row in rows if row.solver == "ancestral"]
    x = sd.sample(target.model(sd.VP()), (200, 2), solver="ancestral", grid="log_snr", calls=8)
    assert ancestral.distance == pytest.approx(energy_distance(x, target.sample(600, seed=4)).value, rel=1e-5)
    assert by_distance.error is None
    assert "distance" in repr(by_distance)


def test_a_choice_by_distance_is_kept(target, tmp_path):
    torch.manual_seed(0)
    model = sd.ScoreModel(MLP(2, width=8, blocks=1).eval().requires_grad_(False), sd.VP())
    options = {"calls": 4, "data": target.sample(50), "candidates": NOISY[:2], "starts": 30, "check": False}
    first = recommend(model, (2,), by="distance", keep=tmp_path, **options)
    again = recommend(model, (2,), by="distance", keep=tmp_path, **options)
    assert again.seconds == first.seconds
    assert again.candidates == first.candidates
    assert recommend(model, (2,), by="rms", keep=tmp_path, **options | {"candidates": ["ddim"]}).by == "rms"


def test_what_it_cannot_choose_by_is_refused(target):
    model = target.model(sd.VP())
    with pytest.raises(ValueError, match="by='mean': write one of both, median, q90, rms or distance"):
        recommend(model, (2,), by="mean")
    with pytest.raises(ValueError, match="compares samples with data: give data="):
        recommend(model, (2,), calls=4, by="distance", candidates=NOISY, starts=20)


def test_the_command_chooses_by_distance(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SDEDIFF_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    folder = sd.save(sd.ScoreModel(MLP(2, width=8, blocks=1).eval(), sd.VP()), tmp_path / "points", data={"shape": [2]})
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).standard_normal((60, 2)).astype("float32"))
    line = ["recommend", str(folder), "--calls", "4", "--starts", "24", "--solver", "ddim", "--solver", "ancestral"]
    assert main([*line, "--by", "distance", "--data", str(tmp_path / "rows.npy"), "--no-check"]) == 0
    assert "to the data" in capsys.readouterr().out
    assert main([*line, "--by", "distance", "--no-check"]) == 2
    assert capsys.readouterr().err.count("--data") >= 1
    assert main([*line, "--by", "mean"]) == 2
    assert "--by" in capsys.readouterr().err
