"""DDPM, NCSN, DDIM, EDM and the DPM-Solvers as discretisations of one process: identities to 1e-12.

Every formula is written out here from its paper or its released code, in that source's own notation, with
a network that is no score of anything: an identity that holds must hold for any network.
"""

import itertools
import math
from dataclasses import dataclass, field

import pytest
import torch

import sdediff as sd

F64 = torch.float64
T1000 = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
SHAPE = (3, 4)


def net(x, clock):
    """Not a score of anything, smooth and bounded, different at every clock."""
    return torch.tanh(0.7 * x + torch.sin(clock)[:, None]) + 0.1 * torch.cos(clock)[:, None] * x


def at(clock):
    """The same for a float."""
    return lambda x: net(x, torch.full((len(x),), float(clock), dtype=F64))


@dataclass(frozen=True)
class Tape(sd.Noise):
    """Normals drawn from a list in the order in which they are asked for, whoever asks."""

    drawn: list = field(default_factory=list)

    def initial(self, like):
        return self()

    def __call__(self, t=None, s=None, like=None, draw=0):
        seed = 1000 * self.seed + len(self.drawn)
        self.drawn.append(seed)
        return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=F64)

    def shifted(self, draws=1):
        return self


def same(found, expected, tolerance=1e-12):
    """Equal to 1e-12 of the size of what is compared."""
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


def one_step(solver, model, x, times):
    """x after one move between two times, and the noise that it met."""
    used = sd.solver(solver)
    row = sd.levels(model.sde, torch.tensor(times, dtype=F64), used.inner)
    moved, _ = used.step(model, x, row[0], row[1], None, Tape(seed=1))
    return moved, Tape(seed=1)()


@pytest.fixture
def x(normals):
    return normals(*SHAPE, seed=5)


@pytest.fixture
def step(sde, times_inside):
    """Two times t > s of a process with alpha, sigma and h there."""
    t, s = times_inside(sde, 5)[[3, 1]].tolist()
    here, there = sd.level(sde, t), sd.level(sde, s)
    return here, there, math.log(there.alpha / there.sigma) - math.log(here.alpha / here.sigma)


# --- eta = 0: one deterministic step ------------------------------------------------------------------------------


def test_ddim_is_exponential_euler_is_dpm_solver_1(sde, step, x):
    t, s, h = step
    eps = at(t.t)(x)
    x0 = (x - t.sigma * eps) / t.alpha
    papers = {
        "Song et al. 2020, eq. 12, sigma = 0": s.alpha * x0 + s.sigma * eps,
        "the flow in kappa = sigma/alpha, frozen eps": s.alpha * (x / t.alpha + (s.kappa - t.kappa) * eps),
        "Lu et al. 2022a, eq. 3.7": s.alpha / t.alpha * x - s.sigma * math.expm1(h) * eps,
        "Lu et al. 2022b, eq. 9, k = 1 (UniP-1 too)": s.sigma / t.sigma * x - s.alpha * math.expm1(-h) * x0,
    }
    model = sd.ScoreModel(net, sde)
    for solver in ("ddim", "dpmpp_2m"):  # 2M's first step is order 1
        found, _ = one_step(solver, model, x, [t.t, s.t])
        for formula in papers.values():
            same(found, formula)


def test_euler_in_sigma_is_ddim_on_edms_process(x):
    model = sd.ScoreModel(net, sd.EDM())
    options = {"x": 80 * x, "steps": 12, "full": True}
    same(*(sd.sample(model, solver=s, **options).trajectory for s in ("euler", "ddim")))


def test_ddim_between_a_tables_knots_is_songs(x):
    # Song et al. 2020, eq. 12 with eta = 0 over a strided table, the network's clock counting from 0.
    table = sd.Table.from_betas(T1000)
    bars = torch.cumprod(1 - T1000, 0)
    run = sd.sample(sd.ScoreModel(net, table, time="index"), x=x, solver="ddim", steps=19, full=True, grid="strided")
    index = [999 - 999 * i / 19 for i in range(20)]
    y = x
    for now, then in itertools.pairwise([round(v) for v in index]):
        eps = at(now)(y)
        y = bars[then].sqrt() * (y - (1 - bars[now]).sqrt() * eps) / bars[now].sqrt() + (1 - bars[then]).sqrt() * eps
    same(run.trajectory[-1], y)
    same(run.x, (y - (1 - bars[0]).sqrt() * at(0)(y)) / bars[0].sqrt())


