"""solver_error bounds the error from above, for networks that are no scores, at any tolerance.

The truth of a network is its own flow: DOP853 at 1e-10, x and log p together, over the exact trace and N(0, I).
"""

import functools
from dataclasses import replace

import pytest
import torch

import sdediff as sd
from tests.likelihood.fresh_networks import HELD_OUT
from tests.likelihood.fresh_networks import NETS as FRESH
from tests.likelihood.imperfect_networks import NETS, SDE, M, model, prior
from tests.likelihood.narrow_data import Narrow

F64 = torch.float64
COMMON = {"trace": "exact", "end": "t0", "prior": prior, "dtype": F64}


ALL = {
    **{name: (M, net) for name, net in NETS.items()},
    **{f"fresh: {name}": case for name, case in FRESH.items()},
    **{f"held out: {name}": case for name, case in HELD_OUT.items()},
}
TOLERANCES = (1e-2, 3e-3, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)


@functools.cache
def truth(name, n):
    tight = {"method": "ode", "integrator": "DOP853", "rtol": 1e-10, "atol": 1e-10}
    if name == "steps in t":  # DOP853 meets steps of .05 at every tolerance: many small panels instead
        tight = {"rtol": 1e-10, "atol": 1e-10, "nodes": 8, "max_steps": 100_000}
    data, net = ALL[name]
    x = data.sample(n, seed=3)
    return x, sd.log_likelihood(model(net), x, **tight, **COMMON).log_prob


def cell(name, tolerance, how, n):
    """The share covered, errors and bounds of n samples."""
    x, exact = truth(name, n)
    found = sd.log_likelihood(model(ALL[name][1]), x, rtol=tolerance, atol=tolerance, solver_error=how, **COMMON)
    good = torch.tensor([word == "ok" for word in found.status]) & found.solver_error.isfinite()
    error = (found.log_prob - exact).abs()
    # The truth itself is known to 1e-7 where a network is rough.
    return (good & (error <= found.solver_error + 1e-7)).double().mean().item(), error, found.solver_error


@pytest.mark.parametrize("how", ["estimate", "measure"])
@pytest.mark.parametrize("name", ["exact", "no gradient", "scaled", "poorly trained"])
def test_a_sample_of_the_table(name, how):
    for tolerance in (1e-2, 1e-4):
        covered, error, bound = cell(name, tolerance, how, 16)
        # 16 at .95: fewer than 10 by chance in 1e-6.
        assert covered >= 10 / 16
        assert (100 * bound > error - 1e-7).all()
        # The median of 16 may be half of that of many.
        assert bound.median() < 200 * error.median()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", ["estimate", "measure"])
@pytest.mark.parametrize("name", ALL)
def test_the_table(name, how):
    shares = []
    for tolerance in TOLERANCES:
        covered, error, bound = cell(name, tolerance, how, 64)
        shares.append(covered)
        assert (100 * bound > error - 1e-7).all(), tolerance
        if error.median() > 1e-6:
            assert bound.median() < 100 * error.median(), tolerance
    assert min(shares) >= 0.90, shares
    assert sum(shares) / len(shares) >= 0.95, shares


@pytest.mark.parametrize("options", [{}, {"rtol": 1e-4, "atol": 1e-4}, {"integrator": "bosh3", "nodes": 8}])
@pytest.mark.parametrize("name", ["ring_unequal", "target_m"])
def test_panels_of_unequal_widths_do_not_raise_the_bound(name, options):
    """Of a polynomial through the nodes of a wide panel and of narrow neighbours alone it would be up to 1e6 nats."""
    target = sd.target(name)
    x, sde = target.sample(64, seed=1, dtype=F64), sd.VP()
    net = replace(target.model(sde), stats=sd.statistics(target.sample(20_000, seed=9, dtype=F64)))
    found = sd.log_likelihood(net, x, trace="exact", **options)
    assert found.solver_error.max() < 1000 * found.solver_error.median()
    assert found.solver_error.max() < (0.1 if "rtol" in options else 3)
    # 64 at .9 or more: below 40 by chance in 1e-7.
    assert ((found.log_prob - target.log_prob(x)).abs() <= found.solver_error + 1e-3).sum() >= 40


