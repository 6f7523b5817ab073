"""Classifier guidance in both forms, projected guidance, CFG++ and autoguidance: golden values and identities."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

import sdediff as sd
from sdediff import guidance
from sdediff.guidance.projected import projected
from sdediff.model.prediction import PARAMETRISATIONS
from tests.guidance.mixtures import F64, LEVEL, PROCESS, at_level, labelled, logits, parts


def test_the_classifier_of_the_mixture() -> None:
    """p(1 | x) and grad log p(1 | x), which is the difference of the scores."""
    x, t = at_level(), sd.level(PROCESS, LEVEL)
    assert torch.softmax(logits(x, t), 1)[0, 1].item() == pytest.approx(0.392886434057, abs=1e-9)
    gradient = guidance.ClassifierGradient(logits, 1)(x, t)
    assert gradient.item() == pytest.approx(1.29668049793 - 0.0885349813596, abs=1e-9)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("predicts", ["v", "eps", "score", "edm", "velocity", "x0"])
def test_power_and_scale_are_one(scale: float, predicts: str) -> None:
    """A classifier that is p(c | x_t) with the power w is classifier-free guidance with the scale w."""
    exact = parts(2).model(PROCESS)
    x, t = torch.linspace(-2, 2, 7, dtype=F64)[:, None], sd.level(PROCESS, LEVEL)
    a, b = PARAMETRISATIONS["edm"](t, 1.0)
    outputs = {"edm": lambda p: (p.x0 - a * x) / b}
    raw = outputs.get(predicts, lambda p: getattr(p, predicts))(exact(x, t))
    plain = sd.ScoreModel(lambda x, t: raw, PROCESS, predicts=predicts)
    by_classifier = guidance.classifier(plain, logits, 1, scale)(x, LEVEL)
    free = guidance.classifier_free(labelled(), scale).given(label=1)(x, LEVEL)
    torch.testing.assert_close(by_classifier.score, free.score, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(by_classifier.x0, free.x0, rtol=1e-9, atol=1e-9)


def test_labels_of_every_sample_and_a_trained_classifier_on_another_process() -> None:
    net = sd.nets.Classifier(3, width=8, multiples=(1,), attention=0).double().eval()
    own = sd.ScoreModel(net, sd.EDM(), time="sigma")
    model = sd.ScoreModel(lambda x, t: torch.zeros_like(x), sd.VP())
    x = torch.linspace(-1, 1, 32, dtype=F64).reshape(2, 1, 4, 4)
    t = sd.level(model.sde, 0.5)
    guided = guidance.classifier(model, own, torch.tensor([2, 0]), 1.5)
    given = (x / t.alpha).requires_grad_()
    logs = torch.log_softmax(guidance.classify(own, given, sd.level(own.sde, t.sigma / t.alpha)), 1)
    (gradient,) = torch.autograd.grad(logs[0, 2] + logs[1, 0], given)
    torch.testing.assert_close(guided(x, t).eps, -t.sigma * 1.5 * gradient / t.alpha, rtol=1e-6, atol=1e-9)


def test_the_mean_shift_is_a_known_share_of_the_score_form() -> None:
    """Their ratio is (alpha_s/alpha_t) (sigma_t/sigma_s)^2, 1.37837837838 from alpha .8 to .85."""
    times = [LEVEL, PROCESS.t_of_lam([math.log(0.85 / math.sqrt(1 - 0.85**2))]).item()]
    model, x = parts(2).model(PROCESS), at_level()
    gradient = guidance.ClassifierGradient(logits, 1)
    moved = sd.solvers.MeanShift(sd.solver("ancestral"), gradient, 0.7)
    ends = {}
    for name, one, solver in (
        ("plain", model, "ancestral"),
        ("score", guidance.classifier(model, logits, 1, 0.7), "ancestral"),
        ("mean", model, moved),
        ("at mean", model, replace(moved, at="mean")),
    ):
        ends[name] = sd.sample(one, x=x, solver=solver, grid=times, denoise=False).item()
    ratio = (ends["score"] - ends["plain"]) / (ends["mean"] - ends["plain"])
    assert ratio == pytest.approx(1.37837837838, abs=1e-9)
    assert ends["at mean"] != ends["mean"]
    with pytest.raises(sd.SolverError, match="moves the mean of an ancestral step"):
        sd.solvers.MeanShift(sd.solver("ddim"), gradient)


@pytest.mark.parametrize(
    ("radius", "parallel", "x0"),
    [(None, 0.0, (0.24615385, 1.36923077)), (0.3, 0.0, (0.36939723, 0.75301384)), (None, 1.0, (1.4, 1.6))],
)
def test_projected_guidance(radius: float | None, parallel: float, x0: tuple[float, float]) -> None:
    """D = (.2, -.4), Dc = (.5, .1), w = 4; parallel = 1 is classifier-free guidance."""
    other, towards = torch.tensor([[0.2, -0.4]], dtype=F64), torch.tensor([[0.5, 0.1]], dtype=F64)
    found = projected(towards, towards - other, 4.0, radius, parallel)
    torch.testing.assert_close(found, torch.tensor([x0], dtype=F64), rtol=0, atol=1e-8)


def test_momentum_is_carried_within_a_run_alone() -> None:
    """difference_i = D_cond - D + momentum difference_(i-1), of DDIM's predictions one after another."""
    model = guidance.adaptive_projected(labelled(), 3.0, momentum=-0.5, parallel=1.0).given(label=1)
    plain, x = labelled(), torch.tensor([[0.3], [1.2]], dtype=F64)
    sampler = sd.Sampler(model, solver="ddim", steps=4)
    run = sampler(x=x, full=True)
    average = torch.zeros_like(x)
    for i, t in enumerate(run.times[:-1].tolist()):
        state, s = run.trajectory[i], sd.level(PROCESS, run.times[i + 1].item())
        given, other = (plain.given(label=k)(state, t).x0 for k in (1, 2))
        average = given - other - 0.5 * average
        x0, at = given + 2 * average, sd.level(PROCESS, t)
        step = s.sigma / at.sigma * state + (s.alpha - at.alpha * s.sigma / at.sigma) * x0
        torch.testing.assert_close(run.trajectory[i + 1], step, rtol=1e-9, atol=1e-9)
    assert torch.equal(sampler(x=x), run.x)
    with pytest.raises(sd.SolverError, match="momentum runs on from evaluation to evaluation"):
        sd.sample(model, x=x, solver="rk_adaptive")
    state = next(iter(sd.iterate(model, x=x, solver="ddim", steps=4)))
    with pytest.raises(sd.ModelError, match="carries momentum"):
        list(sd.iterate(model, solver="ddim", resume=state))
    still = guidance.adaptive_projected(labelled(), 3.0, momentum=0).given(label=1)
    assert sd.sample(still, x=x, solver="rk_adaptive").isfinite().all()