# --- eta = 1: one stochastic step ---------------------------------------------------------------------------------


def test_ancestral_is_ddim_1_is_sde_dpm_solver_1_is_vdms(sde, step, x):
    t, s, h = step
    eps = at(t.t)(x)
    x0 = (x - t.sigma * eps) / t.alpha
    ratio = t.alpha / s.alpha
    kernel = t.sigma**2 - ratio**2 * s.sigma**2
    c = -math.expm1(-2 * h)  # VDM: -expm1(gamma_s - gamma_t), gamma = -2 lam
    ddim_std = math.sqrt(s.sigma**2 / t.sigma**2 * (1 - ratio**2 * s.sigma**2 / t.sigma**2) * t.sigma**2)
    papers = {
        "q(x_s | x_t, x0), Gaussian conditioning": (
            (ratio * s.sigma**2 * x + s.alpha * kernel * x0) / t.sigma**2,
            s.sigma / t.sigma * math.sqrt(kernel),
        ),
        "Lu et al. 2022b, SDE-DPM-Solver++(1)": (
            s.sigma / t.sigma * math.exp(-h) * x - s.alpha * math.expm1(-2 * h) * x0,
            s.sigma * math.sqrt(-math.expm1(-2 * h)),
        ),
        "Kingma et al. 2021, eq. 33": (s.alpha / t.alpha * (x - c * t.sigma * eps), math.sqrt(c) * s.sigma),
        "Song et al. 2020, eq. 12, eta = 1": (
            s.alpha * x0 + math.sqrt(max(s.sigma**2 - ddim_std**2, 0.0)) * eps,
            ddim_std,
        ),
    }
    model = sd.ScoreModel(net, sde)
    for solver in ("ancestral", sd.solver("ddim", eta=1.0)):
        found, z = one_step(solver, model, x, [t.t, s.t])
        for mean, std in papers.values():
            same(found, mean + std * z, 3e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.8, 1.0])
def test_ddims_eta_scales_the_posteriors_deviation(sde, step, x, eta):
    t, s, h = step
    eps = at(t.t)(x)
    x0 = (x - t.sigma * eps) / t.alpha
    std = eta * s.sigma / t.sigma * math.sqrt(t.sigma**2 - (t.alpha / s.alpha) ** 2 * s.sigma**2)
    model = sd.ScoreModel(net, sde)
    found, z = one_step(sd.solver("ddim", eta=eta), model, x, [t.t, s.t])
    same(found, s.alpha * x0 + math.sqrt(s.sigma**2 - std**2) * eps + std * z, 3e-12)
    # The same in the family's words: 2 q = -log(1 - eta^2 (1 - e^-2h)).
    q = -0.5 * math.log(1 - eta**2 * (1 - math.exp(-2 * h)))
    family = s.sigma / t.sigma * math.exp(-q) * x + s.alpha * (1 - math.exp(-h - q)) * x0
    same(found, family + s.sigma * math.sqrt(1 - math.exp(-2 * q)) * z, 3e-12)


class Ones(Tape):
    """Every draw is one."""

    def __call__(self, t=None, s=None, like=None, draw=0):
        return torch.ones_like(like)


def std_of(solver, sde, t, s):
    """What a step multiplies its noise with."""
    row = sd.levels(sde, torch.tensor([t, s], dtype=F64))
    nothing = sd.ScoreModel(lambda x, t: 0 * x, sde, predicts="x0")
    moved, _ = sd.solver(solver).step(nothing, torch.zeros(1, 1, dtype=F64), *row, None, Ones())
    return moved.item()


@pytest.mark.parametrize(("t", "s", "variance"), [(999, 979, 0.329802515556), (20, 0, 9.84135629651e-5)])
def test_ddims_variance_on_the_linear_table(t, s, variance):
    table = sd.Table.from_betas(T1000)
    for eta in (1.0, 0.5, 0.1):
        found = std_of(sd.solver("ddim", eta=eta), table, t + 1.0, s + 1.0)
        assert found**2 == pytest.approx(eta**2 * variance, rel=1e-10)


