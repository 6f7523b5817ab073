"""Likelihoods in two passes: closed forms, targets M, ring and gmm64, traces, ends, batches and failures.

Statistical tests have a fixed seed and pass by chance but less than once in a million: |z| < 4.9 a comparison.
"""

import dataclasses
import math

import pytest
import torch
from torch import nn

import sdediff as sd
from sdediff.likelihood import divergence, forward_divergence, probe_vectors
from sdediff.likelihood.quadrature import Nodes
from sdediff.likelihood.trace import trace_error
from sdediff.noise.counter.counter import indices

F64 = torch.float64
TIGHT = {"rtol": 1e-8, "atol": 1e-8, "nodes": 5, "trace": "exact"}
Z = 4.9


def stats_of(problem):
    """The exact statistics of a mixture, not a sample's."""
    values, vectors = torch.linalg.eigh(problem.cov)
    dims = problem.cov.diagonal().reshape(problem.shape)
    return sd.Statistics(problem.mean, dims, vectors.T.contiguous(), values, values[0].item())


def with_stats(problem, sde):
    return dataclasses.replace(problem.model(sde), stats=stats_of(problem))


def true_prior(problem, sde):
    return lambda z: problem.log_prob(z, sde, sde.t_max)


@pytest.fixture(scope="module")
def m():
    return sd.problem("target_m")


@pytest.fixture(scope="module")
def points(m):
    return m.sample(256, seed=1, dtype=F64)


# --- closed forms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vp", "subvp", "ve", "edm", "cosine", "flow"])
@pytest.mark.parametrize("known", [False, True])
def test_a_gaussians_closed_form_under_every_process(processes, name, known):
    sde, g = processes[name], sd.problem("gaussian")
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
    problem, sde = sd.problem(name), sd.VP()
    x = problem.sample(48, seed=3, dtype=F64)
    options = {"trace": "exact", "end": "t0", "prior": true_prior(problem, sde)}
    found = sd.log_likelihood(with_stats(problem, sde), x, rtol=1e-7, atol=1e-7, nodes=5, **options)
    error = (found.log_prob - problem.log_prob(x, sde, 1e-5)).abs()
    assert error.max() < 1e-4
    for rough in (1e-3, 1e-4):
        found = sd.log_likelihood(with_stats(problem, sde), x, rtol=rough, atol=rough, **options)
        error = (found.log_prob - problem.log_prob(x, sde, 1e-5)).abs()
        # Told is what was measured, within a factor: most are covered, none is ten times worse.
        assert (error <= found.solver_error).double().mean() > 0.8
        assert (error / found.solver_error).max() < 10
        assert found.solver_error.median() < 100 * error.median()


def test_gmm64_and_the_measured_error():
    problem, sde = sd.problem("gmm64"), sd.VP()
    x = problem.sample(12, seed=3, dtype=F64)
    options = {"trace": "exact", "end": "t0", "prior": true_prior(problem, sde), "rtol": 1e-4, "atol": 1e-4}
    plain, found = (
        sd.log_likelihood(with_stats(problem, sde), x, **options, solver_error=how) for how in ("estimate", "measure")
    )
    error = (found.log_prob - problem.log_prob(x, sde, 1e-5)).abs()
    assert error.max() < 0.05
    assert torch.equal(found.log_prob, plain.log_prob)
    # The second run is paid for and told; its figure is of the size of the error.
    assert (found.calls > 2 * plain.calls).all()
    assert 0.2 < found.solver_error.square().mean().sqrt() / error.square().mean().sqrt() < 10


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
    torch.testing.assert_close(found.solver_error >= path.abs() / 4, torch.ones(len(points), dtype=torch.bool))


def test_the_terms_make_up_the_log_density(m, points):
    found = sd.log_likelihood(with_stats(m, sd.VP()), points[:8])
    assert set(found.terms) == {"prior", "divergence", "path", "width", "heat"}
    torch.testing.assert_close(sum(found.terms.values()), found.log_prob)
    assert torch.equal(found.terms["prior"], found.prior_log_prob)
    assert found.prior == "full"
    assert sd.log_likelihood(m.model(sd.VP()), points[:8]).prior == "sigma"


