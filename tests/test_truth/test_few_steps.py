"""Few steps of any solver: samples of the right size, or a warning with what to write instead."""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from pathlib import Path

import pytest
import torch

import sdediff as sd
from sdediff.analysis.response import gaussian_model
from sdediff.cli import main
from sdediff.grids.levels import Evaluation
from sdediff.sampling.trial import by_numbers, by_states, growth, trial_stds

PROCESSES = {"VP": sd.VP(), "Cosine": sd.Cosine(), "VE": sd.VE(), "EDM": sd.EDM(), "Flow": sd.RectifiedFlow()}
SOLVERS = [n for n, s in sd.list_solvers().items() if s.alone and not s.adaptive]
RING = {name: sd.target("ring").model(sde) for name, sde in PROCESSES.items()}


def _run(process: str, solver: str, steps: int, **options: str) -> tuple[float, list[str]]:
    """The rms radius of samples of the ring over the truth, and the warnings of steps."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x = sd.sample(RING[process], (128, 2), solver=solver, steps=steps, seed=1, **options)
    radius = x.double().square().sum(1).mean().sqrt().item() / math.sqrt(2)
    return radius, [str(w.message) for w in caught if w.category is sd.StepsWarning]


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", ["edm", "dpm2_ancestral", "euler_maruyama", "heun", "midpoint", "dpmpp_2m", "unipc"])
def test_a_large_output_is_warned_of(solver: str, process: str) -> None:
    radius, said = _run(process, solver, 4)
    assert said or radius < 2.3


@pytest.mark.parametrize(("solver", "denoise"), [("ancestral", False), ("ddim", False), ("ddim", True)])
def test_a_run_that_ends_in_noise_is_compared_with_noise(solver: str, denoise: bool) -> None:
    """One short step at high noise is exact to a per cent, whatever the data's scale."""
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    ratio = growth(sd.solver(solver), table, [500.0, 499.0], denoise, 0.1)
    assert ratio < 1.2 if denoise else ratio == pytest.approx(1, abs=0.15)  # 256 draws: 1 +- 0.044


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("process", PROCESSES)
def test_the_registry(process: str) -> None:
    """The ring has a radius of its own, to which the last evaluation may bring what was far away: see the next test."""
    for solver in SOLVERS:
        for steps in (3, 5, 7, 10):
            if solver == "sde" and steps == 10:
                continue
            radius, said = _run(process, solver, steps)
            assert said or 0.33 < radius < 2.3, (solver, steps)


@pytest.mark.slow
@pytest.mark.parametrize("process", PROCESSES)
def test_no_false_alarm_on_gaussian_data(process: str) -> None:
    """On data of N(0, I) by an independent model, whoever is warned of has the wrong size."""
    sde = PROCESSES[process]
    for solver in SOLVERS:
        for steps in (3, 5, 9):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model = gaussian_model(sde, 0.0, 1.0)
                statistics = sd.statistics(torch.randn(4096, 2, generator=torch.Generator().manual_seed(0)))
                x = sd.sample(dataclasses.replace(model, stats=statistics), (512, 2), solver=solver, steps=steps)
            size, words = x.double().square().mean().sqrt().item(), " ".join(str(w.message) for w in caught)
            assert "not accurate" in words or "not stable" in words or 0.2 < size < 1.7, (solver, steps)
            assert "not accurate" not in words or not 0.25 < size < 1.3, (solver, steps)


def test_the_proposal_has_the_right_size() -> None:
    for process, solver in (("VE", "euler_maruyama"), ("EDM", "dpm2_ancestral"), ("Cosine", "edm"), ("VE", "heun")):
        radius, (said,) = _run(process, solver, 3)
        assert radius > 2
        count = int(re.search(r"write grid='log_snr' and steps=(\d+), or", said)[1])
        radius, said = _run(process, solver, count, grid="log_snr")
        assert not said
        assert abs(radius - 1) < 0.3


def test_the_trial_is_the_law_of_the_run() -> None:
    """One step of Euler's method in sigma from s to e on N(0, 1): x (1 + (e - s) s / (1 + s^2)), then the denoiser."""
    s, e = 80.0, 1.0
    found = growth(sd.solver("euler"), sd.EDM(), [s, e], True, 1.0)
    last = math.sqrt(1 + s * s) * (1 + (e - s) * s / (1 + s * s)) / (1 + e * e)
    assert abs(found / last - 1) < 1e-5


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", ["euler", "ddim", "renoise"])
def test_a_trial_on_numbers_is_the_trial_on_states(name: str, process: str) -> None:
    sde, solver = PROCESSES[process], sd.solver(name)
    times = sd.grid("karras", sde, 6)
    levels = Evaluation(sde).at(times, 0)
    for std, denoise in ((0.5, True), (1.0, False)):
        found = by_numbers(solver, levels, denoise, std)
        assert found == pytest.approx(by_states(solver, sde, times, denoise, std), rel=1e-4)


def test_solvers_that_take_more_than_mixes_are_tried_on_states() -> None:
    levels = Evaluation(sd.VP()).at(sd.grid("karras", sd.VP(), 4), 0)
    for name in ("heun", "dpmpp_2m", "euler_maruyama", "ipndm"):
        assert by_numbers(sd.solver(name), levels, True, 1.0) is None


def test_a_trial_says_nothing_where_it_cannot_run() -> None:
    class Data(sd.solvers.Solver):
        """A solver whose hyper-parameter has the data's shape."""

        def step(self, model, x, t, s, state, noise):
            return x @ torch.eye(2, dtype=x.dtype), state

    assert math.isnan(growth(Data(), sd.VP(), [1.0, 0.5], False, 1.0))


def test_trials_are_of_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr("sdediff.sampling.trial.by_states", lambda *_: tried.append(1) or 1.0)
    for solver, steps, count in (
        ("heun", 10, 0),
        ("heun", 9, 2),
        ("dpmpp_2m", 5, 0),
        ("dpmpp_2m", 4, 2),
        ("dpmpp_2m_sde", 9, 2),
        # Ten calls of a solver whose linear part is exact are not slowed down.
        *((name, 9, 0) for name in ("ddim", "unipc", "deis", "lms", "angle", "dpm_solver_v3", "ipndm")),
        # Steps that are one sum of predictions are tried on numbers.
        ("euler", 9, 0),
        ("renoise", 9, 0),
        ("annealed_langevin", 40, 2),
    ):
        tried.clear()
        sd.sample(RING["VP"], (1, 2), solver=solver, steps=steps)
        assert len(tried) == count, (solver, steps)


def test_the_scale_is_the_models() -> None:
    assert trial_stds(RING["VP"]) == (0.5, 1.0)
    card = {"data": {"shape": [2], "range": [-1.0, 1.0]}}
    assert trial_stds(dataclasses.replace(RING["VP"], card=card)) == (2 / math.sqrt(12),)
    edm = sd.ScoreModel(lambda x, t: 0 * x, sd.EDM(), predicts="edm", sigma_data=0.3)
    assert trial_stds(edm) == (0.3,)


def test_the_command_warns_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["digits-vp", "-n", "1", "--solver", "euler_maruyama", "--steps", "2", "--out", str(tmp_path / "out")]
    assert main(["sample", *given]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert line.startswith("sdediff: warning: EulerMaruyama(eta=1.0) is not accurate in 2 steps as from t=1 to t=0.001")


def test_what_measures_solvers_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", sd.StepsWarning)
        assert sd.analyse("heun", sd.VE(), steps=4).growth > 1.5
