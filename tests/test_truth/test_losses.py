"""Losses where alpha = 0, at the times at which samplers call, with the weights of the literature."""

from __future__ import annotations

import pytest
import torch

import sdediff as sd
from sdediff.training import WEIGHTINGS, training_times

F64 = torch.float64
ZERO_SNR = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64), zero_terminal_snr=True)
AT_ZERO = {"flow": sd.RectifiedFlow(), "cosine": sd.Cosine(), "table": ZERO_SNR}


def _level(snr: float) -> sd.Level:
    """VP's level of this SNR, in float64."""
    return sd.level(sd.VP(), sd.VP().t_of_lam(torch.tensor([snr], dtype=F64).log() / 2))


# SNR, then min-SNR on x0, eps and v, and P2 on eps.
GOLDEN = [
    (100.0, 5.0, 0.05, 0.0495049504950, 0.00990099009901),
    (5.0, 5.0, 1.0, 0.833333333333, 0.166666666667),
    (0.01, 0.01, 1.0, 0.00990099009901, 0.990099009901),
]


@pytest.mark.parametrize(("snr", "on_x0", "on_eps", "on_v", "p2"), GOLDEN)
def test_one_weight_rule(snr: float, on_x0: float, on_eps: float, on_v: float, p2: float) -> None:
    """A weight w0 on the error in x0 is w0 sigma^2/alpha^2 on eps and w0 sigma^2/(alpha^2 + sigma^2)^2 on v."""
    t = _level(snr)
    weight = WEIGHTINGS["min_snr"](t, 1.0)
    to_eps, to_v = t.sigma**2 / t.alpha**2, t.sigma**2 / (t.alpha**2 + t.sigma**2) ** 2
    for found, expected in ((weight, on_x0), (weight * to_eps, on_eps), (weight * to_v, on_v)):
        assert found.item() == pytest.approx(expected, rel=1e-9)
    assert (WEIGHTINGS["p2"](t, 1.0) * to_eps).item() == pytest.approx(p2, rel=1e-9)
    assert (WEIGHTINGS["simple"](t, 1.0) * to_eps).item() == pytest.approx(1.0, rel=1e-9)
    assert WEIGHTINGS["v"](t, 1.0).item() == pytest.approx(snr + 1, rel=1e-9)


@pytest.mark.parametrize("predicts", ["v", "x0", "velocity"])
@pytest.mark.parametrize("process", AT_ZERO)
def test_the_loss_at_zero_alpha_is_the_error_of_what_the_network_predicts(process: str, predicts: str) -> None:
    """At T a v network is to say -x0: its loss there is |F + x0|^2, finite and far from 0 for a wrong one."""
    sde = AT_ZERO[process]
    if predicts == "velocity" and process != "flow":
        pytest.skip("the velocity of this path is not finite at T")
    model = sd.ScoreModel(lambda x, t: 0 * x + 0.3, sde, predicts=predicts)
    x0, eps = (torch.randn(64, 5, dtype=F64, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    found = sd.loss(model, x0, eps=eps, t=torch.full((64,), sde.T, dtype=F64))
    right = {"v": -x0, "x0": x0, "velocity": eps - x0}[predicts]
    torch.testing.assert_close(found, (0.3 - right).square().mean(1), rtol=1e-9, atol=1e-12)


def test_what_alpha_zero_does_not_allow_is_refused() -> None:
    x0 = torch.zeros(4, 2, dtype=F64)
    with pytest.raises(sd.SDEError, match="alpha is 0"):
        sd.loss(sd.ScoreModel(lambda x, t: x, sd.RectifiedFlow()), x0, t=torch.ones(4, dtype=F64))
    with pytest.raises(sd.ModelError, match="truncated_snr"):
        sd.loss(sd.ScoreModel(lambda x, t: x, ZERO_SNR, predicts="v"), x0, weighting="min_snr")


def test_training_reaches_the_times_at_which_samplers_call() -> None:
    """From t_min to T where the network serves there, to t_max else; a table's own training timesteps."""
    u = torch.linspace(0, 1 - 1e-9, 4001, dtype=F64)
    for sde in (sd.VP(), sd.VE(), sd.EDM()):
        times = training_times(sde, u)
        assert times[0].item() == sde.t_min
        assert times[-1].item() == pytest.approx(sde.T, rel=1e-8)
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64))
    assert training_times(table, u).unique().tolist() == list(range(1, 1001))
    seen = []

    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(t)
        return x

    for predicts, last in (("v", 1000.0), ("eps", 999.0)):
        seen.clear()
        model = sd.ScoreModel(net, ZERO_SNR, predicts=predicts)
        sd.loss(model, torch.zeros(20000, 1, dtype=F64), generator=torch.Generator().manual_seed(0))
        assert seen[0].max().item() == last
        assert torch.equal(seen[0], seen[0].round())
