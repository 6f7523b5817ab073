"""Stochastic solvers and correctors at their defaults, with a Gaussian's exact score: their law tends to the data's.

Mean and covariance after a run are exact functions of a linear solver's coefficients (`sd.analyse`); the others are
measured on samples, with the standard error of a covariance of N normals, sqrt((1 + r^2) / N) of its scale.
"""

from __future__ import annotations

import math

import pytest
import torch

import sdediff as sd

F64 = torch.float64
VARIANCES = torch.tensor([4.0, 1.0, 0.09, 0.02], dtype=F64)
PROCESSES = {"VP": sd.VP(), "VE": sd.VE()}
# Langevin alone starts at noise and has to get all the way by its own steps.
ALONE = ("langevin", "annealed_langevin")
LINEAR = [n for n, s in sd.list_solvers().items() if (s.stochastic or s.corrector) and not s.adaptive and n != "sde"]


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", LINEAR)
def test_variances_tend_to_the_truth(name: str, process: str) -> None:
    """Exact errors of the variances at 100 and 400 steps: small, or falling at least as 1/sqrt(steps)."""
    solver, sde = sd.solver(name), PROCESSES[process]
    found = [
        sd.analyse(solver, sde, solver.grid or sde.grid, VARIANCES, steps=steps).relative_error.abs().max().item()
        for steps in (100, 400)
    ]
    assert found[1] < 0.6 * found[0] or found[1] < 0.03
    if name not in ALONE:
        assert found[1] < 0.2


def _gaussian(dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and correlated covariance in so many dimensions, eigenvalues from .1 to 1."""
    source = torch.Generator().manual_seed(dim)
    turn = torch.linalg.qr(torch.randn(dim, dim, dtype=F64, generator=source))[0]
    mean = torch.randn(dim, dtype=F64, generator=source)
    return mean, turn @ torch.diag(torch.linspace(0.1, 1.0, dim, dtype=F64)) @ turn.T


def _model(sde: sd.LinearSDE, mean: torch.Tensor, cov: torch.Tensor) -> sd.ScoreModel:
    values, turn = torch.linalg.eigh(cov)

    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = sde.alpha(t)[:, None], sde.sigma(t)[:, None]
        shrink = alpha * values / (alpha**2 * values + sigma**2)
        return mean + ((x - alpha * mean) @ turn * shrink) @ turn.T

    return sd.ScoreModel(net, sde, predicts="x0")


MEASURED = ["predictor_corrector", "ancestral", "dpmpp_2m_sde", "sa_solver", "adaptive_sde", "sde"]


@pytest.mark.parametrize("dim", [1, *(pytest.param(d, marks=pytest.mark.slow) for d in (2, 3, 8, 64))])
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", MEASURED)
def test_samples_have_the_datas_mean_and_covariance(name: str, process: str, dim: int) -> None:
    """Within the solver's own bias at 300 steps (5 % of the scale) and 5.5 standard errors of every entry."""
    sde, solver = PROCESSES[process], sd.solver(name)
    count = 1000 if solver.adaptive else 4000
    mean, cov = _gaussian(dim)
    steps = None if solver.adaptive else 60 if name == "sde" else 300
    x = sd.sample(_model(sde, mean, cov), (count, dim), solver=solver, steps=steps, noise="stream", dtype=F64, seed=2)
    scale = cov.diagonal().sqrt()
    assert ((x.mean(0) - mean).abs() / scale).max().item() < 0.05 + 5.5 / math.sqrt(count)
    error = (torch.cov(x.T).reshape(dim, dim) - cov).abs() / torch.outer(scale, scale)
    assert error.max().item() < 0.05 + 5.5 * math.sqrt(2 / count)


@pytest.mark.parametrize("dim", [1, 2, 3, 8])
def test_the_papers_norms_bend_the_law_in_few_dimensions(dim: int) -> None:
    """Why the default is another: a step divided by the sample's own score norm does not leave p_t as it is."""
    mean, cov = _gaussian(dim)
    x = []
    for norm in ("level", "sample"):
        corrector = sd.solver("langevin", norm=norm, n=100, snr=0.3)
        model, start = _model(sd.VE(), mean, cov), sd.level(sd.VE(), 0.5)
        source = torch.Generator().manual_seed(1)
        exact = (
            mean
            + torch.randn(4000, dim, dtype=F64, generator=source)
            @ torch.linalg.cholesky(cov + start.sigma**2 * torch.eye(dim, dtype=F64)).T
        )
        x.append(sd.sample(model, x=exact, solver=corrector, grid=[0.5, 0.4999], denoise=False, noise="stream"))
    spread = [torch.cov(v.T).reshape(dim, dim).diagonal().sum() for v in x]
    total = cov.diagonal().sum() + dim * start.sigma**2
    kept, bent = (abs(s / total - 1).item() for s in spread)
    assert kept < 0.1 + 5.5 * math.sqrt(2 / (4000 * dim))
    assert bent > kept