@pytest.mark.parametrize(
    ("start", "stop", "eta", "down", "up"),
    [
        (10, 5, 1.0, 2.5, 4.33012701892),
        (10, 5, 0.5, 4.50693909433, 2.16506350946),
        (2, 1.9, 1.0, 1.805, 0.593274809848),
        (1, 0.1, 1.0, 0.01, 0.0994987437107),
    ],
)
def test_euler_a_is_ddim_at_alpha_one(start, stop, eta, down, up, x):
    # k-diffusion's get_ancestral_step: an Euler step to sigma_down, then noise of sigma_up.
    model = sd.ScoreModel(net, sd.EDM())
    found, z = one_step(sd.solver("ddim", eta=eta), model, x, [float(start), float(stop)])
    assert std_of(sd.solver("ddim", eta=eta), sd.EDM(), float(start), float(stop)) == pytest.approx(up, rel=1e-10)
    denoised = x - start * at(start)(x)
    euler = x + (x - denoised) / start * (down - start)
    same(found, euler + up * z, 1e-10)


# --- DDPM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpms_table_ancestral_is_ho_et_als_posterior(variance, x):
    # Ho et al. 2020, eq. 7 and algorithm 2: every knot, the last step without noise.
    betas = torch.linspace(1e-3, 0.15, 60, dtype=F64)
    alphas, bars = 1 - betas, torch.cumprod(1 - betas, 0)
    model = sd.ScoreModel(net, sd.Table.from_betas(betas), time="index")
    run = sd.sample(
        model, x=x, solver=sd.solver("ancestral", variance=variance), grid="knots", noise=Tape(seed=3), full=True
    )
    tape, y = Tape(seed=3), x
    for i in range(59, -1, -1):
        bar, before = bars[i], bars[i - 1] if i else torch.tensor(1.0, dtype=F64)
        x0 = (y - (1 - bar).sqrt() * at(i)(y)) / bar.sqrt()
        posterior = before.sqrt() * betas[i] / (1 - bar) * x0 + alphas[i].sqrt() * (1 - before) / (1 - bar) * y
        algorithm_2 = (y - betas[i] / (1 - bar).sqrt() * at(i)(y)) / alphas[i].sqrt()
        same(posterior, algorithm_2)
        if i:
            std = (betas[i] * ((1 - before) / (1 - bar) if variance == "small" else 1)).sqrt()
            y = posterior + std * tape()
            same(run.trajectory[60 - i], y)
        else:
            y = posterior
    same(run.x, y)
    assert run.calls == 60


def test_the_names_ddpm_and_ancestral_are_the_two_variances():
    assert sd.solver("ddpm") == sd.solver("ancestral", variance="large")
    assert sd.solver("ancestral") == sd.solver("ancestral", variance="small")


def test_ddim_1_over_all_1000_steps_is_ddpm_fixed_small(x):
    model = sd.ScoreModel(net, sd.Table.from_betas(T1000), time="index")
    runs = [
        sd.sample(model, x=x, solver=solver, grid="knots", seed=4)
        for solver in (sd.solver("ddim", eta=1.0), "ancestral")
    ]
    same(*runs)


def test_strided_ancestral_has_the_respaced_betas(x):
    # Nichol and Dhariwal 2021: beta_S = 1 - bar_{S_t} / bar_{S_{t-1}}, and its btilde.
    table, bars = sd.Table.from_betas(T1000), torch.cumprod(1 - T1000, 0)
    for t, s in ((999, 899), (500, 100), (100, 0)):
        beta = 1 - bars[t] / bars[s]
        small, large = ((1 - bars[s]) / (1 - bars[t]) * beta).item(), beta.item()
        assert std_of("ancestral", table, t + 1.0, s + 1.0) ** 2 == pytest.approx(small, rel=1e-11)
        assert std_of("ddpm", table, t + 1.0, s + 1.0) ** 2 == pytest.approx(large, rel=1e-11)


# --- NCSN ---------------------------------------------------------------------------------------------------------

NCSN = torch.logspace(1, -2, 10, dtype=F64)  # sigma_1 = 10 > ... > sigma_L = 0.01, the paper's


def ncsn_model():
    table = sd.Table.from_sigmas(NCSN.flip(0))
    return sd.ScoreModel(lambda x, sigma: net(x, sigma), table, predicts="score", time="sigma")


@pytest.mark.parametrize("option", [{"step_size": 0.2}, {"epsilon": 2e-5}])
def test_annealed_langevin_is_algorithm_1(option, x):
    # Song and Ermon 2019, algorithm 1 with epsilon = 2e-5, T steps at each of the L levels.
    epsilon, steps = 2e-5, 3
    run = sd.sample(
        ncsn_model(), x=x, solver=sd.solver("annealed_langevin", n=steps, **option), grid="knots",
        noise=Tape(seed=6), denoise=False, full=True,
    )  # fmt: skip
    tape, y = Tape(seed=6), x
    for i, sigma in enumerate(NCSN):
        same(run.trajectory[i] if i < 9 else y, y)
        alpha_i = epsilon * sigma**2 / NCSN[-1] ** 2
        for _ in range(steps):
            y = y + alpha_i / 2 * at(sigma)(y) + alpha_i.sqrt() * tape()
    same(run.x, y)
    assert run.calls == 30


