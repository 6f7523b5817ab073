"""Guidance: clipping and thresholding of x0, and that a changed model is a model like any other."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.guidance.changes import map_prediction, of_x0
from sdediff.hub import HubError
from sdediff.model.prediction import PARAMETRISATIONS
from sdediff.testing.gaussian import gaussian_model

F64 = torch.float64
PROCESSES = (sd.VP(), sd.VE(), sd.RectifiedFlow(), sd.SubVP())


def _loud(sde: sd.LinearSDE, predicts: str = "eps") -> sd.ScoreModel:
    """A network whose x0 runs far out of [-1, 1]."""
    return sd.ScoreModel(lambda x, t: torch.sin(3 * x) + t[:, None], sde, predicts=predicts)


@pytest.mark.parametrize("predicts", PARAMETRISATIONS)
@pytest.mark.parametrize("sde", PROCESSES, ids=lambda p: type(p).__name__)
def test_clip_clips_x0_and_everything_follows(sde: sd.LinearSDE, predicts: str, normals: Any) -> None:
    """eps = (x - alpha x0)/sigma after clipping: improved_diffusion's _predict_eps_from_xstart."""
    model, x = _loud(sde, predicts), 4 * normals(6, 5)
    for t in (0.2, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.8, 0.9], dtype=F64)):
        plain, clipped = model(x, t), sd.guidance.clip(model, -0.5, 0.8)(x, t)
        x0 = plain.x0.clamp(-0.5, 0.8)
        assert bool((x0 != plain.x0).any())
        assert torch.equal(clipped.x0, x0)
        here = sd.level(sde, t)
        alpha, sigma = (torch.as_tensor(v, dtype=F64).reshape(-1, 1) for v in (here.alpha, here.sigma))
        alpha_dot, sigma_dot = (torch.as_tensor(v, dtype=F64).reshape(-1, 1) for v in (here.alpha_dot, here.sigma_dot))
        eps = (x - alpha * x0) / sigma
        for name, expected in {
            "eps": eps,
            "score": -eps / sigma,
            "v": alpha * eps - sigma * x0,
            "velocity": alpha_dot * x0 + sigma_dot * eps,
        }.items():
            torch.testing.assert_close(getattr(clipped, name), expected, rtol=1e-9, atol=1e-9)


def test_clip_leaves_what_lies_inside_alone() -> None:
    model = gaussian_model(sd.VP())
    x = 0.1 * torch.ones(3, 2, dtype=F64)
    wide = sd.guidance.clip(model, -9, 9)
    assert torch.allclose(wide(x, 0.4).eps, model(x, 0.4).eps, rtol=1e-12)
    a, b = (sd.sample(m, (4, 3), solver="dpmpp_2m", steps=9, dtype=F64) for m in (model, wide))
    assert torch.allclose(a, b, rtol=1e-11)


def test_ddim_after_clipping_is_the_released_one(normals: Any) -> None:
    """Song et al. 2020, eq. 12 with x0 clipped and eps re-derived (use_clipped_model_output)."""
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64))
    bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=F64), 0)
    net = lambda x, t: 0.5 * torch.cos(x)  # noqa: E731
    model = sd.guidance.clip(sd.ScoreModel(net, table, time="index"))
    x = 2 * normals(3, 4)
    run = sd.sample(model, x=x, solver="ddim", grid=[601.0, 401.0], full=True)
    x0 = ((x - (1 - bars[600]).sqrt() * net(x, 0)) / bars[600].sqrt()).clamp(-1, 1)
    eps = (x - bars[600].sqrt() * x0) / (1 - bars[600]).sqrt()
    expected = bars[400].sqrt() * x0 + (1 - bars[400]).sqrt() * eps
    torch.testing.assert_close(run.trajectory[1], expected, rtol=1e-10, atol=1e-12)
    assert run.x.abs().max() <= 1