# --- the prior ----------------------------------------------------------------------------------------------------


def test_moment_matched_priors_are_the_normals_they_name():
    g, sde = sd.problem("gaussian"), sd.VP()
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(4), dtype=F64)
    alpha, sigma = (v.item() for v in sde.marginal(1.0))
    mean, eye = alpha * g.mean, torch.eye(2, dtype=F64)
    covs = {
        "full": g.cov,
        "diagonal": torch.diag(g.cov.diagonal()),
        "std": g.cov.trace() / 2 * eye,
    }
    from sdediff.likelihood.ends import log_prior

    model = with_stats(g, sde)
    for name, cov in covs.items():
        exact = torch.distributions.MultivariateNormal(mean, alpha**2 * cov + sigma**2 * eye).log_prob(z)
        torch.testing.assert_close(log_prior(name, model, z), exact, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_prior("full", model, z), g.log_prob(z, sde, 1.0), rtol=0, atol=1e-12)


def test_a_low_rank_prior_is_the_same_normal():
    d, sde = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=F64))[0], sd.VE()
    stats = sd.Statistics(torch.ones(5).double(), torch.ones(5).double(), d[:2], torch.tensor([3.0, 2.0]).double(), 0.5)
    model = sd.ScoreModel(lambda x, t: x, sde, stats=stats)
    z = 50 * torch.randn(4, 5, generator=torch.Generator().manual_seed(2), dtype=F64)
    from sdediff.likelihood.ends import log_prior

    cov = stats.covariance() + 2500 * torch.eye(5).double()
    exact = torch.distributions.MultivariateNormal(stats.mean, cov).log_prob(z)
    torch.testing.assert_close(log_prior("auto", model, z), exact, rtol=0, atol=1e-9)


def test_a4_the_full_prior_takes_the_floor(m, points):
    # Target M under VP: about 5e-3 nats with N(0, sigma_T^2 I), 1e-6 with mean and covariance.
    errors = {}
    for prior in ("sigma", "full"):
        found = sd.log_likelihood(with_stats(m, sd.VP()), points, **TIGHT, end="t0", prior=prior)
        errors[prior] = (found.log_prob - m.log_prob(points, sd.VP(), 1e-5)).abs().max().item()
    assert errors["sigma"] > 2e-3
    assert errors["full"] < 1e-5


# --- the trace ----------------------------------------------------------------------------------------------------


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
        found = divergence(x @ a, x, v)
        torch.testing.assert_close(found.mean(0), a.trace().expand(3), rtol=0, atol=1e-12)
        assert trace_error("hadamard", found, dims).abs().max() < 1e-12
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
        each = divergence(x @ a, x, probe_vectors("hadamard", x, k, 1, indices(0, n), node))
        found.append(each.mean(0))
        told.append(trace_error("hadamard", each, 16))
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


@pytest.mark.parametrize(("kind", "probes"), [("hadamard", 2), ("rademacher", 4), ("gaussian", 4), ("hadamard", 1)])
def test_fresh_probes_are_unbiased_and_know_their_error(kind, probes):
    from sdediff.targets import gaussian

    cov = [[0.6, 0.2, 0.0], [0.2, 0.3, -0.1], [0.0, -0.1, 1.5]]
    g, sde, n = gaussian([0.5, -1.0, 2.0], cov=cov), sd.VP(), 400
    x = g.sample(n, seed=8, dtype=F64)
    options = {"end": "t0", "prior": true_prior(g, sde), "micro_batch": n, "rtol": 1e-5, "atol": 1e-5}
    found = sd.log_likelihood(g.model(sde), x, trace=kind, probes=probes, seed=3, **options)
    error = found.log_prob - g.log_prob(x, sde, 1e-5)
    assert abs(error.mean()) < Z * error.std() / math.sqrt(n)
    assert error.std() > 1e-3
    if probes > 1:
        # 400 errors know their own spread to 3.5 %, heavy tails of few probes not counted.
        assert found.std_error.square().mean().sqrt().item() == pytest.approx(error.std().item(), rel=0.25)
    else:
        assert found.std_error.isnan().all()


