"""Arguments that make no process."""

import math

import pytest
import torch

import sdediff as sd


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sd.Table.from_betas([0.1, 0.0]), r"betas must lie in \(0, 1\]"),
        (lambda: sd.Table.from_betas([0.1, 1.2]), r"betas must lie in \(0, 1\]"),
        (lambda: sd.Table.from_betas([0.1]), "at least two knots"),
        (lambda: sd.Table.from_betas([0.1, 1.0, 0.1]), "at least two knots whose noise rises"),
        (lambda: sd.Table.from_betas([0.1, math.nan]), "betas|knots"),
        (lambda: sd.Table.from_alpha_bars([0.1, 0.9]), "noise rises strictly"),
        (lambda: sd.Table.from_alpha_bars([1.0, 0.5]), "alpha_bars must lie in"),
        (lambda: sd.Table.from_alpha_bars([0.5, -0.1]), "alpha_bars must lie in"),
        (lambda: sd.Table.from_sigmas([1.0, 0.1]), "takes ascending sigmas: flip the list"),
        (lambda: sd.Table.from_sigmas([0.0, 0.1]), "sigmas must be positive"),
        (lambda: sd.Table.from_sigmas([0.1, math.nan]), "sigmas|knots"),
        (lambda: sd.VE(sigma_min=50.0, sigma_max=0.01), "sigma_min"),
        (lambda: sd.VE(sigma_min=0.0), "sigma_min"),
        (lambda: sd.VP(beta_min=-1.0), "beta_min"),
        (lambda: sd.VP(T=0.0), "T="),
    ],
)
def test_arguments_that_make_no_process_are_refused(make, message):
    with pytest.raises(sd.SDEError, match=message):
        make()


@pytest.mark.parametrize("t", [-0.1, 1.5, [0.5, 2000.0], math.nan])
@pytest.mark.parametrize("name", ["lam", "schedule", "diffusion", "marginal"])
@pytest.mark.parametrize("sde", [sd.VP(), sd.RectifiedFlow(), sd.Table.from_betas([0.1, 0.2])], ids=repr)
def test_times_outside_of_a_process_are_refused(sde, name, t):
    late = t if t != 1.5 else sde.T * 1.5
    with pytest.raises(sd.SDEError, match=rf"lies outside of the times of {type(sde).__name__}, \[0, {sde.T}\]"):
        getattr(sde, name)(late)
    getattr(sde, name)([0.3, sde.t_max])


def test_prior_samples_come_from_states():
    with pytest.raises(sd.Error, match="z is a list, needed is a tensor"):
        sd.VP().prior_sample([1.0])
    z = torch.ones(2, 3)
    assert torch.equal(sd.VE(sigma_max=3.0).prior_sample(z), 3 * z)
