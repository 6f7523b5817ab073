"""Networks of reversed sign and sigma times the score say the same as those of the plain parametrisation."""

import pytest
import torch

import sdediff as sd
from sdediff.model.prediction import PARAMETRISATIONS, spellings

F64 = torch.float64
SAYS = ("x0", "eps", "score", "v", "velocity")


@pytest.mark.parametrize("predicts", PARAMETRISATIONS)
def test_a_minus_reverses_the_output(sde, times_inside, normals, predicts):
    x, raw = normals(4, 3), normals(4, 3, seed=1)
    plain = sd.ScoreModel(lambda x, t: raw, sde, predicts, "t")
    reverse = sd.ScoreModel(lambda x, t: -raw, sde, f"-{predicts}", "t")
    for t in (*times_inside(sde, 3).tolist(), times_inside(sde, 4)):
        for name in SAYS:
            one, two = getattr(plain(x, t), name), getattr(reverse(x, t), name)
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-9 * max(1.0, float(one.abs().max())))


def test_sigma_times_the_score(sde, times_inside, normals):
    x, eps = normals(4, 3), normals(4, 3, seed=1)
    model = sd.ScoreModel(lambda x, t: -eps, sde, "sigma*score", "t")
    for t in times_inside(sde, 3).tolist():
        assert torch.equal(model(x, t).eps, eps)
        torch.testing.assert_close(model(x, t).score, -eps / sd.level(sde, t).sigma, rtol=1e-12, atol=0)


def test_a_reversed_velocity_is_read_at_both_ends():
    # At t = 1 alpha is 0 and at t = 0 sigma is: the velocity itself is what the network says at both.
    x, flow = torch.ones(1, 2, dtype=F64), torch.tensor([[3.0, -1.0]], dtype=F64)
    model = sd.ScoreModel(lambda x, t: -flow, sd.RectifiedFlow(), "-velocity")
    assert torch.equal(model(x, 0.0).velocity, flow)
    assert torch.equal(model(x, 1.0).velocity, flow)
    sampled = sd.sample(model, (1, 2), solver="euler", steps=4, stop=0.0, denoise=False, dtype=F64)
    plain = sd.sample(sd.ScoreModel(lambda x, t: flow, sd.RectifiedFlow(), "velocity"), (1, 2), solver="euler",
                      steps=4, stop=0.0, denoise=False, dtype=F64)  # fmt: skip
    assert torch.equal(sampled, plain)


@pytest.mark.parametrize("predicts", ["-eps", "sigma*score", "-velocity", "-edm"])
def test_training_and_rescheduling_of_a_reversed_network(predicts, normals):
    base = predicts.lstrip("-").replace("sigma*score", "eps")
    x0, eps, t = normals(6, 3), normals(6, 3, seed=1), torch.linspace(0.1, 0.9, 6, dtype=F64)
    plain = sd.ScoreModel(lambda x, t: 0.3 * x, sd.VP(), base)
    reverse = sd.ScoreModel(lambda x, t: -0.3 * x, sd.VP(), predicts)
    torch.testing.assert_close(sd.loss(reverse, x0, t=t, eps=eps), sd.loss(plain, x0, t=t, eps=eps))
    other = sd.VE()
    one, two = (sd.reschedule(m, other)(x0, 0.4).x0 for m in (plain, reverse))
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


def test_unknown_spellings():
    assert {"-eps", "-velocity", "sigma*score"} <= set(spellings())
    with pytest.raises(sd.ModelError, match="unknown parametrisation '-epsilon'"):
        sd.ScoreModel(lambda x, t: x, sd.VP(), "-epsilon")
