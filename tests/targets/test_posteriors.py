"""The posterior of a mixture under a linear measurement: golden values, Bayes' rule and refusals."""

from __future__ import annotations

import math

import pytest
import torch

import sdediff as sd
from tests.inverse.measured import COSINES, F64, FIRST, eight


def _close(found: torch.Tensor, expected: list[float], atol: float) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=F64), rtol=0, atol=atol)


def test_target_m() -> None:
    exact, evidence = sd.targets.posterior(sd.target("target_m"), FIRST, [0.9], 0.2)
    _close(exact.weights[1:], [0.46484737, 0.53515263], 1e-8)
    assert exact.weights[0].item() == pytest.approx(2.83912e-13, rel=1e-5)
    assert evidence == pytest.approx(-0.191413693380, abs=1e-9)
    _close(exact.mean, [0.87719263, 0.02266421], 1e-8)
    _close(exact.cov.reshape(-1)[[0, 1, 3]], [0.0236766, 0.04849756, 1.27300391], 1e-7)
    wide, evidence = sd.targets.posterior(sd.target("target_m"), FIRST, [0.0], 0.5)
    _close(wide.weights, [0.04034169, 0.47105236, 0.48860595], 1e-8)
    assert evidence == pytest.approx(-1.930965998, abs=1e-9)
    _close(wide.mean, [0.62634237, 0.07665688], 1e-8)


def test_eight_dimensions() -> None:
    exact, evidence = sd.targets.posterior(eight(), COSINES, [0.5, -0.2, 0.1], 0.3)
    _close(exact.weights, [0.00084103, 0.77696912, 0.22218985], 1e-7)
    assert evidence == pytest.approx(-2.72585018573, abs=1e-9)
    _close(exact.mean[:3], [0.1751468, -0.54485872, -0.98931621], 1e-8)
    assert exact.cov.trace().item() == pytest.approx(1.04959515189, abs=1e-9)


def test_it_is_bayes_rule() -> None:
    """log p(x | y) = log p(x) + log N(y; A x, noise^2) - log p(y)."""
    target, y, noise = eight(), torch.tensor([0.5, -0.2, 0.1], dtype=F64), 0.3
    exact, evidence = sd.targets.posterior(target, COSINES, y, noise)
    x = target.sample(5, dtype=F64)
    misfit = (y - x @ COSINES.T).square().sum(1) / (2 * noise**2)
    likelihood = -misfit - 3 * math.log(noise * math.sqrt(2 * math.pi))
    torch.testing.assert_close(exact.log_prob(x), target.log_prob(x) + likelihood - evidence, rtol=1e-9, atol=1e-9)


def test_refusals() -> None:
    with pytest.raises(sd.Error, match="has no density"):
        sd.targets.posterior(sd.target("target_m"), FIRST, [0.9], 0.0)
    with pytest.raises(sd.Error, match=r"needed are A \(M, 2\)"):
        sd.targets.posterior(sd.target("target_m"), FIRST[:, :1], [0.9], 0.1)
