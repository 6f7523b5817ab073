"""`transition`: one step's Gaussian by the times of its ends."""

from __future__ import annotations

import math

import pytest
import torch

import sdediff as sd
from sdediff.paths import importance, transition
from tests.paths.chains import EXACT, F64


def test_one_step_is_ddpms_posterior():
    x = torch.tensor([[0.3], [-1.2]], dtype=F64)
    found = transition(EXACT, x, 0.5, 0.4)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (
        (math.exp(-b / 2), math.sqrt(-math.expm1(-b))) for b in (0.05 + 19.9 * 0.125, 0.04 + 19.9 * 0.08)
    )
    beta = 1 - (alpha_t / alpha_s) ** 2
    mean = alpha_t / alpha_s * sigma_s**2 / sigma_t**2 * x + alpha_s * beta / sigma_t**2 * alpha_t * x
    torch.testing.assert_close(found.mean, mean, rtol=1e-12, atol=0)
    assert found.std == pytest.approx(sigma_s / sigma_t * math.sqrt(beta), rel=1e-12)


def test_what_is_no_step_down_is_refused():
    x = torch.zeros(1, 1)
    with pytest.raises(sd.Error, match="s < t"):
        transition(EXACT, x, 0.4, 0.5)
    with pytest.raises(sd.Error, match="is deterministic"):
        transition(EXACT, x, 0.5, 0.4, solver="dpmpp_2m")


def test_importance_of_weights_written_out():
    worth = importance(torch.log(torch.tensor([1.0, 2.0, 3.0, 0.0], dtype=F64)))
    assert worth.weights.tolist() == pytest.approx([1 / 6, 1 / 3, 1 / 2, 0])
    assert worth.ess == pytest.approx(36 / 14)
    assert worth.log_mean == pytest.approx(math.log(1.5))
    assert worth.std_error == pytest.approx(math.sqrt(14 / 36 - 1 / 4))
    assert importance(torch.full((5,), -800.0)).ess == pytest.approx(5)


@pytest.mark.parametrize("values", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf], [[0.0]], []])
def test_weights_that_are_none_are_refused(values):
    with pytest.raises(sd.Error):
        importance(torch.tensor(values))
