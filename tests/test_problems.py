"""Problems have the samples, densities, scores and flows that they claim, checked by other routes."""

import copy
import io
import math
import pickle

import pytest
import torch

from sdediff.grids.levels import levels
from sdediff.model.score_model.score_model import ModelError
from sdediff.sde.base.base import SDE
from sdediff.sde.base.processes import EDM, VE, VP, Cosine, RectifiedFlow, SubVP
from sdediff.sde.base.table import Table
from sdediff.targets import (
    PROBLEMS,
    ExactNet,
    Mixture,
    gaussian,
    low_rank_mixture,
    mixture,
    moons,
    problem,
    ring,
    target_m,
)

DDPM = Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
NCSN = Table.from_sigmas(torch.logspace(-2, 1, 10, dtype=torch.float64))
PROCESSES = [VP(), SubVP(), VE(), VE(zero_start=True), EDM(), Cosine(), RectifiedFlow(), DDPM, NCSN]
SMALL = {
    "gaussian": problem("gaussian"),
    "target_m": target_m(),
    "ring_unequal": problem("ring_unequal"),
    "low_rank": low_rank_mixture(5, 3, 2, floor=0.1, shape=(1, 5)),
    "no_rank": low_rank_mixture(4, 3, 0, floor=0.5),
}
every_process = pytest.mark.parametrize("sde", PROCESSES, ids=lambda s: repr(s)[:24])
every_small = pytest.mark.parametrize("name", SMALL)


def times(sde):
    """Both ends (alpha = 0 and the smallest sigma included) and three times between."""
    low, high = sde.t0, sde.T
    return [low, low + 0.01 * (high - low), low + 0.3 * (high - low), sde.t_max, high]


def noised(m, sde, t, n=40, seed=1):
    """States of p_t, and as many away from it, float64."""
    x0 = m.sample(n, dtype=torch.float64)
    z = gaussian(torch.zeros(m.dim), std=1.0, shape=m.shape).sample(n, seed=seed, dtype=torch.float64)
    time = torch.tensor(t, dtype=torch.float64)
    x = sde.alpha(time) * x0 + sde.sigma(time) * z
    return torch.cat([x, x + z])


def dense(m):
    """Every component's covariance as a plain matrix (K, D, D)."""
    if m.basis is None:
        return torch.diag_embed(m.variances)
    return (m.basis * m.variances[:, None]) @ m.basis.mT + m.floor[:, None, None] * torch.eye(m.dim)


def torchs(m, alpha, sigma):
    """The same mixture in torch.distributions, noised."""
    cov = alpha**2 * dense(m) + sigma**2 * torch.eye(m.dim, dtype=torch.float64)
    parts = torch.distributions.MultivariateNormal(alpha * m.means, cov)
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(m.weights), parts)


@every_process
@every_small
def test_score_is_the_gradient_of_log_prob(name, sde):
    m = SMALL[name]
    for t in times(sde):
        x = noised(m, sde, t).requires_grad_(True)
        expected = torch.autograd.grad(m.log_prob(x, sde, t).sum(), x)[0]
        error = (m.score(x, sde, t) - expected).abs().max()
        assert error <= 1e-9 * (1 + expected.abs().max()), t


@every_process
@every_small
def test_model_says_the_same_score_and_denoiser(name, sde):
    m = SMALL[name]
    model = m.model(sde)
    for t in times(sde):
        x = noised(m, sde, t)
        said, score, x0 = model(x, t), m.score(x, sde, t), m.denoised(x, sde, t)
        assert said.raw.isfinite().all()
        # eps and score are differences of states at small sigma, so their digits are counted in x / sigma.
        sigma = sde.sigma(torch.tensor(t, dtype=torch.float64)).item()
        assert (said.score - score).abs().max() <= 1e-13 * (1 + x.abs().max()) * max(1, sigma**-2)
        assert (said.x0 - x0).abs().max() <= 1e-12 * (1 + x.abs().max())


@every_process
def test_tweedie_links_score_and_denoiser(sde):
    m = SMALL["low_rank"]
    for t in times(sde):
        x, time = noised(m, sde, t), torch.tensor(t, dtype=torch.float64)
        alpha, sigma = sde.alpha(time), sde.sigma(time)
        slip = alpha * m.denoised(x, sde, t) - x - sigma**2 * m.score(x, sde, t)
        assert slip.abs().max() <= 1e-12 * (1 + x.abs().max())


