"""Implicit score matching on a Gaussian: golden values, the minimiser, sliced estimates against the exact trace.

The score is s = -P (x - b) and the noised data are N(m, S), S = C + sigma^2 I, so that
E[tr(grad s) + |s|^2/2] = -tr P + tr(P^2 S)/2 + |P (m - b)|^2/2. Expectations of quadratic forms are taken over points
of the same mean and covariance, so they are exact.
"""

import itertools
import math

import pytest
import torch
from torch import nn

import sdediff as sd
from sdediff.training import Draws, ImplicitScoreMatching, Objective
from sdediff.training.score_matching import implicit_loss

F64 = torch.float64
M = torch.tensor([1.0, -0.5], dtype=F64)
C = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=F64)
SIGMA = 0.4
S = C + SIGMA**2 * torch.eye(2, dtype=F64)
SDE = sd.VE(sigma_min=0.1, sigma_max=1.6)  # sigma(1/2) = 0.4
T = torch.full((8,), 0.5, dtype=F64)


class Score(nn.Module):
    def __init__(self, p, b):
        super().__init__()
        self.p, self.b = nn.Parameter(p.clone()), nn.Parameter(b.clone())

    def forward(self, x, t=None):
        return -(x - self.b) @ self.p.T


def points(mean, cov):
    """2 n points whose mean and covariance are these."""
    root = torch.linalg.cholesky(cov) * math.sqrt(len(mean))
    return torch.cat([mean + root.T, mean - root.T])


OPTIMUM = Score(torch.linalg.inv(S), M)


@pytest.mark.parametrize(
    ("net", "implicit", "denoising"),
    [
        (Score(0.8 * torch.eye(2, dtype=F64), torch.zeros(2, dtype=F64)), -0.6176, 5.6324),
        (OPTIMUM, -1.34695085849615, 4.90304914150385),
    ],
    ids=["given", "optimum"],
)
def test_hyvarinen_2005_golden_values(net, implicit, denoising):
    found = implicit_loss(net, points(M, S), [], "exact").mean().item()
    assert found == pytest.approx(implicit, abs=1e-12)
    joint = points(torch.cat([M, torch.zeros(2, dtype=F64)]), torch.block_diag(C, torch.eye(2, dtype=F64)))
    model = sd.ScoreModel(net, SDE, predicts="score", time="t")
    losses = sd.loss(model, joint[:, :2].contiguous(), eps=joint[:, 2:].contiguous(), t=T)
    # The mean over D = 2 numbers of the error in eps: half of |s + eps/sigma|^2 is the loss times D/(2 sigma^2).
    assert losses.mean().item() * 2 / (2 * SIGMA**2) == pytest.approx(denoising, abs=1e-12)
    assert denoising - implicit == pytest.approx(2 / (2 * SIGMA**2), abs=1e-9)


SIGNS = [torch.tensor(v, dtype=F64).expand(4, 2) for v in itertools.product((-1.0, 1.0), repeat=2)]
AXES = [math.sqrt(2) * torch.eye(2, dtype=F64)[i].expand(4, 2) for i in range(2)]


@pytest.mark.parametrize("estimator", ["exact", "sliced", "sliced_vr"])
@pytest.mark.parametrize("probes", [SIGNS, AXES], ids=["signs", "axes"])
def test_the_gradient_is_zero_at_the_true_score_and_nowhere_near(estimator, probes):
    for shift in (0.0, 0.1):
        net = Score(OPTIMUM.p.detach() + shift, OPTIMUM.b.detach() - shift)
        value = implicit_loss(net, points(M, S), probes, estimator).mean()
        gradients = torch.cat([g.flatten() for g in torch.autograd.grad(value, list(net.parameters()))])
        assert (gradients.abs().max() < 1e-12) == (shift == 0.0)
        exact = -net.p.trace() + (net.p @ net.p @ S).trace() / 2 + (net.p @ (M - net.b)).square().sum() / 2
        assert value.item() == pytest.approx(exact.item(), abs=1e-12)


# Standard deviations of one sample's value at the optimum.
SPREADS = [
    ("exact", "rademacher", 1.47), ("sliced_vr", "rademacher", 1.72), ("sliced", "rademacher", 2.05),
    ("sliced_vr", "gaussian", 3.28), ("sliced", "gaussian", 3.17),
]  # fmt: skip


@pytest.mark.parametrize(("estimator", "projection", "spread"), SPREADS)
def test_song_2019_sliced_is_exact_in_expectation(estimator, projection, spread):
    n = 100_000
    generator = torch.Generator().manual_seed(3)
    x = M + torch.randn(n, 2, generator=generator, dtype=F64) @ torch.linalg.cholesky(S).T
    draws = Draws(0, 0, 0, n)
    probe = draws.signs(x) if projection == "rademacher" else draws.normals(x)
    values, exact = (implicit_loss(OPTIMUM, x, [probe], kind).detach() for kind in (estimator, "exact"))
    assert values.std().item() == pytest.approx(spread, rel=0.02)
    difference = values - exact
    error = difference.std().item() / math.sqrt(n)  # at most .01
    assert abs(difference.mean().item()) <= 4.9 * error
    assert error < 0.01


@pytest.mark.parametrize("estimator", ["exact", "sliced", "sliced_vr"])
@pytest.mark.parametrize("weighting", ["simple", "likelihood"])
def test_the_objective_differs_from_denoising_by_a_constant(estimator, weighting):
    # Two networks: the difference of their implicit losses is that of their denoising losses.
    n, draws = 40_000, Draws(5, 2, 0, 40_000)
    x0 = M + torch.randn(n, 2, generator=torch.Generator().manual_seed(1), dtype=F64) @ torch.linalg.cholesky(C).T
    nets = [OPTIMUM, Score(0.8 * torch.eye(2, dtype=F64), torch.zeros(2, dtype=F64))]
    implicit, denoising = (
        [objective(sd.ScoreModel(net, SDE, "score", "t"), x0, {}, draws).detach() for net in nets]
        for objective in (
            ImplicitScoreMatching(estimator, weighting=weighting),
            Objective(weighting),
        )
    )
    gap = (implicit[1] - implicit[0]) - (denoising[1] - denoising[0])
    assert abs(gap.mean().item()) < 4.9 * gap.std().item() / math.sqrt(n)
    assert abs((implicit[1] - implicit[0]).mean().item()) > 10 * gap.std().item() / math.sqrt(n)


def test_a_network_is_trained_through_both_derivatives():
    net = sd.nets.MLP(2, 8, 1, input="ve", clock="log")
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1)
    model = sd.ScoreModel(net, sd.VE(), "score", "sigma")
    x0 = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    for estimator in ("exact", "sliced", "sliced_vr"):
        net.zero_grad()
        ImplicitScoreMatching(estimator)(model, x0, {}, Draws(0)).mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        assert max(p.grad.abs().max().item() for p in net.parameters()) > 0


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"estimator": "trace"}, "unknown estimator"), ({"projection": "sphere"}, "unknown projection"),
        ({"probes": 0}, "probes=0"), ({"estimator": "exact", "probes": 2}, "no effect with estimator"),
    ],
)  # fmt: skip
def test_estimators_that_are_none_are_refused(fields, match):
    with pytest.raises(sd.Error, match=match):
        ImplicitScoreMatching(**fields)
