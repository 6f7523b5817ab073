"""Data narrower than the noise at t0: path and divergence are integrated to the tolerance, against closed forms."""

import pytest
import torch

import sdediff as sd
from tests.likelihood.narrow_data import HALF_NARROW, Narrow

F64 = torch.float64
TABLE = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64))
PROCESSES = {
    "vp": sd.VP(), "subvp": sd.SubVP(), "ve": sd.VE(), "edm": sd.EDM(), "flow": sd.RectifiedFlow(),
    "cosine": sd.Cosine(), "table": TABLE,
}  # fmt: skip


def scored(data, sde, n=16, stats=False, **options):
    """A likelihood at t0 under the true p_T, with its error."""
    x = data.noised(n, sde, sde.t0)
    prior = lambda z: data.log_prob(z, sde, sde.t_max)  # noqa: E731
    found = sd.log_likelihood(data.model(sde, stats), x, end="t0", prior=prior, dtype=F64, **options)
    return found, (found.log_prob - data.log_prob(x, sde, sde.t0)).abs()


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("stats", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("tolerance", [None, 1e-5])
def test_the_exact_trace_whatever_the_process(name, stats, rotated, tolerance):
    options = {} if tolerance is None else {"rtol": tolerance, "atol": tolerance}
    found, error = scored(Narrow(HALF_NARROW, rotated), PROCESSES[name], 4, stats, trace="exact", **options)
    assert found.status == ("ok",) * 4
    # Without refinement: 10.8 nats at 1e-5 and 24 at the default, under VP. The tolerance of 1.5e-3 is .43 nats.
    assert error.max() < (0.65 if tolerance is None else 5e-3)
    assert (error <= found.solver_error).all()


@pytest.mark.parametrize("stats", [False, True])
def test_signs_are_exact_along_the_axes(stats):
    for kind in ("hadamard", "rademacher"):
        found, error = scored(Narrow(HALF_NARROW), sd.VP(), stats=stats, trace=kind)
        assert found.std_error.max() < 1e-6
        assert error.max() < 0.05
        assert (error <= found.solver_error).all()


@pytest.mark.parametrize("stats", [False, True])
@pytest.mark.parametrize("kind", ["hadamard", "rademacher", "gaussian"])
def test_rotated_data_are_covered_by_both_errors(kind, stats):
    # 64 samples, coverage .95: below .8 by chance in 1e-6.
    found, error = scored(Narrow(HALF_NARROW, rotated=True), sd.VP(), 64, stats, trace=kind)
    covered = error <= torch.hypot(1.96 * found.std_error, found.solver_error)
    assert covered.double().mean() > 0.8
    # Without refinement: 32 nats, with a solver_error of 0.00.
    assert error.square().mean().sqrt() < 8


def test_finer_panels_go_by_the_divergence_not_by_the_path():
    # The path of these data is linear in phi: one long step, on which the divergence is D cot(phi).
    found, _ = scored(Narrow([1e-4] * 16, rotated=True), sd.VP(), 2, trace="exact")
    assert (found.calls > 2 * found.steps + 20).all()


def test_one_samples_refinement_is_no_business_of_others():
    data, sde = Narrow(HALF_NARROW, rotated=True), sd.VP()
    model, x = data.model(sde), data.noised(7, sde, sde.t0)
    x[3] *= 30
    whole = sd.log_likelihood(model, x, end="t0", micro_batch=7, seed=2, dtype=F64, frozen=True)
    for mates in ([3], [0, 1, 2, 4, 5, 6]):
        other = x.clone()
        other[mates] = x[mates] * 0.1
        keep = [row for row in range(7) if row not in mates]
        found = sd.log_likelihood(model, other, end="t0", micro_batch=7, seed=2, dtype=F64, frozen=True)
        for name in ("log_prob", "std_error", "solver_error", "calls"):
            assert torch.equal(getattr(found, name)[keep], getattr(whole, name)[keep])


@pytest.mark.parametrize("dims", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("kind", [None, "hadamard", "rademacher", "gaussian"])
def test_as_many_probes_as_dimensions_are_the_exact_trace(dims, kind):
    data, sde = Narrow([0.1 + 0.2 * d for d in range(dims)], rotated=True), sd.VP()
    x, options = data.sample(4), {"rtol": 3e-3, "atol": 3e-3, "dtype": F64}
    found = sd.log_likelihood(data.model(sde), x, **options, **({} if kind is None else {"trace": kind, "probes": 12}))
    exact = sd.log_likelihood(data.model(sde), x, **options, trace="exact")
    assert torch.equal(found.log_prob, exact.log_prob)
    assert found.std_error.tolist() == [0.0] * 4
    ode = sd.log_likelihood(data.model(sde), x, method="ode", probes=8, dtype=F64)
    assert ode.std_error.tolist() == [0.0] * 4