@pytest.mark.parametrize("limit", [1.0, 2.5])
@pytest.mark.parametrize("quantile", [0.3, 0.9, 0.995, 1.0])
@pytest.mark.parametrize("shape", [(5, 40), (4, 3, 6, 6), (3, 1)])
def test_threshold_is_saharias(quantile: float, limit: float, shape: tuple[int, ...], normals: Any) -> None:
    """Saharia et al. 2022: s = max(1, quantile of |x0|), x0 = clip(x0, -s, s) / s; here for data in +-limit."""
    model = sd.ScoreModel(lambda x, t: x, sd.VP(), predicts="x0")
    x = 3 * normals(*shape) * torch.linspace(0.02, 1, shape[0], dtype=F64).reshape(-1, *[1] * (len(shape) - 1))
    found = sd.guidance.threshold(model, quantile, limit)(x, 0.5).x0.numpy()
    for row, given in zip(found, x.numpy(), strict=True):
        s = max(limit, np.quantile(np.abs(given), quantile))
        np.testing.assert_allclose(row, np.clip(given, -s, s) * limit / s, rtol=1e-12)
    assert np.abs(found).max() <= limit * (1 + 1e-12)
    assert np.allclose(found[0], x[0].numpy()), "a sample within the limit is left alone"


def test_threshold_keeps_half_precision() -> None:
    model = sd.ScoreModel(lambda x, t: x, sd.VP(), predicts="x0")
    x = torch.linspace(-4, 4, 101).to(torch.bfloat16).reshape(1, -1)
    found = sd.guidance.threshold(model)(x, 0.5).x0
    assert found.dtype == torch.bfloat16
    assert found.abs().max() == 1


def _guided() -> list[sd.ScoreModel]:
    loud = _loud(sd.VP())
    return [
        sd.guidance.clip(loud),
        sd.guidance.threshold(loud, 0.8),
        sd.guidance.threshold(sd.guidance.clip(loud, -3, 3), 0.8),
    ]


@pytest.mark.parametrize("model", _guided(), ids=["clip", "threshold", "both"])
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "heun", "ancestral", "predictor_corrector"])
def test_sample_does_not_depend_on_its_batch(model: sd.ScoreModel, name: str) -> None:
    together = sd.sample(model, (9, 7), solver=name, steps=6, dtype=F64)
    alone = sd.sample(model, (2, 7), solver=name, steps=6, dtype=F64, index=[5, 1])
    assert torch.equal(together[[5, 1]], alone)
    assert together.isfinite().all()
    assert together.abs().max() <= 1  # the last jump is to the changed x0


def test_conditions_counting_and_clocks_reach_the_network() -> None:
    seen: list[tuple[float, float]] = []

    def net(x: torch.Tensor, clock: torch.Tensor, shift: float = 0.0) -> torch.Tensor:
        seen.append((clock[0].item(), shift))
        return torch.zeros_like(x) + shift

    model = sd.guidance.clip(sd.ScoreModel(net, sd.VP(), predicts="x0"))
    run = sd.sample(model, (2, 3), solver="ddim", steps=4, cond={"shift": 5.0}, full=True)
    assert run.calls == 5 == len(seen)
    assert [t for t, _ in seen] == pytest.approx(run.times.tolist(), abs=1e-6)
    assert {shift for _, shift in seen} == {5.0}
    assert torch.equal(run.x, torch.ones(2, 3))
    assert torch.equal(model.given(shift=-7.0)(torch.ones(2, 3), 0.5).x0, -torch.ones(2, 3))


def test_counted_networks_are_counted_once_a_call() -> None:
    calls = []

    def wrap(net: Any) -> Any:
        def counted(*args: Any) -> Any:
            calls.append(1)
            return net(*args)

        return counted

    model = sd.guidance.threshold(sd.guidance.clip(_loud(sd.VP()))).map_net(wrap)
    model(torch.ones(2, 3), 0.5)
    assert len(calls) == 1


def test_a_guided_model_moves_on_another_process() -> None:
    moved = sd.reschedule(sd.guidance.clip(gaussian_model(sd.VP()), 0.4, 0.6), sd.VE(sigma_max=10.0))
    x = sd.sample(moved, (64, 3), solver="dpmpp_2m", steps=10, dtype=F64)
    assert x.min() >= 0.4
    assert x.max() <= 0.6


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler (g++)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_guided_model_compiles() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.SiLU(), torch.nn.Linear(8, 4)).eval()
    model = sd.guidance.clip(sd.ScoreModel(_Unclocked(net), sd.VP()))
    eager = sd.sample(model, (8, 4), solver="ddim", steps=3)
    assert torch.allclose(sd.sample(model, (8, 4), solver="ddim", steps=3, compile=True), eager, atol=1e-5)