def _renoised(model: sd.ScoreModel) -> float:
    times = [LEVEL, PROCESS.t_of_lam([math.log(0.85 / math.sqrt(1 - 0.85**2))]).item()]
    return sd.sample(model.given(label=1), x=at_level(), solver="renoise", grid=times, denoise=False).item()


def test_cfg_plus_plus() -> None:
    assert _renoised(guidance.cfg_plus_plus(labelled(), 0.6)) == pytest.approx(1.02690080916, abs=1e-9)
    assert _renoised(guidance.classifier_free(labelled(), 3)) == pytest.approx(0.990404137267, abs=1e-9)
    # It is classifier-free guidance at a scale that depends on the step.
    sigma_s = math.sqrt(1 - 0.85**2)
    scale = 0.85 * 0.6 / (0.85 - 0.8 * sigma_s / 0.6)
    assert _renoised(guidance.classifier_free(labelled(), scale)) == pytest.approx(1.02690080916, abs=1e-9)


def test_cfg_plus_plus_is_refused_by_what_cannot_step_with_two_predictions() -> None:
    model = guidance.cfg_plus_plus(labelled(), 0.6).given(label=1)
    with pytest.raises(sd.SolverError, match="only solver='renoise' puts together"):
        sd.sample(model, (2, 1), solver="dpmpp_2m", steps=3)
    prediction = model(at_level(), LEVEL)
    for use in (lambda p: p.score, lambda p: p.mix(1.0, x0=0.5), lambda p: p.factored("x0"), lambda p: p.scaled(x0=1)):
        with pytest.raises(sd.ModelError, match="belong to different data"):
            use(prediction)
    with pytest.raises(sd.ModelError, match=r"lies in \[0, 1\]"):
        guidance.cfg_plus_plus(labelled(), 3)


@pytest.mark.parametrize("sde", [PROCESS, sd.VE(), sd.RectifiedFlow()], ids=lambda p: type(p).__name__)
def test_autoguidance_is_the_line_through_two_models(sde: Any) -> None:
    worse = sd.target("target_m").model(sde)
    better = sd.targets.gaussian([0.2, 0.1], std=0.9).model(PROCESS)
    model, x = guidance.autoguidance(better, worse, 2.5), torch.tensor([[0.4, -0.3], [1.0, 0.2]], dtype=F64)
    beside = sd.reschedule(worse, PROCESS)
    for t in (0.3, torch.tensor([0.2, 0.7], dtype=F64)):
        expected = beside(x, t).x0 + 2.5 * (better(x, t).x0 - beside(x, t).x0)
        torch.testing.assert_close(model(x, t).x0, expected, rtol=1e-9, atol=1e-9)
    assert sd.sample(model, x=x, solver="ddim", steps=4, full=True).calls == 10
    inside = guidance.autoguidance(better, worse, 2.5, interval=(1e-5, 1e-4))
    assert torch.equal(sd.sample(inside, x=x, steps=4), sd.sample(better, x=x, steps=4))


def test_a_worse_model_in_training_mode_is_refused() -> None:
    worse = sd.ScoreModel(torch.nn.Sequential(torch.nn.Dropout()), PROCESS)
    model = guidance.autoguidance(parts(2).model(PROCESS), worse, 2.0)
    with pytest.raises(sd.Error, match="eval"):
        sd.sample(model, (2, 1), steps=2)
