"""Losses where alpha = 0, at the times at which samplers call, with the weights of the literature."""

from __future__ import annotations

import math

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


# At VP's level of SNR 2: alpha^2 = 2/3, sigma^2 = 1/3; sigma_data = 0.5 has c_out^2 = .25 / (alpha^2 .25 + sigma^2).
def test_golden_weights_of_the_other_names() -> None:
    """Truncated SNR, EDM's 1/c_out^2, CFM's 1/t^2 on the linear path, VDM++'s sigmoid a unit of log-SNR."""
    for snr, truncated, p2 in ((2.0, 2.0, 2 / 3), (0.25, 1.0, 0.2)):
        assert WEIGHTINGS["truncated_snr"](_level(snr), 1.0).item() == pytest.approx(truncated, rel=1e-9)
        assert WEIGHTINGS["p2"](_level(snr), 1.0).item() == pytest.approx(p2, rel=1e-9)
        kappa2 = 1 / snr  # Karras et al. 2022: c_out = sigma sigma_data / sqrt(sigma^2 + sigma_data^2)
        expected = (kappa2 + 0.25) / (kappa2 * 0.25)
        assert WEIGHTINGS["edm"](_level(snr), 0.5).item() == pytest.approx(expected, rel=1e-9)
    for t in (0.1, 0.5, 1.0):
        at = sd.level(sd.RectifiedFlow(), torch.tensor([t], dtype=F64))
        assert WEIGHTINGS["velocity"](at, 1.0).item() == pytest.approx(1 / t**2, rel=1e-9)
        snr = (1 - t) ** 2 / t**2
        # -dlam/dt = 1/(t (1 - t)), so g^2/(2 sigma^2) SNR = (1 - t)/t^3, 0 at T.
        assert WEIGHTINGS["likelihood"](at, 1.0).item() == pytest.approx((1 - t) / t**3, rel=1e-9)
        sigmoid = 1 / (1 + math.exp(-2) * snr)
        assert WEIGHTINGS["sigmoid"](at, 1.0).item() == pytest.approx(2 * sigmoid * (1 - t) / t**3, rel=1e-9)
    vp = sd.level(sd.VP(), torch.tensor([0.3], dtype=F64))
    beta = 0.1 + 0.3 * 19.9
    on_eps = WEIGHTINGS["likelihood"](vp, 1.0) * vp.sigma**2 / vp.alpha**2
    assert on_eps.item() == pytest.approx(beta / 2 / vp.sigma.item() ** 2, rel=1e-9)


PROCESSES = {**AT_ZERO, "vp": sd.VP(), "ve": sd.VE(), "edm": sd.EDM()}
M, C = 0.7, 0.3
# Four points of the exact first and second moments of x0 ~ N(M, C) and eps ~ N(0, 1).
A, B = (torch.tensor(signs, dtype=F64)[:, None] for signs in ([1, 1, -1, -1], [1, -1, 1, -1]))


@pytest.mark.parametrize("predicts", ["x0", "v", "edm", "velocity", "eps", "score"])
@pytest.mark.parametrize("process", PROCESSES)
def test_the_minimiser_of_every_weight_is_the_true_score(process: str, predicts: str) -> None:
    """A linear network has its least loss at E[x0|x] = M + alpha C (x - alpha M)/(alpha^2 C + sigma^2), at T too."""
    sde, names = PROCESSES[process], [None, *WEIGHTINGS]
    slope, offset = (torch.zeros((), dtype=F64, requires_grad=True) for _ in range(2))
    inputs: list[torch.Tensor] = []
    scale_of_data = {"sigma_data": 0.5} if predicts == "edm" else {}
    model = sd.ScoreModel(
        lambda x, t: inputs.append(x) or slope * x + offset, sde, predicts=predicts, time="t", **scale_of_data
    )
    last = sde.T if model.at_zero_alpha else sde.t_max
    served = 0
    for time in (last, sde.t_min + 0.4 * (last - sde.t_min)):
        t = torch.full((4,), float(round(time)) if process == "table" else time, dtype=F64)
        at = sd.level(sde, t[:1])
        if predicts == "velocity" and process == "table":
            with pytest.raises(sd.ModelError, match="velocity of a table is not finite"):
                sd.loss(model, M + C**0.5 * A, eps=B, t=t)
            continue
        a, b = (torch.as_tensor(v, dtype=F64).reshape(-1)[0] for v in model(B, sd.level(sde, t)).pair("x0"))
        on_x = at.alpha * C / (at.alpha**2 * C + at.sigma**2)
        scale = (inputs[-1] / B)[0].item()  # EDM's c_in, which the network's input carries
        right = ((on_x - a) / b).item() / scale, ((M - on_x * at.alpha * M) / b).item()
        for name in names:
            grads = []
            for wrong in (0.0, 0.1):
                with torch.no_grad():
                    slope.fill_(right[0] + wrong)
                    offset.fill_(right[1] - wrong)
                try:
                    loss = sd.loss(model, M + C**0.5 * A, eps=B, t=t, weighting=name).mean()
                except sd.ModelError:
                    break
                assert loss.isfinite()
                grads.append(torch.stack(torch.autograd.grad(loss, (slope, offset))))
            if not grads:
                continue
            served += 1
            least, far = (grad.abs().max().item() for grad in grads)
            assert least <= 1e-9 * far or far == 0, (name, time)
            assert far > 0 or (at.alpha == 0 and name in ("simple", "p2", "likelihood", "sigmoid"))
    assert served >= 8 or predicts == "velocity"


@pytest.mark.parametrize("name", ["simple", "p2", "min_snr", "likelihood", "sigmoid", "velocity"])
def test_weights_that_teach_nothing_at_a_table_s_end_are_refused(name: str) -> None:
    x0 = torch.zeros(4, 2, dtype=F64)
    with pytest.raises(sd.ModelError, match=f'weighting=\'{name}\' .*write "v" or "truncated_snr"'):
        sd.loss(sd.ScoreModel(lambda x, t: x, ZERO_SNR, predicts="v"), x0, weighting=name)
    if name in ("simple", "p2", "min_snr"):  # an eps network is trained up to the last timestep with alpha > 0
        assert sd.loss(sd.ScoreModel(lambda x, t: x, ZERO_SNR), x0, weighting=name).isfinite().all()


def test_the_index_clock_of_a_table_counts_from_0() -> None:
    seen: list[torch.Tensor] = []

    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(t)
        return x

    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 10, dtype=F64))
    sd.loss(sd.ScoreModel(net, table, time="index"), torch.zeros(4000, 1), generator=torch.Generator().manual_seed(0))
    values, counts = seen[0].unique(return_counts=True)
    assert values.tolist() == list(range(10))
    assert (counts - 400).abs().max() <= 1  # stratified: uniform to one draw
