"""Exact analysis on Gaussian data against recursions worked by hand."""

import math

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.analysis import (
    NotLinear,
    Stability,
    analyse,
    order,
    plot_convergence,
    plot_spectrum,
    stability,
)
from sdediff.targets import gaussian

F64 = torch.float64
SPECTRUM = (0.01, 0.3, 1.0, 4.0)


def close(found, expected, tol=1e-10):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tol, atol=tol)


def coefficients(sde, times):
    """alpha, sigma as numpy, by the process's own two methods."""
    return sde.alpha(times).numpy(), sde.sigma(times).numpy()


@pytest.mark.parametrize("sde", [sd.VP(), sd.VE(sigma_max=20.0), sd.RectifiedFlow()], ids=lambda s: type(s).__name__)
def test_ddim_is_the_product_of_its_step_gains(sde):
    """Song et al. 2020, eq. 12 at eta 0: x_s = alpha_s x0 + sigma_s eps, for the posterior mean of N(m, v)."""
    mean = 0.7
    found = analyse("ddim", sde, "log_snr", SPECTRUM, steps=7, denoise=False, mean=mean)
    alpha, sigma = coefficients(sde, found.times)
    for i, v in enumerate(SPECTRUM):
        gain, offset = 1.0, 0.0
        for k in range(7):
            total = alpha[k] ** 2 * v + sigma[k] ** 2
            d = alpha[k] * v / total  # E[x0 | x] = d x + rest
            rest = mean * (1 - alpha[k] * d)
            step = alpha[k + 1] * d + sigma[k + 1] * (1 - alpha[k] * d) / sigma[k]
            offset = step * offset + rest * (alpha[k + 1] - sigma[k + 1] * alpha[k] / sigma[k])
            gain *= step
        close(found.gain[i], gain)
        close(found.mean[i], offset)
        close(found.variance[i], (gain * sigma[0]) ** 2)
        close(found.bias[i], offset - alpha[-1] * mean)
        truth = alpha[-1] ** 2 * v + sigma[-1] ** 2
        close(found.exact_variance[i], truth)
        close(found.relative_error[i], (gain * sigma[0]) ** 2 / truth - 1)
        before = alpha[0] ** 2 * v + sigma[0] ** 2
        close(found.transfer_error[i], abs(gain - math.sqrt(truth / before)) * math.sqrt(before))
    gaps = (found.variance.sqrt() - found.exact_variance.sqrt()) ** 2 + (found.mean - found.exact_mean) ** 2
    assert found.w2 == pytest.approx(math.sqrt(gaps.sum()), rel=1e-12)
    assert (found.calls, found.steps) == (7, 7)


def test_exact_gain_is_the_flow_of_gaussian_data():
    sde = sd.VP()
    found = analyse("ddim", sde, "log_snr", (0.2,), steps=3, denoise=False)
    target = gaussian(mean=[0.0], spectrum=[0.2])
    flow = target.flow(torch.ones(1, 1, dtype=F64), sde, sde.T, sde.t_min)
    close(found.exact_gain, flow[0], 1e-9)


def test_euler_maruyama_variance_recursion():
    """v <- (1 + |dt| (g^2/v_t - f) ... )^2 v + g^2 |dt| with the score -x/v_t, in the SDE's own time."""
    sde = sd.VP()
    found = analyse("euler_maruyama", sde, "uniform", SPECTRUM, steps=30, denoise=False)
    t = found.times
    beta = 0.1 + 19.9 * t.numpy()
    alpha, sigma = coefficients(sde, t)
    for i, v in enumerate(SPECTRUM):
        variance = sigma[0] ** 2
        for k in range(30):
            dt = (t[k + 1] - t[k]).item()
            total = alpha[k] ** 2 * v + sigma[k] ** 2
            variance = (1 + dt * (-beta[k] / 2 + beta[k] / total)) ** 2 * variance - beta[k] * dt
        close(found.variance[i], variance)
    assert found.transfer_error is None


def test_ancestral_sampling_is_exact_at_the_two_ends_of_the_spectrum():
    """Ho et al. 2020, section 3.2: variance btilde is right for one point, beta for unit normal data."""
    point = analyse("ancestral", sd.VP(), "log_snr", (1e-14,), steps=5, denoise=False, mean=0.4, prior="exact")
    close(point.variance, point.exact_variance)
    close(point.mean, point.exact_mean)
    unit = analyse("ddpm", sd.VP(), "log_snr", (1.0,), steps=5, denoise=False, prior="exact")
    close(unit.variance, [1.0])
    swapped = analyse("ancestral", sd.VP(), "log_snr", (1.0,), steps=5, denoise=False, prior="exact")
    assert swapped.relative_error.item() < -0.1


