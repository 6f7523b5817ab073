"""The trace of the two passes: probes, nodes, central differences.

Statistical tests have a fixed seed and pass by chance but less than once in a million: |z| < 4.9 a comparison.
"""

import math

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.likelihood import divergence, forward_divergence, probe_vectors
from sdediff.likelihood.divergence_pass import probe_counts
from sdediff.likelihood.panels import Panels
from sdediff.likelihood.path_steps import PathSteps
from sdediff.likelihood.probe_variance import probe_spread
from sdediff.likelihood.trace import moments
from sdediff.noise.counter import indices
from tests.likelihood.two_pass_helpers import true_prior, with_stats

F64 = torch.float64
Z = 4.9


@pytest.fixture(scope="module")
def m():
    return sd.target("target_m")


@pytest.fixture(scope="module")
def points(m):
    return m.sample(256, seed=1, dtype=F64)


@pytest.mark.parametrize("dims", [5, 8])
def test_hadamard_probes_have_unit_covariance(dims):
    # Every entry of v v^T is a sign of mean delta_ij: over n independent vectors its standard error is n^-1/2.
    n = 20_000
    x = torch.zeros(n, dims, dtype=F64)
    v = torch.stack([probe_vectors("hadamard", x, 3, 7, indices(0, n), node)[2] for node in range(2)]).flatten(0, 1)
    assert set(v.unique().tolist()) == {-1.0, 1.0}
    away = (v.T @ v / (2 * n) - torch.eye(dims, dtype=F64)).abs()
    assert away.max() < Z / math.sqrt(2 * n)


def test_hadamard_probes_of_one_node_are_orthogonal_and_as_many_as_there_are_give_the_trace():
    generator = torch.Generator().manual_seed(2)
    for dims, size in ((8, 8), (11, 16)):
        a = torch.randn(dims, dims, generator=generator, dtype=F64)
        x = torch.zeros(3, dims, dtype=F64, requires_grad=True)
        v = probe_vectors("hadamard", x, size, seed=1, index=indices(0, 3), node=0)
        found = moments(x @ a, x, v)
        torch.testing.assert_close(found.trace.mean(0), a.trace().expand(3), rtol=0, atol=1e-12)
        assert probe_spread("hadamard", v, found.pulled, found.trace[0]).variance.abs().max() < 1e-12
        if dims == size:
            assert torch.equal(torch.einsum("pbd,qbd->bpq", v, v), dims * torch.eye(dims).double().expand(3, -1, -1))
    # Beyond N the matrix begins again, with other signs.
    more = probe_vectors("hadamard", torch.zeros(1, 4, dtype=F64), 6, 1, indices(0, 1), 0)
    assert more.shape == (6, 1, 4)


def test_hadamard_probes_vary_less_and_know_by_how_much():
    # Without repetition: 2 (|A|^2 - sum a_ii^2)/k (N - k)/(N - 1) for k of N; at 20,000 draws 1 % of itself.
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(16, 16, generator=generator, dtype=F64)
    a, n, k = (a + a.T) / 2, 500, 4
    x = torch.zeros(n, 16, dtype=F64, requires_grad=True)
    found, told = [], []
    for node in range(40):
        v = probe_vectors("hadamard", x, k, 1, indices(0, n), node)
        each = moments(x @ a, x, v)
        found.append(each.trace.mean(0))
        told.append(probe_spread("hadamard", v, each.pulled, each.trace[0]).variance)
    found, told = torch.cat(found), torch.cat(told)
    exact = 2 * (a.square().sum() - a.diagonal().square().sum()) / k * (16 - k) / 15
    assert found.var().item() == pytest.approx(exact.item(), rel=0.06)
    assert told.mean().item() == pytest.approx(exact.item(), rel=0.03)
    assert abs(found.mean() - a.trace()) < Z * torch.sqrt(exact / len(found))


@pytest.mark.parametrize("kind", ["hadamard", "rademacher", "gaussian"])
def test_probes_follow_seed_sample_and_node(kind):
    x = torch.zeros(6, 2, 3, dtype=F64)
    whole = probe_vectors(kind, x, 4, 1, indices(0, 6), node=5)
    assert torch.equal(probe_vectors(kind, x[:2], 4, 1, indices([4, 1], 2), node=5), whole[:, [4, 1]])
    assert torch.equal(probe_vectors(kind, x, 2, 1, indices(0, 6), node=5), whole[:2])
    for seed, node in ((2, 5), (1, 6), (1, None)):
        assert not torch.equal(probe_vectors(kind, x, 4, seed, indices(0, 6), node), whole)


@pytest.mark.parametrize(("kind", "probes"), [("hadamard", 3), ("rademacher", 3), ("gaussian", 3), ("hadamard", 1)])
def test_fresh_probes_are_unbiased(kind, probes):
    from sdediff.targets import gaussian

    cov = [[0.6, 0.2, 0.0], [0.2, 0.3, -0.1], [0.0, -0.1, 1.5]]
    g, sde, n = gaussian([0.5, -1.0, 2.0], cov=cov), sd.VP(), 400
    x = g.sample(n, seed=8, dtype=F64)
    options = {"end": "t0", "prior": true_prior(g, sde), "micro_batch": n, "rtol": 1e-5, "atol": 1e-5}
    found = sd.log_likelihood(g.model(sde), x, trace=kind, probes=probes, seed=3, **options)
    error = found.log_prob - g.log_prob(x, sde, 1e-5)
    assert abs(error.mean()) < Z * error.std() / math.sqrt(n)
    assert error.std() > 1e-3
    assert found.std_error.isnan().all() if probes == 1 else (found.std_error > 0).all()