def test_fresh_probes_beat_fixed_ones(m, points):
    problem = sd.problem("gmm64")
    sde, x = sd.VP(), problem.sample(32, seed=4, dtype=F64)
    shared = {"trace": "rademacher", "probes": 1, "end": "t0", "prior": true_prior(problem, sde)}
    truth = problem.log_prob(x, sde, 1e-5)
    spread = {
        method: (sd.log_likelihood(problem.model(sde), x, method=method, **shared).log_prob - truth).std().item()
        for method in ("two_pass", "ode")
    }
    # About 2 and more; 32 errors know their spread to 13 %.
    assert spread["ode"] > 1.5 * spread["two_pass"]


@pytest.mark.parametrize(("kind", "probes"), [("exact", 2), ("hadamard", 2), ("gaussian", 1)])
def test_forwards_alone_agree_with_gradients(m, points, kind, probes):
    seen = []
    model = with_stats(m, sd.VP()).map_net(lambda net: lambda x, t: seen.append(len(x)) or net(x, t))
    options = {"trace": kind, "probes": probes, "micro_batch": 8}
    vjp = sd.log_likelihood(model, points[:8], **options)
    assert sum(seen) == vjp.calls.sum()
    seen.clear()
    found = sd.log_likelihood(model, points[:8], autograd=False, **options)
    assert sum(seen) == found.calls.sum()
    torch.testing.assert_close(found.log_prob, vjp.log_prob, rtol=0, atol=1e-5)
    # One call a node becomes two forwards a probe and node, exact: a dimension and node; and so at t0.
    nodes = 2 * vjp.steps + 1
    assert torch.equal(found.calls - vjp.calls, nodes * (2 * probes - 1))


def test_the_exact_trace_sees_a_node_of_all_samples_at_once(m, points):
    seen = []
    model = with_stats(m, sd.VP()).map_net(
        lambda net: lambda x, t: seen.append(x.requires_grad and len(x)) or net(x, t)
    )
    found = sd.log_likelihood(model, points[:16], trace="exact", micro_batch=16)
    # Its probes are not asked for, so they part no batch: a call a node of the longest path, and one at t0.
    assert len([size for size in seen if size]) == 2 * found.steps.max() + 1


def test_probes_go_where_the_steps_are_long():
    problem, sde = sd.problem("gmm64"), sd.VP()
    x = problem.sample(64, seed=4, dtype=F64)
    model, truth = problem.model(sde), problem.log_prob(x)
    nodes = Nodes("bosh3", 2, 1)
    nodes.row, nodes.weight = torch.zeros(5, dtype=torch.int64), torch.tensor([0.01, 0.1, 0.4, 0.4, 0.09])
    assert nodes.probes(8, 64).tolist() == [2, 4, 16, 16, 4]
    assert nodes.probes(8, 8).tolist() == nodes.probes(8, 4).tolist() == [8] * 5
    assert nodes.probes(1, 64).tolist() == [1] * 5
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

    nodes = Nodes("dopri5", 3, 2)
    y = torch.ones(2, 1, dtype=F64)
    rate = torch.tensor([-1.0, -3.0], dtype=F64)
    adaptive(lambda t, x, rows: rate[rows, None] * x, y, 0.0, 1.0, rtol=1e-8, atol=1e-8, visit=nodes.visit)
    nodes.close(y)
    for row in range(2):
        mine = nodes.row == row
        torch.testing.assert_close((nodes.weight * nodes.phi**5)[mine].sum().item(), 1 / 6, rtol=0, atol=1e-14)
        exact = torch.exp(rate[row] * nodes.phi[mine])
        torch.testing.assert_close(nodes.y[mine][:, 0], exact, rtol=0, atol=1e-6)
        assert sorted(nodes.number[mine].tolist()) == list(range(int(mine.sum())))