def test_annealed_langevin_in_ncsnv2s_words(x):
    # Song and Ermon 2020, released code: step = lr (sigma_i/sigma_L)^2, x += step s + sqrt(2 step) z, and at
    # the end x += sigma_L^2 s.
    rate = 6.2e-6
    run = sd.sample(
        ncsn_model(), x=x, solver=sd.solver("annealed_langevin", n=2, epsilon=2 * rate), grid="knots",
        noise=Tape(seed=7),
    )  # fmt: skip
    tape, y = Tape(seed=7), x
    for sigma in NCSN:
        step = rate * (sigma / NCSN[-1]) ** 2
        for _ in range(2):
            y = y + step * at(sigma)(y) + (2 * step).sqrt() * tape()
    same(run, y + NCSN[-1] ** 2 * at(NCSN[-1])(y))


def test_score_sdes_ancestral_steps(x):
    # VE: x + (sigma_i^2 - sigma_{i-1}^2) s, std sqrt(sigma_{i-1}^2 (sigma_i^2 - sigma_{i-1}^2)/sigma_i^2).
    up = NCSN.flip(0)
    for i in (9, 4, 1):
        now, before = up[i], up[i - 1]
        found, z = one_step("ancestral", ncsn_model(), x, [i + 1.0, float(i)])
        mean = x + (now**2 - before**2) * at(now)(x)
        same(found, mean + (before**2 * (now**2 - before**2) / now**2).sqrt() * z)
    # VP: (x + beta_i s) / sqrt(1 - beta_i), std sqrt(beta_i): this package's "ddpm".
    table = sd.Table.from_betas(T1000)
    for i in (999, 500, 1):
        found, z = one_step("ddpm", sd.ScoreModel(net, table, predicts="score", time="index"), x, [i + 1.0, i])
        same(found, (x + T1000[i] * at(i)(x)) / (1 - T1000[i]).sqrt() + T1000[i].sqrt() * z, 1e-11)


# --- a table and its continuous process ---------------------------------------------------------------------------


def gaussian_score(sde):
    """The exact score network of N((.5, -1, 0, 2), diag(.3, 2, .01, 1)) under a process."""
    mean = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=F64)
    var = torch.tensor([0.3, 2.0, 0.01, 1.0], dtype=F64)

    def score(x, t):
        alpha, sigma = (v[:, None] for v in sde.marginal(t.double()))
        return -(x - alpha * mean) / (alpha**2 * var + sigma**2)

    return sd.ScoreModel(score, sde, predicts="score", time="t")


def test_a_tables_score_is_the_continuous_processs_at_the_knots(x):
    n = 100
    knots = torch.arange(1, n + 1, dtype=F64)
    vp, ve = sd.VP(), sd.VE()
    pairs = [
        (vp, sd.Table.from_alpha_bars(vp.alpha(knots / n) ** 2), knots / n),
        (ve, sd.Table.from_sigmas(ve.sigma((knots - 1) / (n - 1))), (knots - 1) / (n - 1)),
    ]
    for smooth, table, times in pairs:
        for knot, t in ((k, times[k - 1].item()) for k in (1, 2, 37, 99, 100)):
            a, b = gaussian_score(table)(x, float(knot)), gaussian_score(smooth)(x, t)
            same(a.score, b.score, 1e-11)
            same(a.x0, b.x0, 1e-11)
            assert a.level.lam == pytest.approx(b.level.lam, abs=1e-12)
        # So do whole runs of what reads alpha and sigma alone.
        times = times.flip(0).tolist()[: n - 1]
        for solver in ("ddim", "dpmpp_2m", "ancestral"):
            one = sd.sample(gaussian_score(table), x=x, solver=solver, grid=knots.flip(0)[: n - 1], noise=Tape())
            two = sd.sample(gaussian_score(smooth), x=x, solver=solver, grid=times, noise=Tape())
            same(one, two, 1e-10)