def test_fresh_probes_beat_fixed_ones(m, points):
    target = sd.target("gmm64")
    sde, x = sd.VP(), target.sample(32, seed=4, dtype=F64)
    shared = {"trace": "rademacher", "probes": 1, "end": "t0", "prior": true_prior(target, sde)}
    truth = target.log_prob(x, sde, 1e-5)
    spread = {
        method: (sd.log_likelihood(target.model(sde), x, method=method, **shared).log_prob - truth).std().item()
        for method in ("two_pass", "ode")
    }
    # About 2 and more; 32 errors know their spread to 13 %.
    assert spread["ode"] > 1.5 * spread["two_pass"]


@pytest.mark.parametrize(("kind", "probes"), [("exact", 2), ("hadamard", 2), ("gaussian", 1)])
def test_forwards_alone_agree_with_gradients(m, points, kind, probes):
    seen = []
    model = with_stats(m, sd.VP()).map_net(lambda net: lambda x, t: seen.append(len(x)) or net(x, t))
    options = {"trace": kind, "micro_batch": 8} | ({} if kind == "exact" else {"probes": probes})
    vjp = sd.log_likelihood(model, points[:8], **options)
    trial = 6  # two samples, and each beside itself
    assert sum(seen) == vjp.calls.sum() + trial
    seen.clear()
    found = sd.log_likelihood(model, points[:8], autograd=False, **options)
    assert sum(seen) == found.calls.sum() + trial
    torch.testing.assert_close(found.log_prob, vjp.log_prob, rtol=0, atol=1e-5)
    # One call a node becomes two forwards a probe and node, exact: a dimension and node; and so at t0, once for the
    # probes and once along the score.
    assert set((found.calls - vjp.calls - 2 * probes).tolist()) <= {(2 * probes - 1) * n for n in range(100)}


def test_the_exact_trace_sees_a_node_of_all_samples_at_once(m, points):
    seen = []
    model = with_stats(m, sd.VP()).map_net(
        lambda net: lambda x, t: seen.append(x.requires_grad and len(x)) or net(x, t)
    )
    found = sd.log_likelihood(model, points[:16], trace="exact", micro_batch=16)
    # No probes part the batches: a call for the j-th node of all samples, the finer panels of few, and two at t0.
    sizes = [size for size in seen if size]
    assert sizes[: 2 * int(found.steps.min())] == [16] * (2 * int(found.steps.min()))
    assert sum(sizes) / len(sizes) > 6


def test_probes_go_where_the_steps_are_long():
    target, sde = sd.target("gmm64"), sd.VP()
    x = target.sample(64, seed=4, dtype=F64)
    model, truth = target.model(sde), target.log_prob(x)
    share = np.array([0.01, 0.1, 0.4, 0.4, 0.09]) / 0.2
    for mean, most, expected in ((8, 64, [2, 4, 16, 16, 4]), (8, 8, [8] * 5), (8, 4, [8] * 5), (1, 64, [1] * 5)):
        assert probe_counts(share, mean, most).tolist() == expected
    found = sd.log_likelihood(model, x, probes=8, rtol=1e-3, atol=1e-3)
    error = (found.log_prob - truth).square().mean().sqrt()
    # 64 errors know their spread to 9 %; the path's own error is 1 % of it.
    assert error == pytest.approx(found.std_error.square().mean().sqrt().item(), rel=0.3)


def test_central_differences_are_the_divergence():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=F64)

    def field(y):
        return torch.sin(y) * y.flip(1)

    inner = x.clone().requires_grad_(True)
    for kind in ("exact", "rademacher"):
        v = probe_vectors(kind, x, 3, 0, indices(0, 3), 0)
        torch.testing.assert_close(forward_divergence(field, x, v, 1e-5), divergence(field(inner), inner, v))


def test_nodes_of_a_step_integrate_polynomials_and_lie_on_the_path():
    from sdediff.integrate import adaptive

    steps = PathSteps("dopri5")
    y = torch.ones(2, 1, dtype=F64)
    rate = torch.tensor([-1.0, -3.0], dtype=F64)
    adaptive(lambda t, x, rows: rate[rows, None] * x, y, 0.1, 1.0, rtol=1e-8, atol=1e-8, visit=steps.visit)
    steps.close(y)
    panels = Panels.of_steps(steps, 3)
    for row in range(2):
        mine = panels.row == row
        phi = panels.phi[mine].ravel()
        assert (panels.weight[mine].ravel() * phi**5).sum() == pytest.approx((1 - 0.1**6) / 6, abs=1e-14)
        states, slopes = steps.at(np.repeat(panels.step[mine], 3), phi)
        exact = torch.exp(rate[row] * (torch.from_numpy(phi) - 0.1))
        torch.testing.assert_close(states[:, 0], exact, rtol=0, atol=1e-6)
        torch.testing.assert_close(slopes[:, 0], rate[row] * exact, rtol=0, atol=1e-4)
        assert sorted(panels.number[mine].ravel().tolist()) == list(range(3 * int(mine.sum())))