# --- batches ------------------------------------------------------------------------------------------------------


def test_a11_a_sample_does_not_know_its_batch(points):
    m, sde = sd.problem("target_m"), sd.VP()
    model, x = with_stats(m, sde), points[:64]
    whole = sd.log_likelihood(model, x, micro_batch=64, seed=2)
    for size, count in ((1, 5), (7, 21)):
        part = sd.log_likelihood(model, x[:count], micro_batch=size, seed=2)
        torch.testing.assert_close(part.log_prob, whole.log_prob[:count], rtol=0, atol=1e-9)
        torch.testing.assert_close(part.std_error, whole.std_error[:count], rtol=0, atol=1e-9)
        assert torch.equal(part.steps, whole.steps[:count])
    order = [9, 3, 5]
    some = sd.log_likelihood(model, x[order], seed=2, index=order)
    torch.testing.assert_close(some.log_prob, whole.log_prob[order], rtol=0, atol=1e-9)


class Net(nn.Module):
    """A network of matrix products in float32, whose last bits do depend on the batch."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(9, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 8))
        self.bad = None

    def forward(self, x, t):
        out = self.body(torch.cat([x, t[:, None]], 1))
        if self.bad is None:
            return out
        return torch.where((x[:, :1] > self.bad) & (t > 0.3)[:, None], math.nan, out)


@pytest.mark.parametrize("autograd", [True, False])
def test_frozen_a_sample_ignores_its_mates_to_the_bit(autograd):
    net = Net().eval()
    model = sd.ScoreModel(net, sd.VP(), predicts="eps", time="t")
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(3))
    options = {"micro_batch": 6, "frozen": True, "seed": 4, "probes": 2, "autograd": autograd}
    whole = sd.log_likelihood(model, x, **options)
    # A sample keeps its slot; what the others hold, or whether they fail, does not reach it.
    other = x.clone()
    other[1:5] = 3 * x[1:5].flip(0)
    poisoned = x.clone()
    poisoned[2, 0] = 50.0
    for mates, bad in ((other, None), (poisoned, 20.0)):
        net.bad = bad
        found = sd.log_likelihood(model, mates, **options)
        for name in ("log_prob", "std_error", "latent", "calls", "solver_error"):
            assert torch.equal(getattr(found, name)[[0, 5]], getattr(whole, name)[[0, 5]])
    assert [word == "ok" for word in found.status] == [True, True, False, True, True, True]
    # A tail is padded: the first two alone, in a micro-batch of six.
    net.bad = None
    tail = sd.log_likelihood(model, x[:2], **options)
    assert torch.equal(tail.log_prob, whole.log_prob[:2])


def test_a_stiff_sample_costs_its_own_steps_alone():
    # One sample of a needle among 63 of round data. A shared step would cost every one of them as much.
    class Needle(nn.Module):
        def forward(self, x, t):
            alpha, sigma = (v[:, None] for v in sd.VP().marginal(t))
            narrow = torch.where(x[:, :1].abs() > 30, 1e-5, 1.0)
            return sigma * (x - narrow * 0) / (alpha**2 * narrow + sigma**2)

    model = sd.ScoreModel(Needle(), sd.VP(), predicts="eps", time="t")
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(5), dtype=F64)
    options = {"trace": "exact", "rtol": 1e-5, "atol": 1e-5, "dtype": F64}
    without = sd.log_likelihood(model, x[:63], **options)
    x[63] = torch.tensor([100.0, 0.3])
    found = sd.log_likelihood(model, x, **options)
    assert found.steps[63] > 2 * found.steps[:63].double().mean()
    assert torch.equal(found.calls[:63], without.calls)
    torch.testing.assert_close(found.log_prob[:63], without.log_prob, rtol=0, atol=1e-9)


# --- failures and refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_a_network_that_fails_on_one_sample_is_told_with_its_time(m, points, micro_batch):
    model, x = m.model(sd.VP()), points[:3].clone()
    alone = sd.log_likelihood(model, x, micro_batch=micro_batch)
    x[1, 0] = 60.0

    def poisoned(net):
        return lambda x, t: torch.where((x[:, :1] > 20) & (t > 0.2)[:, None], math.nan, net(x, t))

    found = sd.log_likelihood(model.map_net(poisoned), x, micro_batch=micro_batch)
    assert (found.status[0], found.status[2]) == ("ok", "ok")
    word = found.status[1]
    assert word.startswith("the network is not finite at t=0.2")
    assert found.log_prob[1].isnan()
    assert found.latent[1].isnan().all()
    torch.testing.assert_close(found.log_prob[[0, 2]], alone.log_prob[[0, 2]], rtol=0, atol=1e-9)


def test_a_sample_that_needs_too_many_steps_is_told(m, points):
    found = sd.log_likelihood(m.model(sd.VP()), points[:4], rtol=1e-8, atol=1e-8, max_steps=5)
    assert found.status == ("step limit",) * 4
    assert found.log_prob.isnan().all()


def test_conditions_with_a_row_a_sample_go_with_their_sample():
    base = sd.problem("target_m").model(sd.VP())

    def net(x, t, shift, scale=1.0):
        return base.net(x - scale * shift, t)

    model = sd.ScoreModel(net, sd.VP(), predicts="v", time="t")
    x = sd.problem("target_m").sample(5, seed=1, dtype=F64)
    shift = torch.linspace(0, 1, 5, dtype=F64)[:, None]
    found = sd.log_likelihood(model, x, cond={"shift": shift, "scale": 2.0}, micro_batch=3, trace="exact")
    for i in (0, 4):
        alone = sd.log_likelihood(model, x[i : i + 1], cond={"shift": shift[i].item(), "scale": 2.0}, trace="exact")
        torch.testing.assert_close(found.log_prob[i : i + 1], alone.log_prob, rtol=0, atol=1e-9)


def test_the_network_keeps_its_dtype(m, points):
    seen = []
    model = m.model(sd.VP()).map_net(lambda net: lambda x, t: seen.append((x.dtype, t.dtype)) or net(x, t))
    found = sd.log_likelihood(model, points[:4].float(), trace="exact")
    assert set(seen) == {(torch.float32, torch.float32)}
    assert (found.log_prob.dtype, found.latent.dtype) == (F64, F64)
    exact = sd.log_likelihood(model, points[:4], trace="exact")
    torch.testing.assert_close(found.log_prob, exact.log_prob, rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "two_passes"}, "unknown method 'two_passes': did you mean two_pass"),
        ({"preset": "literatur"}, "unknown preset 'literatur': did you mean literature"),
        ({"integrator": "RK45"}, r'integrator=.RK45.: two passes take one of .*dopri5.*write method="ode"'),
        ({"variable": "t"}, "unknown variable of two_pass 't': did you mean angle"),
        ({"nodes": 0}, "nodes=0: at least one is needed"),
        ({"max_steps": 0}, "max_steps=0: at least one is needed"),
        ({"prior": "full"}, "prior='full' needs the data's statistics, which this model lacks"),
        ({"solver_error": "guess"}, "unknown solver_error 'guess'"),
        ({"method": "ode", "frozen": True}, "does not belong to method='ode': it is for 'two_pass'"),
        ({"method": "ode", "autograd": False}, "does not belong to method='ode': it is for 'two_pass'"),
        ({"rtol": -1.0}, "tolerances must be positive"),
    ],
)
def test_wrong_arguments_are_refused(m, points, options, message):
    with pytest.raises(ValueError, match=message):
        sd.log_likelihood(m.model(sd.VP()), points[:2], **options)


def test_statistics_of_other_samples_are_refused(m, points):
    model = dataclasses.replace(m.model(sd.VP()), stats=stats_of(sd.problem("gmm64")))
    with pytest.raises(ValueError, match=r"statistics are of samples \(1, 8, 8\), x has samples \(2,\)"):
        sd.log_likelihood(model, points[:2])
