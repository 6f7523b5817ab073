"""Likelihoods by the augmented ODE against closed forms of Gaussians."""

import math

import pytest
import torch

import sdediff as sd
from tests.likelihood.gaussian_data import PLANE, SPACE, TIGHT, ode, true_prior

F64 = torch.float64


def test_the_exact_trace_meets_a_gaussians_closed_form(sde):
    x = PLANE.sample(4, seed=1)
    found = ode(PLANE.model(sde), x, **TIGHT, prior=true_prior(PLANE, sde))
    torch.testing.assert_close(found.log_prob, PLANE.log_prob(x, sde, sde.t0), rtol=0, atol=1e-6)
    assert found.status == ("ok",) * 4
    assert (found.t0, found.dims, len(found), found.std_error.tolist()) == (sde.t0, 2, 4, [0.0] * 4)
    assert found.log_prob.dtype == F64


@pytest.mark.parametrize("make", [sd.VE, sd.VP])
@pytest.mark.parametrize("variable", ["angle", "t"])
@pytest.mark.parametrize("integrator", ["dopri5", "RK45", "LSODA"])
def test_integrators_of_scipy_and_torchdiffeq_agree(make, integrator, variable):
    sde, x = make(), SPACE.sample(3, seed=2)
    options = {
        "rtol": 1e-8,
        "atol": 1e-8,
        "variable": variable,
        "trace": "exact",
        "dtype": F64,
        "prior": true_prior(SPACE, sde),
    }
    found = ode(SPACE.model(sde), x, integrator=integrator, **options)
    torch.testing.assert_close(found.log_prob, SPACE.log_prob(x, sde, 1e-5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("variable", ["angle", "t"])
def test_torchode_takes_steps_of_each_samples_own(variable):
    pytest.importorskip("torchode", reason="torchode, of the extra `peers`, is not installed")
    m, sde = sd.problem("target_m"), sd.VP()
    x, options = m.sample(16, seed=2, dtype=F64), {"trace": "exact", "variable": variable, "rtol": 1e-7, "atol": 1e-7}
    theirs, ours = (ode(m.model(sde), x, integrator=name, **options) for name in ("torchode_tsit5", "dopri5"))
    torch.testing.assert_close(theirs.log_prob, ours.log_prob, rtol=0, atol=1e-5)
    far = torch.cat([x, torch.tensor([[0.01, 0.02]], dtype=F64)])
    beside = ode(m.model(sde), far, integrator="torchode_tsit5", **options)
    torch.testing.assert_close(beside.log_prob[:16], theirs.log_prob, rtol=0, atol=1e-9)


def test_the_latent_is_the_exact_flows_and_the_prior_term_its_density():
    sde, x = sd.VP(), PLANE.sample(5, seed=3)
    found = ode(PLANE.model(sde), x, **TIGHT)
    (a, early), (b, late) = PLANE.spread(sde, 1e-5), PLANE.spread(sde, 1.0)
    values, vectors = torch.linalg.eigh(PLANE.cov)  # both covariances share its axes
    gain = torch.sqrt(torch.diag(vectors.T @ late @ vectors) / torch.diag(vectors.T @ early @ vectors))
    exact = b * PLANE.mean + ((x - a * PLANE.mean) @ vectors * gain) @ vectors.T
    torch.testing.assert_close(found.latent, exact, rtol=0, atol=1e-6)
    std = sde.sigma(torch.tensor(1.0, dtype=F64)).item()
    torch.testing.assert_close(
        found.prior_log_prob,
        -(exact**2).sum(1) / (2 * std**2) - math.log(2 * math.pi * std**2),
        rtol=0,
        atol=1e-5,
    )
    assert values[0] > 0


def test_a_wide_ve_has_no_extra_ln_sigma_max():
    # swirl-dynamics took sigma^2 for the prior's deviation: ln 80 nats a dimension too few.
    sde, x = sd.VE(sigma_max=80.0), SPACE.sample(8, seed=4)
    exact = SPACE.log_prob(x, sde, 1e-5)
    # The Gaussian prior's own mismatch is z m / sigma_max^2 and less: .025 a unit of latent, not 4.4.
    for prior, tolerance in ((true_prior(SPACE, sde), 1e-6), ("sigma", 0.2)):
        found = ode(SPACE.model(sde), x, **TIGHT, prior=prior)
        torch.testing.assert_close(found.log_prob, exact, rtol=0, atol=tolerance)


def test_the_unit_gaussian_at_its_mode_has_score_sdes_value():
    # A VP leaves N(0, 1) as it is: 1.32574806474 bits/dim at 0, whatever the dimension; with the offset 8.3257...
    for shape in ((2, 5), (2, 1, 4, 4)):
        still = sd.ScoreModel(lambda x, t: -x, sd.VP(), predicts="score")
        found = ode(still, torch.zeros(shape, dtype=F64), prior="unit", trace="exact")
        bare = -found.log_prob / (found.dims * math.log(2))
        assert bare.tolist() == pytest.approx([1.32574806474] * 2, rel=1e-10)
        bpd = sd.bits_per_dim(found, levels=256, range=(-1, 1))
        assert bpd.tolist() == pytest.approx([8.32574806474] * 2, rel=1e-10)


@pytest.mark.parametrize(("data", "asked"), [(torch.float32, None), (F64, None), (F64, torch.float32)])
def test_the_network_keeps_its_dtype_and_the_density_is_float64(data, asked):
    # A plain function has no dtype of its own: it gets the data's unless another is asked for.
    sde, x, seen = sd.VP(), PLANE.sample(6, seed=5), []
    model = PLANE.model(sde).map_net(lambda net: lambda x, t: seen.append((x.dtype, t.dtype)) or net(x, t))
    found = ode(model, x.to(data), trace="exact", prior=true_prior(PLANE, sde), dtype=asked)
    assert (found.log_prob.dtype, found.latent.dtype) == (F64, F64)
    assert set(seen) == {(asked or data, asked or data)}
    torch.testing.assert_close(found.log_prob, PLANE.log_prob(x, sde, 1e-5), rtol=0, atol=5e-3)
