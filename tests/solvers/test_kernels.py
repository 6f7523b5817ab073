"""The kernel of a stochastic step: mean and std of x_s given x_t and the history, with its log density."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

import sdediff as sd
from sdediff.solvers import CoefficientsPreserving, Langevin, StepKernel
from tests.solvers.equivalence import F64, Tape, net, same, table

STOCHASTIC = {name: one for name, one in sd.list_solvers().items() if one.stochastic}
# Fields other than the defaults, under which a step has a kernel.
WITH = {
    "annealed_langevin": {"n": 1},
    "seeds": {"stages": 1},
    "ddim": {"eta": 0.5},
    "sa_solver": {"within": None},
}
REFUSED = ("predictor_corrector", "edm", "restart", "dpmpp_sde", "adaptive_sde", "sde")
NAMES = [name for name in [*STOCHASTIC, "ddim"] if name not in REFUSED]
KERNELS = {
    name: replace(sd.solver(name), **WITH.get(name, {})) for name in [*STOCHASTIC, "ddim"] if name not in REFUSED
}
KERNELS["coefficients_preserving"] = CoefficientsPreserving()
KERNELS["lower_order_final"] = sd.solvers.lower_order_final("dpmpp_2m_sde")
TIMES = [0.9, 0.7, 0.55, 0.4]
MODEL = sd.ScoreModel(net, sd.VP())


def _third_step(name, x):
    """The third step of a run: solver, bound model, x, t, s and the history; noise is that of a tape."""
    solver, state, tape = KERNELS[name], None, Tape(seed=7)
    levels, _, model = table(solver, MODEL, TIMES, x)
    pairs = list(itertools.pairwise(levels))
    if solver.corrector:
        pairs = [(t, t) for t in levels]
    for t, s in pairs[:2]:
        x, state = solver.step(model, x, t, s, state, tape)
    return solver, model, x, *pairs[2], state


@pytest.mark.parametrize("name", KERNELS)
def test_a_step_is_the_kernels_mean_and_its_std_times_the_noise(name, x):
    solver, model, x, t, s, state = _third_step(name, x)
    kernel = solver.kernel(model, x, t, s, state)
    stepped, later = solver.step(model, x, t, s, state, Tape(seed=3))
    assert isinstance(kernel.std, float)
    assert kernel.std > 0
    same(stepped, kernel.mean + kernel.std * Tape(seed=3)(), 1e-14)
    assert torch.equal(kernel.draw(Tape(seed=3)()), stepped), "the densities are of the states that a run visits"
    for one, two in zip(later or (), kernel.history or (), strict=True):
        assert torch.equal(one[1], two[1]) if isinstance(one, tuple) else one == two


@pytest.mark.parametrize("name", KERNELS)
def test_the_kernel_is_the_mean_and_the_std_of_many_steps(name):
    """8,000 draws: of 2 means and 2 variances each within 5.5 standard errors, 4e-8 by chance."""
    n, start = 8000, torch.tensor([[0.4, -1.1]], dtype=F64)
    solver, model, x, t, s, state = _third_step_of_many(name, start.expand(n, 2).clone())
    stepped, _ = solver.step(model, x, t, s, state, sd.Counter(11))
    kernel = solver.kernel(model, x, t, s, state)
    assert torch.equal(kernel.mean, kernel.mean[:1].expand(n, 2))
    error = kernel.std / math.sqrt(n)
    assert ((stepped.mean(0) - kernel.mean[0]).abs() < 5.5 * error).all()
    # The variance of n normals has the relative standard error sqrt(2/n).
    assert (((stepped - kernel.mean) ** 2).mean(0) / kernel.std**2 - 1).abs().max() < 5.5 * math.sqrt(2 / n)


def _third_step_of_many(name, x):
    """As above, with the first two steps of equal rows taken without noise, so that all rows are in one state."""
    solver, state = KERNELS[name], None
    levels, _, model = table(solver, MODEL, TIMES, x)
    pairs = [(t, t) for t in levels] if solver.corrector else list(itertools.pairwise(levels))
    for t, s in pairs[:2]:
        kernel = solver.kernel(model, x, t, s, state)
        x, state = kernel.mean, kernel.history
    return solver, model, x, *pairs[2], state


@pytest.mark.parametrize("name", [*REFUSED, "annealed_langevin", "seeds"])
def test_a_step_that_is_no_gaussian_says_why(name, x):
    solver = sd.solver(name)
    levels, _, model = table("ddim", MODEL, TIMES, x)
    with pytest.raises(sd.SolverError, match="has no transition density: ") as error:
        solver.kernel(model, x, levels[0], levels[1])
    assert str(error.value).endswith(solver.no_kernel)
    assert ": " in solver.no_kernel, "it says what to write"


def test_every_registered_solver_has_a_kernel_or_says_why_not():
    for name, solver in sd.list_solvers().items():
        if name in KERNELS and name not in ("ddim", *WITH):
            assert solver.no_kernel == ""
        elif not solver.stochastic:
            assert solver.no_kernel == "it is deterministic"
        elif name not in WITH:
            assert name in REFUSED


@pytest.mark.parametrize("corrector", [Langevin(n=2), Langevin(norm="sample"), Langevin(norm="batch")])
def test_langevin_steps_whose_size_is_drawn_have_no_kernel(corrector):
    assert corrector.no_kernel


def test_densities_of_a_kernel_are_torchs(normals):
    mean, x, std = normals(3, 4), normals(3, 4, seed=1), normals(3, 4, seed=2).exp()
    for width in (0.7, std):
        expected = torch.distributions.Normal(mean, width).log_prob(x).sum(1)
        same(StepKernel(mean, width).log_prob(x), expected)
        other = torch.distributions.Normal(x, 1.3)
        kl = torch.distributions.kl_divergence(torch.distributions.Normal(mean, width), other).sum(1)
        same(StepKernel(mean, width).divergence(StepKernel(x, 1.3)), kl)


def test_a_kernel_without_noise_has_no_density(x):
    with pytest.raises(sd.Error, match="without noise"):
        StepKernel(x, 0.0).log_prob(x)


def _log_density(solver, sde, times, x0=(0.2, 0.0, 0.5), predicts="x0"):
    """log q(x_s) summed over dimensions, at the states of the published table."""
    x, x_s, output = (torch.tensor([v], dtype=F64) for v in ((0.1, -0.4, 0.7), (0.15, -0.2, 0.6), x0))
    levels, _, model = table(solver, sd.ScoreModel(lambda x, t: output, sde, predicts=predicts), times, x)
    t, s = levels[0], levels[0] if solver.corrector else levels[1]
    return solver.kernel(model, x, t, s).log_prob(x_s).item()


def test_log_densities_of_every_kind_of_kernel():
    """Values computed once from the papers' formulas by another program: alpha .8 to .9 under VP."""
    sde = sd.VP()
    alpha = torch.tensor([0.8, 0.9], dtype=F64)
    times = sde.t_of_lam(torch.log(alpha / torch.sqrt(1 - alpha**2)))
    adams, ddim = sd.solvers.Adams, sd.solver("ddim", eta=0.5)
    for solver, expected in (
        (sd.solver("ancestral"), 0.542567583969),
        (adams(1, eta=1.0), 0.542567583969),
        (adams(1, eta=0.5), 2.09790964080),
        (ddim, 2.48848932719),
        (sd.solver("ddpm"), -0.415537410196),
        (sd.solver("reverse_diffusion"), -0.415319489238),
        (sd.solver("er_sde", order=1), 3.77757331524),
        (sd.solver("euler_maruyama"), -0.850827479489),
    ):
        assert _log_density(solver, sde, times) == pytest.approx(expected, abs=1e-9), solver


def test_log_densities_of_flow_grpo_and_coefficients_preserving_sampling():
    """a = .7 from t = .6 to .5 on the linear path; Flow-GRPO's step is Euler and Maruyama's of eta = a/sqrt(2)."""
    flow, velocity = sd.RectifiedFlow(), (0.3, -0.5, 0.4)
    grpo = sd.solver("euler_maruyama", eta=0.7 / math.sqrt(2))
    assert _log_density(grpo, flow, [0.6, 0.5], velocity, "velocity") == pytest.approx(1.01183619082, abs=1e-9)
    preserving = _log_density(CoefficientsPreserving(0.7), flow, [0.6, 0.5], velocity, "velocity")
    assert preserving == pytest.approx(-0.458024684899, abs=1e-9)
