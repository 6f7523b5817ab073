"""A user's process or clock that cannot be right is refused when the model or the grid is made."""

from __future__ import annotations

import math

import pytest
import torch

import sdediff as sd
from tests.test_truth.processes import Pair, Plain

TABLE = sd.Table.from_betas(torch.linspace(1e-3, 0.4, 12, dtype=torch.float64))


def net(x, t):
    return 0.1 * x


WRONG = {
    "reversed": (lambda t: t + 0.01, lambda t: 1.01 - t, "does not rise with time"),
    "constant": (torch.ones_like, lambda t: 0.5 + 0 * t, "does not rise with time"),
    "bent": (torch.ones_like, lambda t: 0.1 + t * (1.2 - t), "does not rise with time"),
    "float alpha": (lambda t: 1.0, lambda t: t, r"alpha\(t\) gave 1.0"),
    "int alpha": (lambda t: torch.ones_like(t).long(), lambda t: t, "torch.int64"),
    "float32": (lambda t: torch.ones_like(t).float(), lambda t: t, "torch.float32"),
    "0-d sigma": (torch.ones_like, lambda t: torch.tensor(1.0, dtype=torch.float64), r"of shape \(\)"),
    "short": (torch.ones_like, lambda t: t[:1], r"of shape \(1,\)"),
    "nan": (torch.ones_like, lambda t: t * math.nan, "not finite"),
    "inf": (torch.ones_like, lambda t: 1 / (0.5005 - t).abs(), "not finite"),
    "negative sigma": (torch.ones_like, lambda t: -t, "must be positive"),
    "negative alpha": (lambda t: -torch.ones_like(t), lambda t: t, "must be positive"),
    "raises": (lambda t: t.nothing, lambda t: t, "raised AttributeError"),
}


@pytest.mark.parametrize("name", WRONG)
def test_coefficients_that_cannot_be_right(name):
    alpha, sigma, said = WRONG[name]
    sde = Pair(alpha, sigma)
    for make in (
        lambda: sd.ScoreModel(net, sde), lambda: sd.grid("uniform", sde, 4), lambda: sd.analyse("ddim", sde, steps=3),
        lambda: sd.reschedule(sd.ScoreModel(net, sd.VP()), sde),
    ):  # fmt: skip
        with pytest.raises(sd.SDEError, match=said):
            make()


def test_a_process_whose_alpha_underflows_begins_where_data_still_show():
    sde = Pair(lambda t: torch.exp(-2000 * t**2), lambda t: 0.01 + t)
    assert sde.alpha(torch.tensor([1.0], dtype=torch.float64)).item() == 0
    assert sde.lam(torch.tensor([sde.t_max], dtype=torch.float64)).item() == pytest.approx(-10, abs=1e-6)
    spread = [sd.analyse("dpmpp_2m", sde, spectrum=(0.25,), steps=n).variance[0] for n in (50, 200)]
    assert abs(spread[1] - 0.25) < 1e-3
    assert abs(spread[1] - 0.25) < abs(spread[0] - 0.25)


def test_a_right_process_is_looked_at_once():
    looks = []
    sde = Pair(lambda t: looks.append(len(t)) or torch.ones_like(t), lambda t: t)
    model = sd.ScoreModel(net, sde)
    before = len(looks)
    model.given(a=1).map_net(lambda f: f)
    assert len(looks) == before


def test_lam_that_turns_between_the_times_of_the_look_is_refused_on_the_grid():
    # A bump narrower than the spacing of the look.
    sde = Pair(torch.ones_like, lambda t: t + 0.2 * torch.exp(-(((t - 0.53) / 0.005) ** 2)))
    model = sd.ScoreModel(net, sde)
    with pytest.raises(sd.SDEError, match=r"log\(alpha/sigma\) goes from .* where it must fall"):
        sd.sample(model, (2, 2), solver="ddim", grid=[1.0, 0.545, 0.53, 0.1])


@pytest.mark.parametrize("d", [2, 4, 5])
def test_a_vector_of_diffusions_is_refused_whatever_the_steps(d):
    with pytest.raises(sd.SDEError, match=rf"diffusion\(t\) gave .* of shape \({d},\)"):
        sd.ScoreModel(net, Plain(lambda t: torch.ones(d, dtype=torch.float64)), predicts="score")


def test_diffusions_that_are_numbers_are_right_and_negative_ones_are_not():
    sd.ScoreModel(net, Plain(lambda t: 2.0), predicts="score")
    with pytest.raises(sd.SDEError, match="negative"):
        sd.ScoreModel(net, Plain(lambda t: -torch.ones_like(t)), predicts="score")


def test_a_drift_of_another_shape_is_refused():
    model = sd.ScoreModel(net, Plain(torch.ones_like, lambda x, t: -x[:1]), predicts="score")
    with pytest.raises(sd.SDEError, match=r"drift gave Tensor torch.float32 of shape \(1, 2\)"):
        sd.sample(model, x=torch.ones(3, 2), solver="euler", steps=2)


@pytest.mark.parametrize("kind", ["knots", "strided"])
@pytest.mark.parametrize("ends", [{"start": 10.5}, {"stop": 1.5}, {"stop": 0.0}])
def test_a_time_between_training_timesteps_is_refused_by_the_grids_of_timesteps(kind, ends):
    n = None if kind == "knots" else 3
    with pytest.raises(sd.Error, match="is no training timestep"):
        sd.grid(kind, TABLE, n, **ends)
    assert sd.grid("uniform", TABLE, 3, start=10.5)[0] == 10.5


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        (lambda v: torch.ones(3), "needed is one number"), (lambda v: v.nothing, "raised AttributeError"),
        (lambda v: "a", "needed is one number"), (lambda v: math.nan, "needed is a finite number"),
        (lambda v: None, "needed is one number"), (3, "write one of"),
    ],
)  # fmt: skip
def test_clocks(clock, said):
    with pytest.raises(sd.Error, match=said):
        sd.ScoreModel(net, sd.VP(), time=clock)


def test_a_clock_for_numbers_alone_is_refused_where_times_are_a_row():
    model = sd.ScoreModel(net, sd.VP(), time=lambda v: math.log(v.time))
    assert sd.sample(model, (3, 2), steps=2).shape == (3, 2)
    with pytest.raises(sd.ModelError, match="write it with torch functions"):
        sd.loss(model, torch.ones(3, 2))
