"""Products, tempered and negated models, and independent observations: exact on Gaussians with their covariances."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import sdediff as sd
from sdediff import guidance

F64 = torch.float64
MEANS = torch.tensor([[0.5, -0.3], [-0.2, 0.6], [1.0, 0.1]], dtype=F64)
COVS = torch.tensor([[[1.0, 0.6], [0.6, 0.5]], [[0.4, -0.1], [-0.1, 0.9]], [[2.0, 0.3], [0.3, 1.5]]], dtype=F64)
X = torch.tensor([[0.4, -0.3], [1.1, 0.8]], dtype=F64)


def _models(sde: sd.LinearSDE) -> list[sd.ScoreModel]:
    return [sd.targets.gaussian(m, cov=c).model(sde) for m, c in zip(MEANS, COVS, strict=True)]


def _combined(weights: list[float]) -> sd.targets.Mixture:
    """prod N(m_i, C_i)^w_i: precision sum w_i C_i^-1."""
    precision = sum(w * torch.linalg.inv(c) for w, c in zip(weights, COVS, strict=False))
    shift = sum(w * torch.linalg.solve(c, m) for w, c, m in zip(weights, COVS, MEANS, strict=False))
    cov = torch.linalg.inv(precision)
    return sd.targets.gaussian(cov @ shift, cov=(cov + cov.T) / 2)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [2.0, 0.5], [1.5, 0.8, -0.4], [3.0]])
@pytest.mark.parametrize("sde", [sd.VP(), sd.VE(), sd.RectifiedFlow()], ids=lambda p: type(p).__name__)
def test_products_of_gaussians_are_exact_at_every_time(sde: sd.LinearSDE, weights: list[float]) -> None:
    n = len(weights)
    model, exact = guidance.product(_models(sde)[:n], weights, list(COVS[:n])), _combined(weights)
    for t in (0.05, 0.4, 0.9):
        torch.testing.assert_close(model(X, t).score, exact.score(X, sde, t), rtol=1e-7, atol=1e-7)


def test_without_covariances_scores_are_summed() -> None:
    sde, weights = sd.VP(), [1.5, 0.8, -0.4]
    models = _models(sde)
    for t in (0.05, 0.9):
        total = sum(w * m(X, t).score for w, m in zip(weights, models, strict=True))
        torch.testing.assert_close(guidance.product(models, weights)(X, t).score, total, rtol=1e-8, atol=1e-9)


def test_tempering_and_independent_observations() -> None:
    sde = sd.VP()
    plain = guidance.tempered(_models(sde)[0], 2.5, COVS[0])
    torch.testing.assert_close(plain(X, 0.5).score, _combined([2.5]).score(X, sde, 0.5), rtol=1e-8, atol=1e-8)
    prior = sd.targets.gaussian(MEANS[0], cov=COVS[0])
    measured = torch.tensor([[0.3], [0.9], [0.5]], dtype=F64)
    row = torch.tensor([[1.0, 0.5]], dtype=F64)
    single = [sd.targets.posterior(prior, row, y, 0.7)[0] for y in measured]
    joint, _ = sd.targets.posterior(prior, row.expand(3, -1), measured[:, 0], 0.7)
    covs: list[Tensor] = [prior.cov, *(p.cov for p in single)]
    model = guidance.independent(prior.model(sde), [p.model(sde) for p in single], covs)
    torch.testing.assert_close(model(X, 0.4).score, joint.score(X, sde, 0.4), rtol=1e-7, atol=1e-7)
    x = sd.sample(model, (2000, 2), solver="dpmpp_2m", steps=30, dtype=F64)
    torch.testing.assert_close(x.mean(0), joint.mean, rtol=0, atol=0.06)
    torch.testing.assert_close(torch.cov(x.T), joint.cov, rtol=0, atol=0.06)


def test_models_on_other_processes_and_their_calls() -> None:
    one, other = _models(sd.VP())[0], _models(sd.EDM())[1]
    model = guidance.product([one, other], covariances=list(COVS[:2]))
    torch.testing.assert_close(model(X, 0.4).score, _combined([1.0, 1.0]).score(X, sd.VP(), 0.4), rtol=1e-6, atol=1e-6)
    assert sd.sample(model, x=X, solver="ddim", steps=4, full=True).calls == 10


def test_refusals() -> None:
    models = _models(sd.VP())
    for make, message in (
        (lambda: guidance.product([]), "list of ScoreModels"),
        (lambda: guidance.product(models, [1.0]), "give one each"),
        (lambda: guidance.product(models, None, [COVS[0]]), "give one each"),
        (lambda: guidance.product(models[:1], [-1.0], [COVS[0]]), "no density"),
        (lambda: guidance.product(models[:1], None, [-COVS[0]]), "is no covariance"),
    ):
        with pytest.raises(sd.Error, match=message):
            make()


@pytest.mark.parametrize("covariances", [None, list(COVS[:2])], ids=["scores", "covariances"])
def test_samples_at_times_of_their_own_are_as_alone(covariances: list[Tensor] | None) -> None:
    model = guidance.product(_models(sd.VP())[:2], [1.5, 0.5001], covariances)
    found = model(X, torch.tensor([0.2, 0.7], dtype=F64)).x0
    for row, t in enumerate((0.2, 0.7)):
        torch.testing.assert_close(found[row : row + 1], model(X[row : row + 1], t).x0, rtol=1e-9, atol=1e-9)