def test_ddpms_betas_become_the_continuous_vp():
    # Song et al. 2021, appendix B: beta_i = beta(i/N)/N. The table's alpha tends to the SDE's at order 1.
    vp, errors = sd.VP(), []
    sizes = [250, 500, 1000, 2000, 4000]
    for n in sizes:
        table = sd.Table.from_betas(torch.linspace(0.1 / n, 20 / n, n, dtype=F64))
        where = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=F64)
        errors.append((table.lam(n * where) - vp.lam(where)).abs().max().item())
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert errors[-1] < 1e-2
    assert all(abs(slope - 1) < 0.1 for slope in slopes), slopes


def test_ddpms_chain_becomes_the_continuous_flow(x):
    # DDIM over every knot of an N-step table against the flow of the continuous VP, closed for a Gaussian.
    vp = sd.VP()
    mean, var = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=F64), torch.tensor([0.3, 2.0, 0.01, 1.0], dtype=F64)
    end = sd.level(vp, 1.0)
    exact = mean + (x - end.alpha * mean) * torch.sqrt(var / (end.alpha**2 * var + end.sigma**2))
    sizes, errors = (100, 200, 400, 800), []
    for n in sizes:
        table = sd.Table.from_betas(torch.linspace(0.1 / n, 20 / n, n, dtype=F64))
        found = sd.sample(gaussian_score(table), x=x, solver="ddim", grid="knots")
        errors.append((found - exact).abs().max(0).values)
    # The narrow coordinate, std .1, is still resolving its own scale at these N: see the others.
    slopes = torch.stack([torch.log2(a / b) for a, b in itertools.pairwise(errors)])[-1, [0, 1, 3]]
    assert (slopes - 1).abs().max() < 0.15, slopes
    assert errors[-1].max() < 0.02


# --- Song et al. 2021 ---------------------------------------------------------------------------------------------


def test_reverse_diffusion_on_a_vp_table(x):
    # sampling.py, VPSDE.discretize: f = (sqrt(1 - beta_i) - 1) x, G = sqrt(beta_i); x - f + G^2 s + G z.
    table = sd.Table.from_betas(T1000)
    model = sd.ScoreModel(net, table, predicts="score", time="index")
    for i in (999, 600, 1):
        found, z = one_step("reverse_diffusion", model, x, [i + 1.0, i])
        f, g = ((1 - T1000[i]).sqrt() - 1) * x, T1000[i].sqrt()
        same(found, x - f + g**2 * at(i)(x) + g * z)


def test_reverse_diffusion_on_a_ve_table(x):
    # VESDE.discretize: f = 0, G = sqrt(sigma_i^2 - sigma_{i-1}^2), sigma_{-1} = 0 in the last, noiseless step.
    run = sd.sample(ncsn_model(), x=x, solver="reverse_diffusion", grid="knots", noise=Tape(seed=2), full=True)
    tape, y = Tape(seed=2), x
    sigmas = [*NCSN.tolist(), 0.0]
    for i, (now, before) in enumerate(itertools.pairwise(sigmas)):
        same(run.trajectory[i], y)
        g2 = now**2 - before**2
        y = y + g2 * at(now)(y)
        if before:
            y = y + math.sqrt(g2) * tape()
    same(run.x, y)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["vp", "ve", "subvp"])
def test_euler_maruyama_is_the_euler_discretisation(processes, name, eta, x):
    # x + [f - (1 + eta^2)/2 g^2 s] dt + eta g sqrt(-dt) z with the papers' f and g.
    t, s = 0.8, 0.7
    beta, total = 0.1 + 19.9 * t, 0.1 * t + 19.9 * t**2 / 2
    f, g2 = {
        "vp": (-beta / 2, beta),
        "subvp": (-beta / 2, beta * -math.expm1(-2 * total)),
        "ve": (0.0, 2 * math.log(5000) * (0.01 * 5000**t) ** 2),
    }[name]
    model = sd.ScoreModel(net, processes[name], predicts="score")
    found, z = one_step(sd.solver("euler_maruyama", eta=eta), model, x, [t, s])
    dt = s - t
    expected = x + (f * x - (1 + eta**2) / 2 * g2 * at(t)(x)) * dt + eta * math.sqrt(g2 * -dt) * z
    same(found, expected, 1e-11)


