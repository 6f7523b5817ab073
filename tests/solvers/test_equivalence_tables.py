"""A table and its continuous process: the one becomes the other."""

import itertools
import math

import pytest
import torch

import sdediff as sd
from tests.solvers.equivalence import Tape, same

F64 = torch.float64


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