@pytest.mark.parametrize("tolerance", [1e-2, 3e-4])
@pytest.mark.parametrize("stats", [False, True])
@pytest.mark.parametrize("std", [(1e-3, 0.5), (1e-4, 1e-4, 1.0, 1.0), (0.003, 0.03, 0.3)])
@pytest.mark.parametrize(
    "sde", [sd.VE(sigma_min=0.01), sd.EDM(), sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000))]
)
def test_the_bound_where_the_first_panel_is_long_and_nothing_is_refined(sde, std, stats, tolerance):
    data = Narrow(list(std), rotated=True)
    x = data.noised(24, sde, sde.t0, seed=5)
    options = {"trace": "exact", "end": "t0", "dtype": F64, "rtol": tolerance, "atol": tolerance}
    found = sd.log_likelihood(data.model(sde, stats=stats), x, **options)
    error = (found.log_prob - data.log_prob(x, sde, sde.t0)).abs()
    # 24 at .95: fewer than 17 by chance in 3e-5.
    assert (error <= found.solver_error + 1e-9).sum() >= 17


def test_the_plain_priors_mismatch_is_in_the_budget():
    data, sde = Narrow([0.3, 0.5, 1.0, 2.0], rotated=True), sd.VP()
    x = data.noised(32, sde, sde.t0)
    found = sd.log_likelihood(data.model(sde), x, rtol=1e-6, atol=1e-6, trace="exact", end="t0", dtype=F64)
    assert found.prior == "sigma"
    mismatch = (data.log_prob(found.latent, sde, 1.0) - found.prior_log_prob).abs()
    assert mismatch.max() > 10 * 1e-5
    error = (found.log_prob - data.log_prob(x, sde, sde.t0)).abs()
    assert (error <= found.solver_error).double().mean() >= 0.9
    measured = sd.log_likelihood(data.model(sde), x, method="ode", solver_error="measure", trace="exact", dtype=F64)
    error = (measured.log_prob - data.log_prob(x, sde, sde.t0)).abs()
    assert (error <= measured.solver_error).double().mean() >= 0.9


@pytest.mark.parametrize("prior", ["std", "diagonal"])
@pytest.mark.parametrize("beta_max", [1.0, 5.0])
def test_a_prior_of_a_part_of_the_covariance_has_its_mismatch_in_the_budget(prior, beta_max):
    data, sde = Narrow([0.3, 0.5, 1.0, 2.0], rotated=True), sd.VP(beta_max=beta_max)
    x = data.noised(32, sde, sde.t0)
    options = {"rtol": 1e-6, "atol": 1e-6, "trace": "exact", "end": "t0", "dtype": F64}
    found = sd.log_likelihood(data.model(sde, stats=True), x, prior=prior, **options)
    error = (found.log_prob - data.log_prob(x, sde, sde.t0)).abs()
    assert error.max() > 1e-3
    assert (error <= found.solver_error).all()
    assert found.solver_error.median() < 10 * error.median()


@pytest.mark.parametrize("sde", [sd.VE.exponential(50), sd.EDM()])
def test_a_unit_prior_is_refused_where_the_noise_ends_elsewhere(sde):
    data = Narrow([0.3, 0.5])
    with pytest.raises(sd.Error, match=r'prior="unit" is N\(0, I\), and .* write prior="sigma"'):
        sd.log_likelihood(data.model(sde), data.sample(2), prior="unit", dtype=F64)


def test_fixed_steps_are_not_measured_by_a_tolerance():
    with pytest.raises(ValueError, match="compares tolerances, and the steps of rk4 are fixed"):
        sd.LikelihoodSettings(method="ode", integrator="rk4", solver_error="measure")
    assert SDE.t0 == 1e-5