class _Unclocked(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


def test_likelihood_of_a_guided_model_is_that_of_its_flow() -> None:
    """Where clipping never bites, the density is the model's; the flow goes through the changed prediction."""
    model = gaussian_model(sd.VP())
    x = torch.tensor([[0.5, 0.4], [0.7, 0.3]], dtype=F64)
    options: dict[str, Any] = {"trace": "exact", "rtol": 1e-6, "atol": 1e-6}
    plain, wide = (sd.log_likelihood(m, x, **options).log_prob for m in (model, sd.guidance.clip(model, -50, 50)))
    assert torch.allclose(plain, wide, atol=1e-6)
    tight = sd.log_likelihood(sd.guidance.clip(model, 0.45, 0.55), x, **options).log_prob
    assert (tight - plain).abs().max() > 0.1


def test_from_alpha_zero_with_a_v_network() -> None:
    model = sd.guidance.clip(_loud(sd.RectifiedFlow(), "v"))
    run = sd.sample(model, (3, 4), solver="ddim", steps=5, grid="uniform", dtype=F64, full=True)
    assert run.times[0] == 1
    assert run.trajectory.isfinite().all()


def test_what_a_network_returns_beside_its_output_is_kept() -> None:
    model = sd.ScoreModel(lambda x, t: (x, 7 * x), sd.VP(), predicts="x0")
    x = torch.full((2, 3), 2.0)
    found = sd.guidance.clip(model)(x, 0.5)
    assert torch.equal(found.extra[0], 7 * x)


def test_any_change_is_a_function_that_may_ask_the_model_again(normals: Any) -> None:
    """Classifier-free guidance in four lines: (1 - w) D(x) + w D(x | c)."""

    @dataclass(frozen=True)
    class Free:
        scale: float

        def __call__(self, prediction: sd.Prediction, model: sd.ScoreModel) -> sd.Prediction:
            free = model.given(label=0.0)(prediction.x, prediction.level)
            return of_x0(prediction, (1 - self.scale) * free.x0 + self.scale * prediction.x0)

    net = lambda x, t, label: 0.2 * x + label  # noqa: E731
    plain = sd.ScoreModel(net, sd.VP(), predicts="x0")
    model = map_prediction(plain, Free(3.0)).given(label=0.5)
    assert "Free(scale=3.0)" in repr(model)
    x = normals(2, 3)
    assert torch.allclose(model(x, 0.3).x0, 0.2 * x + 1.5)
    assert sd.sample(model, (2, 3), solver="ddim", steps=4, full=True).calls == 10
    assert torch.equal(sd.guidance.clip(model)(x, 0.3).x0, (0.2 * x + 1.5).clamp(-1, 1))


def test_errors_say_what_to_write() -> None:
    class Plain(sd.SDE):
        def drift(self, x: torch.Tensor, t: Any) -> torch.Tensor:
            return -x

        def diffusion(self, t: Any) -> torch.Tensor:
            return torch.ones(())

    general = sd.ScoreModel(lambda x, t: x, Plain(), predicts="score")
    for make in (sd.guidance.clip, sd.guidance.threshold):
        with pytest.raises(sd.ModelError, match="needs a prediction of x0, which Plain without alpha and sigma"):
            make(general)
    model = _loud(sd.VP())
    with pytest.raises(sd.ModelError, match="needed is low < high"):
        sd.guidance.clip(model, 1, -1)
    for bad in ({"quantile": 0}, {"quantile": 1.1}, {"limit": 0}):
        with pytest.raises(sd.ModelError, match="needed are 0 < quantile <= 1, limit > 0"):
            sd.guidance.threshold(model, **bad)
    with pytest.raises(sd.ModelError, match="gave Tensor, needed: a Prediction"):
        map_prediction(model, lambda p, m: p.x0)(torch.ones(2, 3), 0.5)


def test_a_guided_model_is_not_saved_without_its_guidance(tmp_path) -> None:
    with pytest.raises(HubError, match="save it before"):
        sd.save(sd.guidance.clip(sd.load("digits-vp")), tmp_path / "guided")
    assert not (tmp_path / "guided").exists()


def test_the_states_of_a_run_hold_changed_predictions(normals: Any) -> None:
    model = sd.guidance.clip(_loud(sd.VP()))
    found = [state.prediction for state in sd.iterate(model, x=normals(4, 3), steps=4)]
    assert all(prediction.x0.abs().max() <= 1 for prediction in found)