def test_moments_are_those_of_samples():
    """20000 samples in each of two dimensions: standard errors 0.7 % of a deviation, 1 % of a variance."""
    sde, values, mean = sd.VP(), torch.tensor([0.1, 1.5], dtype=F64), torch.tensor([0.6, -1.0], dtype=F64)
    found = analyse("ancestral", sde, "log_snr", values, calls=9, mean=mean, denoise=True)
    assert found.calls == 9
    model = gaussian(mean=mean, spectrum=values).model(sde)
    x = sd.sample(model, (20000, 2), solver="ancestral", grid="log_snr", calls=9, dtype=F64, seed=4)
    se = found.variance.sqrt() / math.sqrt(20000)
    assert ((x.mean(0) - found.mean).abs() < 5 * se).all()
    assert ((x.var(0) / found.variance - 1).abs() < 5 * math.sqrt(2 / 20000)).all()
    close(found.exact_variance, values)
    close(found.exact_mean, mean)


def test_two_draws_a_step_are_two_impulses():
    """Langevin with a fixed step after ancestral: the corrector's draws are its own. Worked by hand."""
    from sdediff.solvers import AnnealedLangevin, PredictorCorrector

    sde, v = sd.VE(sigma_max=5.0), 0.5
    pair = PredictorCorrector(sd.solver("ancestral"), AnnealedLangevin(n=2, step_size=0.3), first="predictor")
    found = analyse(pair, sde, "log_snr", (v,), steps=4, denoise=False)
    _, sigma = coefficients(sde, found.times)
    variance = sigma[0] ** 2
    for k in range(4):
        s2, t2 = sigma[k + 1] ** 2, sigma[k] ** 2
        shrink = 1 - (t2 - s2) / (v + t2)
        variance = shrink**2 * variance + s2 * (t2 - s2) / t2
        for _ in range(2):
            e = 0.3 * s2
            variance = (1 - e / 2 / (v + s2)) ** 2 * variance + e
    close(found.variance, [variance])


BY_SAMPLE = sd.solver("langevin", norm="sample")


@pytest.mark.parametrize(
    "solver", [BY_SAMPLE, sd.solver("predictor_corrector", corrector=BY_SAMPLE), "ode", "sde"], ids=str
)
def test_solvers_that_are_not_linear_are_refused(solver):
    with pytest.raises(NotLinear) as caught:
        analyse(solver, sd.VP())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"spectrum": ()}, "variances"),
        ({"spectrum": (0.0, 1.0)}, "positive"),
        ({"spectrum": (float("nan"),)}, "positive"),
        ({"prior": "unit"}, "exact"),
        ({"grid": "karas"}, "karras"),
    ],
)
def test_bad_input_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        analyse("ddim", sd.VP(), **options)


@pytest.mark.parametrize(("name", "declared"), [("ddim", 1), ("dpmpp_2m", 2), ("heun", 2), ("rk4", 4)])
def test_order_on_gaussian_data(name, declared):
    assert order(name, sd.VP(), grid="log_snr", spectrum=(0.1,)) == pytest.approx(declared, abs=0.15)


def test_order_of_a_solver_that_is_exact_is_infinite():
    assert order(sd.solver("angle", scale="pca"), sd.VP(), (10, 20), spectrum=(0.1, 1.0)) == math.inf
    with pytest.raises(ValueError, match="rising"):
        order("ddim", sd.VP(), (20, 10))


def test_stability_is_the_fewest_bounded_steps():
    """Euler on EDM's process in even steps of sigma: the gain is a product of 1 - h sigma/(v + sigma^2)."""
    sde, v = sd.EDM(), 1e-6

    def growth(n):
        sigma = np.linspace(80.0, 0.002, n + 1)
        gain = np.prod(1 - (sigma[:-1] - sigma[1:]) * sigma[:-1] / (v + sigma[:-1] ** 2))
        return abs(gain) * 80.0 / math.sqrt(v + 0.002**2)

    found = stability("euler", sde, grid="uniform", spectrum=(v,), limit=1.0001)
    assert isinstance(found, Stability)
    bounded = [n for n in range(1, 300) if growth(n) <= 1.0001]
    assert found.steps in bounded
    assert found.steps - 1 not in bounded
    assert found.growth == pytest.approx(growth(found.steps), rel=1e-9)
    sigma = np.linspace(80.0, 0.002, found.steps + 1)
    assert found.step == pytest.approx(np.max(-np.diff(np.log(sigma))), rel=1e-9)
    with pytest.raises(sd.SolverError, match="unbounded"):
        stability("euler_maruyama", sd.VP(), spectrum=(1e-4,), limit=1e-3, most=8)


def test_pictures_and_table(tmp_path):
    made = {
        name: analyse(name, sd.VP(), "log_snr", (0.01, 0.1, 1.0), calls=10, denoise=False)
        for name in ("ddim", "ancestral")
    }
    files = [
        plot_spectrum(made, tmp_path / "a.png"),
        made["ddim"].plot(tmp_path / "b.png"),
        plot_convergence({"DDIM": "ddim", "Heun": "heun"}, sd.VP(), tmp_path / "c.png", (1, 5, 10)),
    ]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in files)
    assert made["ddim"].table().row_count == 3