@pytest.mark.parametrize("norm", ["batch", "sample"])
@pytest.mark.parametrize("kind", ["ve", "vp"])
def test_langevins_step_is_songs(norm, kind, x):
    # e = 2 a (snr |z| / |s|)^2, norms a sample, averaged over the batch in the released code; a = 1 - beta_i.
    if kind == "ve":
        model, i, a, clock = ncsn_model(), 6, 1.0, NCSN.flip(0)[6]
    else:
        model = sd.ScoreModel(net, sd.Table.from_betas(T1000), predicts="score", time="index")
        i, a, clock = 700, 1 - T1000[700].item(), 700
    row = sd.levels(model.sde, torch.tensor([i + 1.0, float(i)], dtype=F64))
    corrector = sd.solver("langevin", snr=0.16, n=2, norm=norm)
    found, _ = corrector.step(model, x, row[0], row[0], None, Tape(seed=1))
    tape, y = Tape(seed=1), x
    for _ in range(2):
        score, z = at(clock)(y), tape()
        sizes = [torch.sqrt((v**2).sum(1)) for v in (z, score)]
        if norm == "batch":
            sizes = [v.mean() for v in sizes]
        e = (2 * a * (0.16 * sizes[0] / sizes[1]) ** 2).reshape(-1, 1)
        y = y + e * score + torch.sqrt(2 * e) * z
    same(found, y)


def test_langevins_step_for_equal_norms():
    # snr .16 and |z| = |s|: e = .0512 and a noise coefficient of .32.
    row = sd.levels(sd.VE(), torch.tensor([0.5, 0.4], dtype=F64))
    model = sd.ScoreModel(lambda x, t: torch.ones_like(x), sd.VE(), predicts="score")
    for norm in ("batch", "sample"):
        found, _ = sd.solver("langevin", norm=norm).step(
            model, torch.zeros(2, 5, dtype=F64), row[0], row[0], None, Ones()
        )
        same(found, torch.full((2, 5), 0.0512 + 0.32, dtype=F64))


@pytest.mark.parametrize("norm", ["batch", "sample"])
def test_langevin_does_not_divide_by_a_score_of_zero(norm):
    # A network at its zero initialisation says eps = 0 everywhere.
    model = sd.ScoreModel(lambda x, t: 0 * x, sd.VP())
    corrector = sd.solver("langevin", norm=norm)
    for solver in (corrector, sd.solver("predictor_corrector", corrector=corrector)):
        assert sd.sample(model, (2, 3), solver=solver, steps=3).isfinite().all()


@pytest.mark.parametrize("first", ["corrector", "predictor"])
@pytest.mark.parametrize("n", [1, 2])
def test_predictor_corrector_in_the_papers_and_the_codes_order(first, n, x):
    # Paper, algorithm 2 (VE): predict x_i from x_{i+1}, then correct at sigma_i. Released code: correct at
    # sigma_{i+1}, then predict. Both end with a predictor's mean or a denoising step; here without.
    solver = sd.solver("predictor_corrector", corrector=sd.solver("langevin", n=n, norm="batch"), first=first)
    run = sd.sample(ncsn_model(), x=x, solver=solver, grid="knots", noise=Tape(seed=8), denoise=False)
    tape, y = Tape(seed=8), x

    def corrected(y, sigma):
        for _ in range(n):
            score, z = at(sigma)(y), tape()
            e = 2 * (0.16 * (z**2).sum(1).sqrt().mean() / (score**2).sum(1).sqrt().mean()) ** 2
            y = y + e * score + (2 * e).sqrt() * z
        return y

    for now, then in itertools.pairwise(NCSN):
        if first == "corrector":
            y = corrected(y, now)
        g2 = now**2 - then**2
        y = y + g2 * at(now)(y) + g2.sqrt() * tape()
        if first == "predictor":
            y = corrected(y, then)
    same(run, y)


def test_a_correctors_vp_scale_is_one_minus_beta_at_every_knot():
    # a = (alpha_t / alpha_next)^2 = 1 - beta_i, and at the last knot 1 - beta_0 (the step into data).
    betas = torch.tensor([0.02, 0.1, 0.3], dtype=F64)
    row = sd.levels(sd.Table.from_betas(betas), torch.tensor([3.0, 2.0, 1.0], dtype=F64))
    model = sd.ScoreModel(lambda x, t: torch.ones_like(x), sd.Table.from_betas(betas), predicts="score")
    for here, beta in zip(row, betas.flip(0).tolist(), strict=True):
        found, _ = sd.solver("langevin").step(model, torch.zeros(1, 4, dtype=F64), here, here, None, Ones())
        e = 2 * (1 - beta) * 0.16**2
        same(found, torch.full((1, 4), e + math.sqrt(2 * e), dtype=F64))