@every_small
def test_log_prob_equals_the_dense_mixture_of_torch(name):
    m = SMALL[name]
    for sde, t in ((None, None), (VP(), 1e-3), (VP(), 0.4), (EDM(), 80.0), (RectifiedFlow(), 1.0)):
        time = torch.tensor(t or 0.0, dtype=torch.float64)
        alpha, sigma = (sde.alpha(time), sde.sigma(time)) if sde else (torch.ones(()), torch.zeros(()))
        x = noised(m, sde, t) if sde else m.sample(50, dtype=torch.float64)
        expected = torchs(m, alpha.double(), sigma.double()).log_prob(x.reshape(len(x), -1))
        torch.testing.assert_close(m.log_prob(x, sde, t), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["gaussian", "target_m", "ring", "moons"])
@pytest.mark.parametrize("t", [None, 0.2, 1.0])
def test_density_integrates_to_one(name, t):
    axis = torch.arange(-6, 6, 0.04, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    logs = problem(name).log_prob(points, None if t is None else VP(), t)
    assert abs(logs.exp().sum().item() * 0.04**2 - 1) < 2e-7


@pytest.mark.parametrize("name", ["gaussian", "target_m", "ring_unequal", "moons", "gmm64"])
def test_samples_have_the_exact_mean_and_covariance(name):
    m, n = problem(name), 20000
    x = m.sample(n, seed=5, dtype=torch.float64).reshape(n, -1)
    away = x - m.mean.reshape(-1)
    # Six standard errors on each entry, estimated from the samples: 64^2 entries pass at a chance of 1e-5 below.
    assert (away.mean(0).abs() <= 6 * away.std(0) / math.sqrt(n)).all()
    second, square = away.T @ away / n, away.square()
    error = ((square.T @ square / n - second.square()) / n).sqrt()
    assert ((second - m.cov).abs() <= 6 * error).all()


def test_samples_have_the_exact_weights():
    m, n = problem("ring_unequal"), 20000
    nearest = torch.cdist(m.sample(n, dtype=torch.float64), m.means).argmin(1)
    share = torch.bincount(nearest, minlength=8) / n
    # Modes are 10 standard deviations apart, so the nearest mean is the component.
    assert ((share - m.weights).abs() <= 5.5 * (m.weights * (1 - m.weights) / n).sqrt()).all()


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_sample_depends_on_its_number_alone(name):
    m = problem(name)
    x = m.sample(70, seed=3)
    assert x.shape == (70, *m.shape)
    assert x.dtype == torch.float32
    assert torch.equal(m.sample(1, seed=3, index=41)[0], x[41])
    assert torch.equal(m.sample(30, seed=3, index=40), x[40:])
    assert torch.equal(m.sample(3, seed=3, index=[69, 0, 7]), x[[69, 0, 7]])
    assert torch.equal(m.sample(70, seed=3, dtype=torch.float64).float(), x)
    assert not torch.equal(m.sample(1, seed=4, index=41)[0], x[41])


def test_data_and_solver_noise_share_no_draw():
    from sdediff.noise.counter.counter import Counter

    unit = gaussian(torch.zeros(4), std=1.0)
    row = levels(VP(), [1.0, 0.5])
    x0 = unit.sample(4000, dtype=torch.float64)
    for z in (Counter(0)(row[0], row[1], x0), Counter(0).initial(x0)):
        assert (x0 * z).mean().abs() < 5.5 / math.sqrt(x0.numel())


def test_low_rank_and_diagonal_forms_agree():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    variances = torch.rand(3, 6, generator=generator, dtype=torch.float64) + 0.1
    variances[:, 4:] = 0.1
    weights = torch.tensor([0.2, 0.5, 0.3])
    diagonal = Mixture(weights, means, variances)
    basis = torch.eye(6, dtype=torch.float64)[:, :4].expand(3, 6, 4)
    low = Mixture(weights, means, variances[:, :4] - 0.1, basis, 0.1 * torch.ones(3).double())
    x = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    for t in (1e-4, 0.3, 1.0):
        ends = [[m.log_prob(x, VP(), t), m.score(x, VP(), t), m.denoised(x, VP(), t)] for m in (diagonal, low)]
        torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(diagonal.cov, low.cov)


def test_mean_covariance_and_spectrum():
    m = SMALL["low_rank"]
    away = m.means - m.weights @ m.means
    expected = torch.einsum("k,kij->ij", m.weights, dense(m)) + (m.weights[:, None] * away).T @ away
    torch.testing.assert_close(m.cov, expected, rtol=1e-12, atol=1e-12)
    assert m.mean.shape == m.shape
    assert m.spectrum.sum().item() == pytest.approx(expected.trace().item())
    assert (m.spectrum.diff() <= 0).all()


@pytest.mark.parametrize(
    "m",
    [problem("gaussian"), gaussian([1.0, 2.0, 0.0], std=[0.1, 1.0, 2.0]), gaussian([0.0] * 3, spectrum=[4, 1, 1e-4])],
    ids=["cov", "std", "spectrum"],
)
@every_process
def test_flow_solves_the_probability_flow_ode(m, sde):
    t, low, high = sde.t_max, sde.t_min, sde.t_max
    x, model = noised(m, sde, t), m.model(sde)
    for s in (low, low + 0.234 * (high - low), low + 0.71 * (high - low)):
        at = torch.full((len(x),), s, dtype=torch.float64).requires_grad_(True)
        live = m.flow(x, sde, t, at)
        slope = torch.stack([torch.autograd.grad(v.sum(), at, retain_graph=True)[0] for v in live.T], 1)
        here = live.detach()
        velocity = model(here, s).velocity
        assert (slope - velocity).abs().max() <= 1e-9 * (1 + velocity.abs().max()) / min(1, s)
        torch.testing.assert_close(m.flow(here, sde, s, t), x, rtol=1e-9, atol=1e-9)


def test_flow_starts_where_alpha_is_zero_and_refuses_mixtures():
    m, sde = problem("gaussian"), RectifiedFlow()
    x = m.sample(5, dtype=torch.float64)
    z = m.flow(x, sde, 1e-9, 1.0)
    torch.testing.assert_close(m.flow(z, sde, 1.0, 1e-9), x, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="one Gaussian alone"):
        target_m().flow(x, sde, 1.0, 0.5)


@pytest.mark.parametrize("name", ["target_m", "gmm64", "gmm768"])
def test_float32_keeps_its_digits_and_its_dtype(name):
    m = problem(name)
    for sde, t in ((RectifiedFlow(), 1e-5), (VP(), 1e-3), (VP(), 0.5), (EDM(), 5.0), (EDM(), 80.0)):
        x = noised(m, sde, t, n=50).float()
        t32 = torch.tensor([t], dtype=torch.float32).expand(len(x))
        net = m.model(sde).net
        fine, coarse = net(x.double(), t32.double()), net(x, t32)
        assert coarse.dtype == m.model(sde)(x, t).raw.dtype == m.score(x, sde, t).dtype == torch.float32
        assert m.flow(x, sde, t, t).dtype == torch.float32 if len(m.weights) == 1 else True
        assert m.log_prob(x, sde, t).dtype == torch.float64
        assert ((coarse - fine).abs().flatten(1).amax(1) <= 2e-5 * fine.abs().flatten(1).amax(1)).all()
        assert net(x.half(), t32).dtype == torch.float16


@pytest.mark.parametrize("name", ["ring", "gmm64"])
def test_one_clock_for_the_batch_changes_nothing(name):
    m, sde = problem(name), VP()
    x = m.sample(12, dtype=torch.float64)
    net = m.model(sde).net
    clock = torch.linspace(0.01, 0.99, 12, dtype=torch.float64)
    apart = torch.cat([net(x[i : i + 1], clock[i : i + 1]) for i in range(12)])
    torch.testing.assert_close(net(x, clock), apart, rtol=1e-11, atol=1e-11)
    same = torch.full((12,), 0.4, dtype=torch.float64)
    last = torch.cat([same, clock[:1]])
    torch.testing.assert_close(net(x, same), net(torch.cat([x, x[:1]]), last)[:12], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(m.score(x, sde, clock), m.model(sde)(x, clock).score, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["target_m", "low_rank"])
def test_differentiable_by_every_route(name):
    m = SMALL[name]
    net, x = m.model(VP()).net, m.sample(3, dtype=torch.float64)
    clock = torch.full((3,), 0.2, dtype=torch.float64)
    jacobian = torch.stack([torch.func.jacrev(lambda y: net(y, clock[:1]))(v[None])[0, ..., 0, :] for v in x])
    jacobian = jacobian.reshape(3, m.dim, m.dim)
    live = x.clone().requires_grad_(True)
    eye = torch.eye(m.dim, dtype=torch.float64).reshape(m.dim, 1, *m.shape).expand(m.dim, 3, *m.shape)
    batched = torch.autograd.grad(net(live, clock), live, eye, is_grads_batched=True)[0]
    torch.testing.assert_close(batched.transpose(0, 1).reshape(3, m.dim, m.dim), jacobian)
    mapped = torch.func.vmap(lambda y, t: net(y[None], t[None])[0])(x, clock)
    torch.testing.assert_close(mapped, net(x, clock))
    pairs = torch.func.vmap(net)(torch.stack([x, x + 1]), torch.stack([clock, clock + 0.1]))
    torch.testing.assert_close(pairs[1], net(x + 1, clock + 0.1))
    step = 1e-6 * torch.ones_like(x)
    numeric = (net(x + step, clock) - net(x - step, clock)).reshape(3, -1) / 2e-6
    torch.testing.assert_close(jacobian.sum(2), numeric, rtol=1e-6, atol=1e-7)
    slope = torch.func.jacrev(lambda t: net(x, t))(clock).reshape(3, m.dim, 3)
    ahead = (net(x, clock + 1e-6) - net(x, clock - 1e-6)).reshape(3, -1) / 2e-6
    torch.testing.assert_close(slope.diagonal(dim1=0, dim2=2).T, ahead, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["target_m", "gmm64"])
def test_net_copies_pickles_and_keeps_its_constants(name):
    m = problem(name)
    net, x = m.model(VP()).net, m.sample(4)
    clock = torch.full((4,), 0.3)
    expected = net(x, clock)
    stored = io.BytesIO()
    torch.save(net.state_dict(), stored)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.to(torch.float16), net.half().cpu()):
        assert isinstance(other, ExactNet)
        assert torch.equal(other(x, clock), expected)
    assert all(b.dtype == torch.float64 for b in net.buffers())
    twin = pickle.loads(pickle.dumps(m))
    assert torch.equal(twin.sample(3), m.sample(3))


def test_low_rank_problems_have_the_shapes_and_widths_they_state():
    for name, shape, rank in (("gmm64", (1, 8, 8), 6), ("gmm768", (3, 16, 16), 16)):
        m = problem(name)
        assert (m.shape, m.variances.shape) == (shape, (6, rank))
        torch.testing.assert_close(m.variances.sum(1) / m.dim, torch.full((6,), 0.16).double())
        assert m.floor.tolist() == pytest.approx([0.15**2] * 6)
    assert torch.equal(problem("gmm64").means, problem("gmm64").means)
    assert not torch.equal(low_rank_mixture(8, 2, 1, seed=1).means, low_rank_mixture(8, 2, 1).means)
    assert moons().means.mean(0).abs().max() < 1e-12
    assert ring(unequal=True).weights.tolist() == pytest.approx([k / 36 for k in range(1, 9)])


def test_unknown_names_answer_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean gmm"):
        problem("gmm65")


class Wiggly(SDE):
    def drift(self, x, t):
        return -x

    def diffusion(self, t):
        return torch.ones(())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mixture([0.0, 1.0], 1.0), r"\(K, D\)"),
        (lambda: mixture([[0.0], [1.0]], [1.0, 2.0, 3.0]), "stds must be"),
        (lambda: mixture([[0.0], [1.0]], 1.0, [0.5, 0.6]), "sum to 1"),
        (lambda: mixture([[0.0], [1.0]], 1.0, [1.5, -0.5]), "positive weights"),
        (lambda: mixture([[0.0], [1.0]], 1.0, [1.0]), "2 positive weights"),
        (lambda: mixture([[0.0], [math.nan]], 1.0), "finite"),
        (lambda: mixture([[0.0], [1.0]], [1.0, 0.0]), "positive and finite"),
        (lambda: mixture([[0.0, 1.0]], 1.0, shape=(3,)), "have 3 numbers"),
        (lambda: gaussian([0.0, 0.0]), "exactly one"),
        (lambda: gaussian([0.0, 0.0], cov=[[1.0, 2.0], [0.0, 1.0]]), "symmetric"),
        (lambda: gaussian([0.0, 0.0], cov=[[1.0, 2.0], [2.0, 1.0]]), "positive and finite"),
        (lambda: gaussian([0.0, 0.0], std=[1.0, 1.0, 1.0]), r"variances must have the shape \(1, 2\)"),
        (lambda: low_rank_mixture(4, 2, 5), "rank <= dim"),
        (lambda: low_rank_mixture(4, 2, 2, floor=0.0), "floors must be positive"),
        (lambda: Mixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 1), torch.ones(1, 2, 1)), "come together"),
        (
            lambda: Mixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 1), torch.ones(1, 2, 1), torch.ones(1)),
            "orthonormal",
        ),
        (lambda: ring(0), "at least one"),
        (lambda: moons(1), "at least two"),
        (lambda: target_m().sample(0), "n >= 1"),
        (lambda: target_m().sample(2, seed=-1), "seed"),
        (lambda: target_m().sample(2, index=[1]), "index names"),
        (lambda: target_m().log_prob(torch.zeros(2, 3)), "needed floating-point states"),
        (lambda: target_m().log_prob(torch.zeros(2, 2), VP()), "together"),
        (lambda: target_m().score(torch.zeros(3, 2), VP(), torch.tensor([0.1, 0.2])), "one time or one a sample"),
        (lambda: target_m().score(torch.zeros(3, 2), Wiggly(), 0.5), "alpha and sigma"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_process_without_alpha_has_no_exact_model():
    with pytest.raises(ModelError, match="alpha and sigma"):
        target_m().model(Wiggly())
