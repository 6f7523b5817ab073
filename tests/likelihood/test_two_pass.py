"""Likelihoods in two passes: closed forms, targets M, ring and gmm64.

Statistical tests have a fixed seed and pass by chance but less than once in a million: |z| < 4.9 a comparison.
"""

import pytest
import torch

import sdediff as sd
from tests.likelihood.two_pass_helpers import TIGHT, true_prior, with_stats

F64 = torch.float64


@pytest.fixture(scope="module")
def m():
    return sd.target("target_m")


@pytest.fixture(scope="module")
def points(m):
    return m.sample(256, seed=1, dtype=F64)


@pytest.mark.parametrize("name", ["vp", "subvp", "ve", "edm", "cosine", "flow"])
@pytest.mark.parametrize("known", [False, True])
def test_a_gaussians_closed_form_under_every_process(processes, name, known):
    sde, g = processes[name], sd.target("gaussian")
    model = with_stats(g, sde) if known else g.model(sde)
    x = g.sample(4, seed=2, dtype=F64)
    found = sd.log_likelihood(model, x, **TIGHT, end="t0", prior=true_prior(g, sde))
    torch.testing.assert_close(found.log_prob, g.log_prob(x, sde, sde.t0), rtol=0, atol=2e-6)
    assert found.status == ("ok",) * 4
    assert (found.method, found.end, found.t0, found.dims) == ("two_pass", "t0", sde.t0, 2)
    assert found.scale.startswith("0.866" if known else "1, mean 0")
    assert found.std_error.tolist() == [0.0] * 4


def test_a_round_gaussian_of_the_models_statistics_stands_still():
    # The whitened flow of data of that very mean and scale is zero: exact at any tolerance, and the latent is linear.
    from sdediff.targets import gaussian

    g, sde = gaussian([1.0, -2.0, 0.5], std=0.3), sd.VP()
    x = g.sample(5, seed=1, dtype=F64)
    found = sd.log_likelihood(with_stats(g, sde), x, rtol=0.1, atol=0.1, trace="exact", end="t0", prior="full")
    torch.testing.assert_close(found.log_prob, g.log_prob(x, sde, 1e-5), rtol=0, atol=1e-10)
    torch.testing.assert_close(found.latent, g.flow(x, sde, 1e-5, 1.0), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["target_m", "ring"])
def test_mixtures_and_the_error_that_is_told(name):
    target, sde = sd.target(name), sd.VP()
    x = target.sample(48, seed=3, dtype=F64)
    options = {"trace": "exact", "end": "t0", "prior": true_prior(target, sde)}
    found = sd.log_likelihood(with_stats(target, sde), x, rtol=1e-7, atol=1e-7, nodes=5, **options)
    error = (found.log_prob - target.log_prob(x, sde, 1e-5)).abs()
    assert error.max() < 1e-4
    for rough in (1e-3, 1e-4):
        found = sd.log_likelihood(with_stats(target, sde), x, rtol=rough, atol=rough, **options)
        error = (found.log_prob - target.log_prob(x, sde, 1e-5)).abs()
        assert (error <= found.solver_error).double().mean() >= 0.95
        assert (error / found.solver_error).max() < 10
        assert found.solver_error.median() < 300 * error.median()


def test_gmm64_and_the_measured_error():
    target, sde = sd.target("gmm64"), sd.VP()
    x = target.sample(12, seed=3, dtype=F64)
    options = {"trace": "exact", "end": "t0", "prior": true_prior(target, sde), "rtol": 1e-4, "atol": 1e-4}
    plain, found = (
        sd.log_likelihood(with_stats(target, sde), x, **options, solver_error=how) for how in ("estimate", "measure")
    )
    error = (found.log_prob - target.log_prob(x, sde, 1e-5)).abs()
    assert error.max() < 0.05
    assert torch.equal(found.log_prob, plain.log_prob)
    # The second run, a coarser one, is paid for; its difference comes on top of the estimate.
    assert (found.calls > 1.2 * plain.calls).all()
    assert (found.solver_error >= plain.solver_error).all()
    assert (found.solver_error >= error).all()
    assert found.solver_error.median() < 300 * error.median()


def test_a3_rk45s_error_at_six_tenths_of_its_calls(m, points):
    # RK45 of the literature evaluates drift and divergence apart: two forwards a call.
    sde, prior = sd.VP(), true_prior(m, sd.VP())
    theirs = sd.log_likelihood(m.model(sde), points, preset="literature", trace="exact", prior=prior)
    truth = m.log_prob(points, sde, 1e-5)
    assert (theirs.method, theirs.end) == ("ode", "t0")
    ours = sd.log_likelihood(
        with_stats(m, sde), points, rtol=6e-5, atol=6e-5, trace="exact", end="t0", prior=prior, nodes=4
    )
    assert (ours.log_prob - truth).abs().max() < (theirs.log_prob - truth).abs().max()
    assert (ours.log_prob - truth).square().mean() < (theirs.log_prob - truth).square().mean()
    assert ours.calls.double().mean() <= 0.6 * theirs.calls[0]
    assert ours.calls.double().mean() <= 0.5 * 2 * theirs.calls[0]


@pytest.mark.parametrize(("t0", "bound"), [(1e-2, 0.1), (1e-3, 5e-4), (1e-4, 5e-6)])
def test_a5_the_heat_term_takes_the_bias_of_the_start(m, points, t0, bound):
    sde = sd.VP()
    found = sd.log_likelihood(with_stats(m, sde), points, **TIGHT, t0=t0, prior=true_prior(m, sde))
    assert found.end == "heat"
    assert (found.log_prob - m.log_prob(points)).abs().max() <= bound


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
def test_the_error_of_the_path_is_taken_away_where_the_score_is_exact(m, points, tolerance):
    # log p at the ends of any curve differs by the integral of div f - s (y' - f): the curve need not be the flow's.
    sde = sd.VP()
    found = sd.log_likelihood(
        with_stats(m, sde), points, integrator="bosh3", rtol=tolerance, atol=tolerance, nodes=10, trace="exact",
        prior=true_prior(m, sde),
    )  # fmt: skip
    error, path = found.log_prob - m.log_prob(points), found.terms["path"]
    assert error.square().mean().sqrt() < 0.02 * (error - path).square().mean().sqrt()
    assert (found.solver_error >= path.abs()).all()


def test_the_terms_make_up_the_log_density(m, points):
    found = sd.log_likelihood(with_stats(m, sd.VP()), points[:8])
    assert set(found.terms) == {"prior", "divergence", "path", "width", "heat", "curvature"}
    torch.testing.assert_close(sum(found.terms.values()), found.log_prob)
    assert torch.equal(found.terms["prior"], found.prior_log_prob)
    assert found.prior == "full"
    assert sd.log_likelihood(m.model(sd.VP()), points[:8]).prior == "sigma"
