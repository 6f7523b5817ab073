"""Likelihoods by the augmented ODE on target M of acceptance.md: A3, A4, A5."""

import pytest
import torch

import sdediff as sd
from tests.likelihood.gaussian_data import SPACE, TIGHT, TargetM, ode, true_prior

F64 = torch.float64


@pytest.fixture(scope="module")
def points():
    return TargetM().sample(256, seed=1)


@pytest.mark.parametrize(("tolerance", "calls", "worst"), [(1e-3, 56, 8e-2), (1e-5, 92, 4.6e-3), (1e-7, 206, 7e-6)])
def test_a3_rk45_on_target_m(points, tolerance, calls, worst):
    # The figures are one draw of points: held to 1.3 times the calls and 3 times the worst error.
    sde, m = sd.VP(), TargetM()
    options = {"integrator": "RK45", "trace": "exact", "prior": true_prior(m, sde), "dtype": F64}
    found = ode(m.model(sde), points, **options, rtol=tolerance, atol=tolerance, variable="t")
    error = (found.log_prob - m.log_prob(points, sde, 1e-5)).abs()
    assert error.max() < 3 * worst
    assert set(found.calls.tolist()) == {found.calls[0].item()}
    assert calls / 1.3 < found.calls[0] < 1.3 * calls
    # The angle, in which the flow is not stiff, costs no more.
    turned = ode(m.model(sde), points, **options, rtol=tolerance, atol=tolerance)
    assert turned.calls[0] <= found.calls[0]
    assert (turned.log_prob - m.log_prob(points, sde, 1e-5)).abs().max() < 8 * worst


@pytest.mark.parametrize("prior", ["sigma", "unit"])
def test_a4_the_gaussian_priors_mismatch_is_a_floor(points, prior):
    # About 5e-3 nats whatever the tolerance, and all of it in the prior's own term.
    sde, m, floors = sd.VP(), TargetM(), []
    for tolerance in (1e-6, 1e-8):
        found = ode(m.model(sde), points, **{**TIGHT, "rtol": tolerance, "atol": tolerance}, prior=prior)
        error = found.log_prob - m.log_prob(points, sde, 1e-5)
        mismatch = found.prior_log_prob - m.log_prob(found.latent, sde, 1.0)
        torch.testing.assert_close(error, mismatch, rtol=0, atol=100 * tolerance)
        floors.append(error.abs().max().item())
    assert 2e-3 < floors[1] < 1.2e-2
    assert floors[0] == pytest.approx(floors[1], rel=0.05)


@pytest.mark.parametrize(
    ("t0", "low", "high", "corrected"), [(1e-2, 0.1, 0.6, 0.1), (1e-3, 0.008, 0.04, 5e-4), (1e-4, 0.0, 4e-3, 5e-6)]
)
def test_a5_the_heat_term_takes_the_bias_of_the_start(points, t0, low, high, corrected):
    sde, m = sd.VP(), TargetM()
    errors = {}
    for end in ("t0", "heat"):
        options = {**TIGHT, "rtol": 1e-8, "atol": 1e-8, "prior": true_prior(m, sde), "t0": t0, "end": end}
        found = ode(m.model(sde), points, **options)
        errors[end] = (found.log_prob - m.log_prob(points)).abs().max().item()
        assert (found.t0, found.end) == (t0, end)
    assert low <= errors["t0"] <= high
    assert errors["heat"] <= corrected


@pytest.mark.parametrize("make", [sd.VE, sd.EDM, sd.RectifiedFlow, sd.Cosine, sd.SubVP])
def test_the_heat_term_serves_every_frame(make):
    # What is left is of order sigma^4, sigma the noise at t0; the alpha of the frame changes nothing.
    sde, x = make(), SPACE.sample(8, seed=6)
    t0 = {sd.VE: 0.05, sd.EDM: 0.02, sd.SubVP: 0.03}.get(make, 0.02)
    sigma = sde.sigma(torch.tensor(t0, dtype=F64)).item()
    options = {**TIGHT, "rtol": 1e-8, "atol": 1e-8, "prior": true_prior(SPACE, sde), "t0": t0}
    plain, heat = (
        (ode(SPACE.model(sde), x, **options, end=end).log_prob - SPACE.log_prob(x)).abs().max().item()
        for end in ("t0", "heat")
    )
    # Smallest variance of SPACE: .19, largest |z|^2 here 12: the next term is below 200 sigma^4.
    assert heat < 200 * sigma**4 + 1e-7
    assert heat < 0.05 * plain