# --- EDM and k-diffusion ------------------------------------------------------------------------------------------


def denoiser(x, sigma):
    return x / (1 + sigma**2) + 0.2 * torch.tanh(x / (1 + sigma))


@pytest.fixture
def edm():
    return sd.ScoreModel(lambda x, t: denoiser(x, t[:, None]), sd.EDM(), predicts="x0", time="sigma")


def test_heun_on_edms_process_is_karras_algorithm_1(edm, x):
    n, rho, low, high = 18, 7, 0.002, 80.0
    sigmas = [(high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(n)]
    y, calls = high * x, 0
    for now, then in itertools.pairwise([*sigmas, 0.0]):
        d = (y - denoiser(y, now)) / now
        moved, calls = y + (then - now) * d, calls + 1
        if then:
            d2 = (moved - denoiser(moved, then)) / then
            moved, calls = y + (then - now) * (d + d2) / 2, calls + 1
        y = moved
    run = sd.sample(edm, x=high * x, solver="heun", steps=17, full=True)
    same(run.x, y)
    assert run.calls == calls == 35


def test_dpmpp_2m_on_edms_process_is_k_diffusions(edm, x):
    n = 12
    sigmas = torch.exp(torch.linspace(math.log(80), math.log(0.002), n, dtype=F64)).tolist()
    y, last, h_last = 80 * x, None, None
    for now, then in itertools.pairwise([*sigmas, 0.0]):
        d = denoiser(y, now)
        if then == 0:
            y = d
            break
        h = math.log(now) - math.log(then)
        bent = d if last is None else (1 + h / (2 * h_last)) * d - h / (2 * h_last) * last
        y, last, h_last = then / now * y - math.expm1(-h) * bent, d, h
    same(sd.sample(edm, x=80 * x, solver="dpmpp_2m", steps=n - 1), y)


@pytest.mark.parametrize("kind", ["karras", "uniform", "log_snr"])
def test_dpmpp_2m_is_lu_et_als_algorithm_2(sde, kind, x):
    # On any process and grid: D = (1 + 1/2r) x0_i - 1/2r x0_{i-1}, r = h_{i-1}/h_i.
    model = sd.ScoreModel(net, sde)
    times = sd.grid(kind, sde, 8, start=sde.t_max)
    run = sd.sample(model, x=x, solver="dpmpp_2m", grid=times, denoise=False)
    y, last, h_last = x, None, None
    for t, s in itertools.pairwise(sd.level(sde, v) for v in times.tolist()):
        h = math.log(s.alpha / s.sigma) - math.log(t.alpha / t.sigma)
        x0 = (y - t.sigma * at(t.t)(y)) / t.alpha
        d = x0 if last is None else x0 + h / (2 * h_last) * (x0 - last)
        y, last, h_last = s.sigma / t.sigma * y - s.alpha * math.expm1(-h) * d, x0, h
    same(run, y, 1e-11)


def test_smalldiffusions_family(edm, x):
    # sigma_p = (sigma_prev / sigma^mu)^(1/(1 - mu)), an Euler step to sigma_p, noise sqrt(sigma_prev^2 - sigma_p^2):
    # (gamma, mu) = (1, 0) is DDIM, (1, 1/2) DDPM; (2, 0) adds momentum in eps, here as a user's solver.
    sigmas = sd.grid("karras", sd.EDM(), 9).tolist()

    def smalldiffusion(gamma, mu, tape):
        y, before = 80 * x, None
        for now, then in itertools.pairwise(sigmas):
            eps = (y - denoiser(y, now)) / now
            average = eps if before is None else gamma * eps + (1 - gamma) * before
            to = (then / now**mu) ** (1 / (1 - mu))
            y = y - (now - to) * average + math.sqrt(then**2 - to**2) * tape()
            before = eps
        return y

    @dataclass(frozen=True)
    class Accelerated(sd.Solver):
        def step(self, model, x, t, s, state, noise):
            eps = model(x, t).eps
            return x + (s.sigma - t.sigma) * (eps if state is None else 2 * eps - state), eps

    for solver, gamma, mu in (("ddim", 1, 0), ("ancestral", 1, 0.5), (Accelerated(), 2, 0)):
        found = sd.sample(edm, x=80 * x, solver=solver, steps=9, noise=Tape(seed=9), denoise=False)
        same(found, smalldiffusion(gamma, mu, Tape(seed=9)), 1e-11)


# --- other steps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["euler", "midpoint", "heun", "rk4"])
def test_runge_kutta_tableaus_are_the_textbooks(name, x):
    # On dx/dt = velocity(x, t) of the flow, classical formulas; t enters the network's clock.
    sde = sd.VP()
    model = sd.ScoreModel(net, sde, predicts="velocity")
    t, s = 0.7, 0.62
    h = s - t

    def v(y, time):
        return at(time)(y)

    k1 = v(x, t)
    middle = v(x + h / 2 * k1, t + h / 2)
    k3 = v(x + h / 2 * middle, t + h / 2)
    expected = {
        "euler": x + h * k1,
        "midpoint": x + h * middle,
        "heun": x + h / 2 * (k1 + v(x + h * k1, s)),
        "rk4": x + h / 6 * (k1 + 2 * middle + 2 * k3 + v(x + h * k3, s)),
    }[name]
    same(one_step(name, model, x, [t, s])[0], expected)


@pytest.mark.parametrize(("method", "name"), [("euler", "euler"), ("rk4", None), ("midpoint", "midpoint")])
def test_torchdiffeqs_fixed_steps_are_the_same_steps(method, name, x):
    model = sd.ScoreModel(net, sd.VP())
    black = sd.sample(model, x=x, solver=sd.solver("ode", method=method, substeps=20), grid=[0.9, 0.4], denoise=False)
    times = torch.linspace(0.9, 0.4, 21, dtype=F64)
    if name is None:  # torchdiffeq's rk4 is the 3/8 rule: equal to ours at order 4 alone
        ours = sd.sample(model, x=x, solver="rk4", grid=times, denoise=False)
        same(black, ours, 1e-5)
    else:
        same(black, sd.sample(model, x=x, solver=name, grid=times, denoise=False), 1e-11)


def test_torchsdes_euler_is_euler_maruyama_on_one_path(x):
    # In the SDE's own time, additive noise, one Brownian path: the same numbers, step by step.
    model, path = sd.ScoreModel(net, sd.VP()), sd.Brownian(seed=5)
    times = torch.linspace(0.9, 0.1, 17, dtype=F64)
    ours = sd.sample(model, x=x, solver="euler_maruyama", grid=times, noise=path, denoise=False)
    theirs = sd.sample(
        model, x=x, solver=sd.solver("sde", method="euler", substeps=16), grid=[0.9, 0.1], noise=path, denoise=False
    )
    # Ticks of the path are 1.5e-8 wide and torchsde's steps a hair long.
    same(theirs, ours, 1e-6)


def test_the_family_at_eta_0_is_the_deterministic_solver(x):
    model = sd.ScoreModel(net, sd.VP())
    options = {"x": x, "steps": 7, "grid": "uniform"}
    same(*(sd.sample(model, solver=s, **options) for s in (sd.solver("euler_maruyama", eta=0.0), "euler")))
    same(*(sd.sample(model, solver=s, **options) for s in (sd.solver("ddim", eta=1e-9), "ddim")), 1e-8)


def test_the_first_state_of_a_run_is_the_prior(sde):
    model = sd.ScoreModel(lambda x, t: torch.tanh(x), sde, predicts="v", time="t")
    first = next(sd.iterate(model, (5, 3), solver="ddim", steps=3, seed=11, dtype=F64))
    z = sd.Counter(11).initial(torch.empty(5, 3, dtype=F64))
    torch.testing.assert_close(first.x, sd.level(sde, first.t.t).sigma * z, rtol=1e-14, atol=0)


def test_the_straight_path_needs_fewer_calls_than_vp() -> None:
    """A14: dopri5 at 1e-5 in the process's own time between the same log-SNR, to sample and to score."""
    target, vp, calls = sd.problem("target_m"), sd.VP(), []
    for sde in (vp, sd.RectifiedFlow()):
        model, t0 = target.model(sde), sde.t_of_lam(vp.lam(1e-3)).item()
        drawn = sd.sample(model, (64, 2), solver="ode", stop=t0, dtype=torch.float64, full=True)
        x = target.sample(64, seed=0, dtype=torch.float64)
        scored = sd.log_likelihood(model, x, method="ode", variable="t", trace="exact", t0=t0)
        calls.append((drawn.calls, scored.calls[0].item()))
    assert calls[1][0] < 0.8 * calls[0][0]
    assert calls[1][1] < calls[0][1]
