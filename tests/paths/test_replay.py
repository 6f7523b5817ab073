"""`replay` and `path_kl`: recorded paths under other weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.paths import importance
from tests.paths.chains import EXACT, F64, OTHER, SDE, denoiser, factors, levels, times, variances
from tests.solvers.equivalence import net

MODEL = sd.ScoreModel(net, SDE)
NAMES = ("ancestral", "euler_maruyama", "dpmpp_3m_sde", "er_sde", "dpm2_ancestral")
SOLVERS = {name: sd.solver(name) for name in NAMES}
SOLVERS["corrected"] = sd.solver("sa_solver", within=None)
SOLVERS["falling"] = sd.solvers.lower_order_final("dpmpp_3m_sde")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.nn.Parameter(torch.randn(3, 3, generator=generator) / 2)

    def forward(self, x, t):
        return torch.tanh(x @ self.weight + t[:, None])


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("grad", [False, True, "checkpoint"])
def test_under_the_same_weights_the_ratio_is_one_to_the_bit(name, grad):
    model = sd.ScoreModel(Net(), SDE)
    record = sd.sample(model, (6, 3), solver=SOLVERS[name], steps=5, log_prob="steps")
    again = sd.replay(record, model, grad=grad)
    assert torch.equal(torch.exp(again - record.log_prob), torch.ones(5, 6, dtype=F64))
    assert again.requires_grad == bool(grad)


@pytest.mark.parametrize("name", SOLVERS)
def test_gradients_of_densities_are_those_of_differences(name):
    """The gradient by the weights along a direction against a central difference, in float64."""
    module = Net().double()
    model = sd.ScoreModel(module, SDE)
    record = sd.sample(model, (6, 3), solver=SOLVERS[name], steps=5, log_prob="steps")
    (gradient,) = torch.autograd.grad(sd.replay(record, model, grad=True).sum(), module.weight)
    (again,) = torch.autograd.grad(sd.replay(record, model, grad="checkpoint").sum(), module.weight)
    torch.testing.assert_close(again, gradient, rtol=1e-12, atol=1e-12)
    direction, values = torch.ones(3, 3, dtype=F64), []
    for step in (1e-6, -1e-6):
        other = Net().double()
        other.weight.data = module.weight.data + step * direction
        values.append(sd.replay(record, sd.ScoreModel(other, SDE)).sum().item())
    assert (gradient * direction).sum().item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


def test_the_log_ratio_is_the_published_one():
    """Sum of (2 delta (x_s - m) - |delta|^2)/(2 std^2), delta the difference of the means."""
    record = sd.sample(EXACT, (7, 1), solver="ancestral", grid=times(6), dtype=F64, log_prob="steps")
    found, path = sd.replay(record, OTHER) - record.log_prob, record.trajectory
    for i, ((a, b, c), (alpha, _)) in enumerate(zip(factors(6), levels(6)[:-1], strict=True)):
        mean, delta = (a + b * alpha) * path[i], b * (0.002 * alpha * path[i] + 0.001)
        expected = ((2 * delta * (path[i + 1] - mean) - delta**2) / (2 * c**2)).sum(1)
        torch.testing.assert_close(found[i], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1, 10])
def test_the_expected_ratio_is_one(scale):
    """At 100,000 paths within 3 standard errors; at ten times the difference few weights carry the mean."""
    other = denoiser(1 + 0.002 * scale, 0.001 * scale)
    record = sd.sample(EXACT, (100_000, 1), solver="ancestral", grid=times(20), seed=4, dtype=F64, log_prob="steps")
    worth = importance((sd.replay(record, other) - record.log_prob).sum(0))
    assert abs(math.expm1(worth.log_mean)) < 3 * worth.std_error
    assert worth.std_error < (2e-3 if scale == 1 else 0.2)
    assert worth.ess > 9e4 if scale == 1 else worth.ess < 5e3


@pytest.mark.parametrize(("scale", "expected"), [(1, 0.017478229090958), (10, 1.7478229090958)])
def test_the_divergence_of_paths_is_exact_for_a_linear_chain(scale, expected):
    """Gauss and Hermite's nodes in the place of samples: three integrate the squares exactly."""
    nodes, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(3))
    path = torch.stack([math.sqrt(v) * nodes[:, None] for v in variances(20)])
    record = sd.SampleRecord(path[-1], times(20), path, 20, None, sd.solver("ancestral"))
    kl = sd.path_kl(record, EXACT, denoiser(1 + 0.002 * scale, 0.001 * scale))
    total = (kl @ (weights / weights.sum())).sum().item()
    assert total == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_a_steps_divergence_is_vdms_loss_term(eta):
    """(SNR_s - SNR_t) |D - D'|^2 / 2 at eta = 1; elsewhere SNR_s (1 - e^-(1+eta^2)h)^2 / (1 - e^-2 eta^2 h) / 2."""
    record = sd.sample(EXACT, (5, 3), solver=sd.solvers.Adams(1, eta=eta), grid=times(8), dtype=F64, full=True)
    found = sd.path_kl(record, EXACT, OTHER)
    for i, ((alpha_t, sigma_t), (alpha_s, sigma_s)) in enumerate(zip(levels(8)[:-1], levels(8)[1:], strict=True)):
        gap = (0.002 * alpha_t * record.trajectory[i] + 0.001).square().sum(1)
        snr_t, snr_s = (alpha_t / sigma_t) ** 2, (alpha_s / sigma_s) ** 2
        h = math.log(snr_s / snr_t) / 2
        rate = math.expm1(-(1 + eta**2) * h) ** 2 / -math.expm1(-2 * eta**2 * h) * snr_s
        if eta == 1:
            assert rate == pytest.approx(snr_s - snr_t, rel=1e-9)
        torch.testing.assert_close(found[i], rate * gap / 2, rtol=1e-9, atol=0)


def test_what_cannot_be_replayed_is_refused():
    with pytest.raises(sd.Error, match="is deterministic"):
        sd.replay(sd.sample(MODEL, (2, 3), steps=3, full=True), MODEL)
    langevin = sd.solver("annealed_langevin", n=1)
    with pytest.raises(sd.Error, match="goes from level to level"):
        sd.replay(sd.sample(MODEL, (2, 3), solver=langevin, steps=3, log_prob="steps"), MODEL)
    with pytest.raises(sd.Error, match="give what"):
        sd.replay(torch.zeros(3), MODEL)
    record = sd.sample(MODEL, (2, 3), solver="ancestral", steps=3, log_prob="steps")
    with pytest.raises(sd.Error, match="grad="):
        sd.replay(record, MODEL, grad="yes")


def test_a_network_in_training_mode_is_refused():
    """Dropout would draw again, and the ratio would not be 1."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout())
    model = sd.ScoreModel(lambda x, t: module(x), SDE)
    record = sd.sample(MODEL, (2, 3), solver="ancestral", steps=3, log_prob="steps")
    with pytest.raises(sd.Error, match="eval"):
        sd.replay(record, model)


def test_conditions_are_the_networks():
    model = sd.ScoreModel(lambda x, t, shift=0.0: net(x, t) + shift, SDE)
    record = sd.sample(model, (2, 3), solver="ancestral", steps=3, cond={"shift": 0.5}, log_prob="steps")
    assert torch.equal(sd.replay(record, model, cond={"shift": 0.5}), record.log_prob)
    assert not torch.equal(sd.replay(record, model), record.log_prob)
