"""A network trained on one process, on another."""

import pytest
import torch

import sdediff as sd
from sdediff.model.bound import BoundModel
from sdediff.model.prediction import PARAMETRISATIONS
from tests.model.truth import edm_output

F64 = torch.float64


def exact_score(sde, mean, var):
    """The exact score network of N(mean, var) data on a process; var per dimension."""

    def net(x, t):
        alpha, sigma = (v[:, None] for v in sde.marginal(t.double()))
        return (-(x - alpha * mean) / (alpha**2 * var + sigma**2)).to(x)

    return net


MEAN, VAR = torch.tensor([0.5, -1.0], dtype=F64), torch.tensor([0.3, 2.0], dtype=F64)


def outputs(sde):
    """Every parametrisation of the exact network on a process, as models."""
    score = sd.ScoreModel(exact_score(sde, MEAN, VAR), sde, predicts="score")
    for predicts in PARAMETRISATIONS:

        def net(x, t, predicts=predicts):
            if predicts != "edm":
                return getattr(score(x, t), predicts)
            here = sd.level(sde, t)
            w = torch.sqrt(here.alpha**2 + here.sigma**2)[:, None]
            x = x * w  # back from the input that the model scaled
            return edm_output(here, x, score(x, t).x0, 1.0)

        yield sd.ScoreModel(net, sde, predicts=predicts, time="t")


@pytest.mark.parametrize("target", ["ve", "edm", "flow", "cosine", "vp_long", "table_sigmas"])
def test_a_network_trained_on_vp_is_exact_on_other_processes(processes, target, normals):
    sde, source = processes[target], sd.VP()
    times = sde.t_of_lam(source.lam(torch.linspace(0.05, 0.95, 7, dtype=F64))).tolist()
    times = [t for t in times if sde.t_min < t < sde.t_max]
    assert len(times) >= 3
    x = normals(3, 2)
    for model in outputs(source):
        moved = sd.reschedule(model, sde)
        for t in times:
            here = sd.level(sde, t)
            exact = -(x - here.alpha * MEAN) / (here.alpha**2 * VAR + here.sigma**2)
            x0 = MEAN + here.alpha * VAR / (here.alpha**2 * VAR + here.sigma**2) * (x - here.alpha * MEAN)
            for time in (t, torch.full((3,), t, dtype=F64)):
                said = moved(x, time)
                torch.testing.assert_close(said.score, exact, rtol=1e-8, atol=1e-8)
                torch.testing.assert_close(said.x0, x0, rtol=1e-8, atol=1e-8)
                torch.testing.assert_close(
                    said.velocity, here.f * x - here.g2 / 2 * exact, rtol=1e-8, atol=1e-8 * max(1, here.g2)
                )
        row = sd.levels(sde, sorted(times, reverse=True))
        ready = BoundModel(moved, row[0].evaluation, x)
        assert ready.sde is sde
        for here in row:
            torch.testing.assert_close(ready(x, here).score, moved(x, here.time).score, rtol=1e-10, atol=1e-10)


def test_rescheduled_runs_follow_the_new_processs_flow():
    source, sde = sd.VP(), sd.VE(sigma_max=20.0)
    model = sd.reschedule(sd.ScoreModel(exact_score(source, MEAN, VAR), source, predicts="score"), sde)
    x = torch.tensor([[20.0, -15.0], [3.0, 8.0]], dtype=F64)
    late, early = (VAR + sde.sigma(torch.tensor(t, dtype=F64)) ** 2 for t in (1.0, 0.2))
    exact = MEAN + (x - MEAN) * torch.sqrt(early / late)
    tight = sd.solver("ode", rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sd.sample(model, x=x, solver=tight, stop=0.2, denoise=False), exact, rtol=1e-6, atol=0)
    fine = sd.sample(model, x=x, solver="dpmpp_2m", steps=200, stop=0.2, denoise=False)
    torch.testing.assert_close(fine, exact, rtol=1e-3, atol=1e-3)


def test_rescheduling_twice_is_rescheduling_once_and_there_and_back_is_nothing(normals):
    source, x = sd.VP(), normals(2, 2)
    model = sd.ScoreModel(exact_score(source, MEAN, VAR), source, predicts="score")
    once, twice = sd.reschedule(model, sd.EDM()), sd.reschedule(sd.reschedule(model, sd.RectifiedFlow()), sd.EDM())
    torch.testing.assert_close(twice(x, 1.5).x0, once(x, 1.5).x0, rtol=1e-12, atol=0)
    back = sd.reschedule(once, source)
    torch.testing.assert_close(back(x, 0.4).x0, model(x, 0.4).x0, rtol=1e-10, atol=0)


def test_beyond_the_lam_that_a_network_knows_its_nearest_end_is_used():
    # VE goes on past VP's noisiest level, and rectified flow as far as alpha = 0.
    read, source = [], sd.VP()
    model = sd.ScoreModel(lambda x, t: read.append(t[0].item()) or 0 * x, source, predicts="v")
    x = torch.ones(1, 2, dtype=F64)
    assert sd.reschedule(model, sd.VE(sigma_max=500.0))(x, 1.0).x0.isfinite().all()
    assert sd.reschedule(model, sd.RectifiedFlow())(x, 1.0).x0.isfinite().all()
    assert read == pytest.approx([1.0, 1.0], rel=1e-12)
